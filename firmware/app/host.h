/* Between the files of the host functions. */
#ifndef APP_HOST_H
#define APP_HOST_H

#include "app.h"

struct call {
    struct instance *instance;
    uint32_t *cells;
    bool wide;    /* the result is in the cells already */
    bool outside; /* a pointer was: the guest's call ends */
};

struct host_entry {
    int32_t (*call)(struct call *call);
    uint16_t rate_per_s; /* 0: no limit but the time of the call */
};

/* Bytes of the guest's memory; null and a trap to come when not all of them exist. */
static inline uint8_t *guest(struct call *call, uint32_t pointer, uint32_t length) {
    uint8_t *data = wbi_guest(&call->instance->wbi, pointer, length);
    call->outside = call->outside || data == NULL;
    return data;
}

/* Arguments of a request as CBOR items. */
struct args {
    uint8_t bytes[80];
    struct wb_cbor_out out;
    uint32_t count;
};
void args_begin(struct args *args);
/* A request whose outcome comes later: its token, or why there is none. */
int32_t ask(struct call *call, enum note_op op, const struct args *args, const uint8_t *data, uint32_t length);

int32_t px4_acquire(struct call *call);
int32_t px4_release(struct call *call);
int32_t px4_subscribe(struct call *call);
int32_t px4_read(struct call *call);
int32_t px4_command(struct call *call);
int32_t px4_setpoint(struct call *call);
int32_t px4_offboard(struct call *call);
int32_t px4_param_get(struct call *call);
int32_t px4_param_set(struct call *call);
int32_t px4_mission(struct call *call);
int32_t ros2_open(struct call *call);
int32_t ros2_close(struct call *call);
int32_t ros2_publish(struct call *call);
int32_t ros2_call(struct call *call);
int32_t ros2_respond(struct call *call);
int32_t ros2_feedback(struct call *call);
int32_t ros2_cancel(struct call *call);
int32_t secure_seal(struct call *call);
int32_t secure_unseal(struct call *call);
int32_t secure_send(struct call *call);

#endif
