/* The application part of the firmware: modules in flash, instances that run them, what they may call, and what goes to
 * the gateway. Everything runs in the main loop. */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "config.h"
#include "wb_link.h"
#include "wbi.h"

extern struct wb_link app_link;
extern const struct wb_app app_service;
uint32_t app_now_ms(void);
/* What the gateway serves now (WB_GRANT_*); 0 without a link. */
extern uint32_t app_available;
/* The gateway asked for a restart. */
extern bool app_reset_wanted;

/* ---- modules.c: three places in flash --------------------------------------------------------------------------- */
enum wb_rc modules_begin(void *context, const uint8_t *digest, const uint8_t *content, uint32_t bytes, uint32_t *offset,
                         struct wb_why *why);
enum wb_rc modules_write(void *context, uint32_t offset, const uint8_t *data, uint32_t length, struct wb_why *why);
enum wb_rc modules_end(void *context, struct wb_why *why);
uint32_t modules_count(void *context);
bool modules_row(void *context, uint32_t index, struct wb_module_row *row);
enum wb_rc modules_remove(void *context, const uint8_t *digest);
/* The translated object of a module that is whole; null when there is none. */
const uint8_t *modules_object(const uint8_t *digest);

/* ---- instance.c --------------------------------------------------------------------------------------------------- */
enum phase {
    PHASE_NONE,  /* nothing runs: no record, or it waits for its next start */
    PHASE_START, /* the module's start function */
    PHASE_INIT,
    PHASE_READY, /* between calls */
    PHASE_EVENT,
    PHASE_SAVE,
    PHASE_STOP
};

struct timer {
    uint32_t due_ms, period_ms;
};

struct sensor_subscription {
    uint32_t interval_ms, last_ms;
};

#define HOST_RATES 37u

struct instance {
    struct wbi_instance wbi;
    uint32_t init, event, stop, save; /* functions, or WBI_NO_FUNCTION */
    uint32_t restarts, cpu_us, cpu_ms, call_us, dropped, dropped_all;
    uint32_t due_ms;       /* of the next start while PHASE_NONE, of the next call while PHASE_READY */
    uint32_t started_ms, failed_ms;
    const char *why;       /* of the last failure; null: none */
    char why_name[28];
    uint8_t state, reason; /* as wb_instance_row has them */
    uint8_t phase;
    uint8_t failures;      /* in a row */
    bool wanted;           /* there is a start record */
    bool restart;          /* the record changed: save, stop, start */
    bool halt;             /* the record is gone: stop */
    bool changed;          /* the gateway has not been told of the state */
    bool handed_over;      /* the state in the store is for this start */
    bool on_trial;         /* trial.c: an update, with a version before it to go back to */
    bool trying;           /* and it was started */
    bool trial_state;      /* the state in the store is of the version before */
    bool rolled_back;      /* the gateway has not been told of it */
    uint32_t trial_ms;     /* when it was started */

    uint16_t timers_set;
    struct timer timers[APP_TIMERS];
    struct sensor_subscription sensors[APP_SENSORS];
    uint8_t sensors_on, sensors_fresh; /* bits */
    uint16_t telemetry_on, telemetry_fresh;
    uint32_t telemetry_interval[APP_TELEMETRY], telemetry_last[APP_TELEMETRY];
    uint16_t topics[APP_TOPICS];
    uint8_t topic_count;
    bool owner;            /* of the autopilot */
    uint8_t link_event;    /* 0 none, 1 lost, 2 up */
    uint8_t owner_event;   /* reason, 0 none */
    bool turn;             /* queue or timers first */
    uint8_t tokens_failed; /* bits of tokens that the lost link ended */
    uint32_t tokens[APP_TOKENS], next_token;
    uint32_t rate_ms;
    uint16_t rates[HOST_RATES];

    /* The event in hand. */
    uint8_t hand_type, hand_queued;
    uint16_t hand_bytes;
    uint32_t hand_source;
    const uint8_t *hand;
    uint8_t hand_copy[APP_TELEMETRY_BYTES];

    uint16_t queue_used;
    uint8_t queue_count;
    uint8_t queue[APP_QUEUE_BYTES] __attribute__((aligned(4)));
};

extern struct instance app_instances[APP_INSTANCES];

/* Starts what was running before the reset. */
void instances_boot(void);
/* Lets every instance run a slice; true when one of them has more to do now. */
bool instances_step(void);
/* When the next thing is due without input, in ms from now. */
uint32_t instances_due_ms(void);
/* Ends the call under way, if there is one, and lends `bytes` of the instance's stack until the next step. */
void *instances_borrow(uint32_t *bytes);
/* The link came or went. */
void instances_link(bool up);
/* The start record of an instance; false when it has none. */
bool instance_record(const struct instance *instance, struct wb_start *start);
struct instance *instance_named(struct wb_text name);
bool instances_use(const uint8_t *digest);
uint32_t instances_changes(void);

enum wb_rc instances_start(void *context, const struct wb_start *start, struct wb_why *why);
enum wb_rc instances_stop(void *context, struct wb_text name);
uint32_t instances_count(void *context);
bool instances_row(void *context, uint32_t index, struct wb_instance_row *row);

/* ---- image.c: the firmware itself ------------------------------------------------------------------------------------- */
bool image_state(void *context, uint32_t slot, struct wb_image *image);
enum wb_rc image_set(void *context, const uint8_t *hash, bool confirm);
enum wb_rc image_begin(void *context, uint32_t bytes, const uint8_t *hash, uint32_t *offset);
enum wb_rc image_erase(void *context, uint32_t slot);

/* ---- trial.c: updates that have to prove themselves ------------------------------------------------------------------ */
/* After a reset: goes on with what a power cut interrupted. */
void trial_boot(struct instance *instance);
/* Before the record of a start changes, and after it. */
void trial_prepare(struct instance *instance, bool update);
void trial_order(struct instance *instance);
/* The instance starts; ends the trial when its minute is over; the instance was stopped for good. */
void trial_started(struct instance *instance);
void trial_check(struct instance *instance);
void trial_drop(struct instance *instance);
/* The instance failed for this reason and its why_name; true when the version before is to run again. */
bool trial_failed(struct instance *instance, const char *why);
/* What an update on trial goes back to; false without one. */
bool trial_before(const struct instance *instance, struct wb_start *before);
/* Key of the start request that was taken back, and why; null without one. */
const uint8_t *trial_rolled_back(const struct instance *instance, const char **why);

/* ---- events.c ----------------------------------------------------------------------------------------------------- */
void events_clear(struct instance *instance);
/* Queues an event; false when there is no room even after the oldest ROS2 event went. */
bool events_push(struct instance *instance, uint32_t type, uint32_t source, const uint8_t *data, uint32_t length);
/* Takes the next event in hand; false when there is none. */
bool events_take(struct instance *instance, uint32_t now_ms);
/* The event in hand is done. */
void events_done(struct instance *instance);
/* Milliseconds until a timer is due, or `most`. */
uint32_t events_due_ms(const struct instance *instance, uint32_t now_ms, uint32_t most);
enum wb_rc events_deliver(void *context, struct wb_text name, uint32_t type, uint32_t source, const uint8_t *data,
                          uint32_t length);
/* A token for a request whose outcome comes later; 0 when too many are unanswered. */
uint32_t tokens_new(struct instance *instance);
void tokens_end(struct instance *instance, uint32_t token);
/* Fails all tokens and takes the ownership away: the link is lost. */
void tokens_fail(struct instance *instance);

/* ---- notes.c: to the gateway -------------------------------------------------------------------------------------- */
enum note_op {
    OP_ACQUIRE, OP_RELEASE, OP_PX4_SUBSCRIBE, OP_PX4_WATCH, OP_COMMAND, OP_SETPOINT, OP_OFFBOARD, OP_PARAM_GET,
    OP_PARAM_SET, OP_MISSION, OP_OPEN, OP_CLOSE, OP_PUBLISH, OP_CALL, OP_RESPOND, OP_FEEDBACK, OP_CANCEL, OP_SECURE_SEND,
    OP_SEQUENCE, OP_COUNT
};
/* Queues a request; args are encoded CBOR items. 0, ABI_AGAIN when there is no room, ABI_TOOBIG when it can never fit,
 * ABI_UNAVAILABLE when the gateway does not serve the module. */
int32_t notes_request(struct instance *instance, enum note_op op, uint32_t token, const uint8_t *args, uint32_t args_bytes,
                      uint32_t arg_count, const uint8_t *data, uint32_t length);
/* After a request whose data was null: where `length` bytes of data lie, to be written now; notes_trim keeps the first
 * ones, none with 0: the request is taken back. */
uint8_t *notes_data(void);
void notes_trim(uint32_t length);
/* Queues a line for the journal, or counts it. */
void notes_log(struct instance *instance, uint32_t level, const uint8_t *text, uint32_t length);
void notes_link_lost(void);
void notes_accepted(void *context, uint32_t number);
enum wb_note notes_next(void *context, struct wb_cbor_out *out);
/* Forgets what an instance that ended still had to say to host modules. */
void notes_drop(const struct instance *instance);
bool notes_waiting(void);

/* ---- host*.c: what a guest may call ------------------------------------------------------------------------------- */
extern const struct wbi_host_function host_functions[];
extern const uint32_t host_function_count;
/* The grant that an import module needs; 0 for a module that does not exist. */
uint32_t host_grant(const uint8_t *module, uint32_t length);
struct instance *host_instance(struct wbi_instance *wbi);

struct telemetry {
    uint8_t kind, bytes; /* kind 0: free */
    uint8_t record[APP_TELEMETRY_BYTES] __attribute__((aligned(8)));
};
extern struct telemetry app_telemetry[APP_TELEMETRY];
/* Keeps the newest record of a kind. */
bool telemetry_put(uint32_t kind, const uint8_t *data, uint32_t length);
/* Drops the records, not who reads which kinds. */
void telemetry_forget(void);

/* ---- host_secure.c -------------------------------------------------------------------------------------------------- */
enum wb_rc secure_secret(void *context, struct wb_text application, const uint8_t *key, uint64_t sequence);
/* Opens a message from the cloud where it lies; false when it is not authentic or not newer than the last one. */
bool secure_open(struct instance *instance, uint8_t *data, uint32_t length, uint32_t *at, uint32_t *bytes, uint64_t *number);
/* The message of this number was taken: it and those before are refused from now on. */
void secure_taken(struct instance *instance, uint64_t number);

/* ---- sensors.c ------------------------------------------------------------------------------------------------------ */
/* A sample as `sensor.read` gives it: header and values; 0 when none came yet. */
uint32_t sensors_sample(uint32_t index, uint8_t sample[APP_TELEMETRY_BYTES]);
enum wb_rc sensors_put(void *context, uint32_t sensor, uint64_t time_us, const uint8_t *data, uint32_t length);
/* Unix time in nanoseconds as far as it is known, else time since the start. */
int64_t app_realtime_ns(void);

#endif
