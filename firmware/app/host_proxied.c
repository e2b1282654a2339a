/* wasmbed:px4 and wasmbed:ros2 on a device: checked here, carried out by the gateway. */
#include <stddef.h>
#include <string.h>

#include "host.h"

struct telemetry app_telemetry[APP_TELEMETRY];

/* ---- arguments of a request as CBOR items ------------------------------------------------------------------------------- */

void args_begin(struct args *args) {
    args->out = (struct wb_cbor_out){args->bytes, args->bytes + sizeof args->bytes, false};
    args->count = 0;
}
static void arg_int(struct args *args, int64_t value) {
    wb_put_int(&args->out, value);
    args->count++;
}
static void arg_text(struct args *args, const uint8_t *text, uint32_t length) {
    wb_put_text_bytes(&args->out, text, length);
    args->count++;
}

static int32_t send(struct call *call, enum note_op op, uint32_t token, const struct args *args, const uint8_t *data,
                    uint32_t length) {
    return notes_request(call->instance, op, token, args->bytes, (uint32_t)(args->out.at - args->bytes), args->count, data,
                         length);
}

int32_t ask(struct call *call, enum note_op op, const struct args *args, const uint8_t *data, uint32_t length) {
    const uint32_t token = tokens_new(call->instance);
    if (token == 0) {
        return ABI_AGAIN;
    }
    const int32_t refused = send(call, op, token, args, data, length);
    if (refused != 0) {
        tokens_end(call->instance, token);
        return refused;
    }
    return (int32_t)token;
}

/* Texts that a journal and a CBOR text can carry. */
static bool is_name(const uint8_t *text, uint32_t length, uint32_t most) {
    if (length == 0 || length > most) {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return false;
        }
    }
    return true;
}

/* ---- wasmbed:px4 --------------------------------------------------------------------------------------------------------------- */

static uint32_t rights_of(const struct call *call) {
    struct wb_start start;
    return instance_record(call->instance, &start) ? start.rights : 0;
}

static bool vehicle_is_there(void) { return (app_available & WB_GRANT_PX4) != 0; }

/* What acts on the vehicle needs the vehicle, ownership and a right. */
static int32_t may(const struct call *call, uint32_t right) {
    if (!vehicle_is_there()) {
        return ABI_UNAVAILABLE;
    }
    return call->instance->owner && (rights_of(call) & right) != 0 ? 0 : ABI_DENIED;
}

int32_t px4_acquire(struct call *call) {
    struct args none;
    args_begin(&none);
    if (!vehicle_is_there()) {
        return ABI_UNAVAILABLE;
    }
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        if (app_instances[i].owner && &app_instances[i] != call->instance) {
            return ABI_BUSY;
        }
    }
    if (call->instance->owner) {
        return 0;
    }
    const int32_t refused = send(call, OP_ACQUIRE, 0, &none, NULL, 0);
    call->instance->owner = refused == 0;
    return refused;
}

int32_t px4_release(struct call *call) {
    static const char reason[] = "released";
    struct args args;
    if (!call->instance->owner) {
        return 0;
    }
    args_begin(&args);
    arg_text(&args, (const uint8_t *)reason, sizeof reason - 1);
    const int32_t refused = send(call, OP_RELEASE, 0, &args, NULL, 0);
    call->instance->owner = refused == ABI_AGAIN; /* without room it is asked again */
    return refused == ABI_AGAIN ? refused : 0;
}

static uint32_t find(uint32_t kind) {
    for (uint32_t i = 0; i < APP_TELEMETRY; i++) {
        if (app_telemetry[i].kind == kind) {
            return i;
        }
    }
    return APP_TELEMETRY;
}

/* The place of a kind, a new one if need be; APP_TELEMETRY when all are taken. */
static uint32_t place_of(struct call *call, uint32_t kind, int32_t *refused) {
    uint32_t index = find(kind);
    struct args args;
    *refused = 0;
    if (index != APP_TELEMETRY) {
        return index;
    }
    index = find(0);
    if (index == APP_TELEMETRY) {
        *refused = ABI_UNAVAILABLE;
        return index;
    }
    args_begin(&args);
    arg_int(&args, (int64_t)kind);
    *refused = send(call, OP_PX4_WATCH, 0, &args, NULL, 0);
    if (*refused == 0) {
        app_telemetry[index].kind = (uint8_t)kind;
        app_telemetry[index].bytes = 0;
        return index;
    }
    return APP_TELEMETRY;
}

void telemetry_forget(void) {
    for (uint32_t i = 0; i < APP_TELEMETRY; i++) {
        app_telemetry[i].bytes = 0;
    }
}

bool telemetry_put(uint32_t kind, const uint8_t *data, uint32_t length) {
    if (kind == 0 || kind > ABI_TELEMETRY_KINDS || length == 0 || length > APP_TELEMETRY_BYTES) {
        return false;
    }
    const uint32_t index = find(kind);
    if (index == APP_TELEMETRY) {
        return true; /* nobody asked, or the place went with the link */
    }
    app_telemetry[index].bytes = (uint8_t)length;
    memcpy(app_telemetry[index].record, data, length);
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        app_instances[i].telemetry_fresh = (uint16_t)(app_instances[i].telemetry_fresh | 1u << index);
    }
    return true;
}

int32_t px4_subscribe(struct call *call) {
    struct instance *instance = call->instance;
    const uint32_t kind = call->cells[0];
    const int32_t interval = (int32_t)call->cells[1];
    struct args args;
    int32_t refused;
    if (kind == 0 || kind > ABI_TELEMETRY_KINDS || interval < -1 || interval > (int32_t)ABI_DAY_MS) {
        return ABI_INVALID;
    }
    const uint32_t index = place_of(call, kind, &refused);
    if (index == APP_TELEMETRY) {
        return refused;
    }
    args_begin(&args);
    arg_int(&args, (int64_t)kind);
    arg_int(&args, interval);
    refused = send(call, OP_PX4_SUBSCRIBE, 0, &args, NULL, 0);
    if (refused != 0) {
        return refused;
    }
    const uint32_t bit = 1u << index;
    instance->telemetry_on = (uint16_t)(interval < 0 ? instance->telemetry_on & ~bit : instance->telemetry_on | bit);
    instance->telemetry_interval[index] = interval < 0 ? 0 : (uint32_t)interval;
    instance->telemetry_last[index] = app_now_ms() - ABI_DAY_MS;
    return 0;
}

int32_t px4_read(struct call *call) {
    const uint32_t kind = call->cells[0];
    int32_t refused;
    uint8_t *to = guest(call, call->cells[1], call->cells[2]);
    if (to == NULL) {
        return 0;
    }
    if (kind == 0 || kind > ABI_TELEMETRY_KINDS) {
        return ABI_INVALID;
    }
    if (!vehicle_is_there()) {
        return ABI_UNAVAILABLE;
    }
    const uint32_t index = place_of(call, kind, &refused);
    if (index == APP_TELEMETRY) {
        return refused;
    }
    const struct telemetry *newest = &app_telemetry[index];
    if (newest->bytes == 0) {
        return ABI_AGAIN;
    }
    if (newest->bytes > call->cells[2]) {
        return ABI_TOOBIG;
    }
    memcpy(to, newest->record, newest->bytes);
    return newest->bytes;
}

int32_t px4_command(struct call *call) {
    struct args none;
    const uint8_t *command = guest(call, call->cells[0], ABI_COMMAND_BYTES);
    const int32_t denied = may(call, WB_RIGHT_COMMAND);
    args_begin(&none);
    return command == NULL ? 0 : denied != 0 ? denied : ask(call, OP_COMMAND, &none, command, ABI_COMMAND_BYTES);
}

int32_t px4_setpoint(struct call *call) {
    struct args none;
    const uint8_t *setpoint = guest(call, call->cells[0], ABI_SETPOINT_BYTES);
    const int32_t denied = may(call, WB_RIGHT_OFFBOARD);
    args_begin(&none);
    return setpoint == NULL ? 0 : denied != 0 ? denied : send(call, OP_SETPOINT, 0, &none, setpoint, ABI_SETPOINT_BYTES);
}

int32_t px4_offboard(struct call *call) {
    struct args args;
    const int32_t denied = may(call, WB_RIGHT_OFFBOARD);
    if (call->cells[0] > 1) {
        return ABI_INVALID;
    }
    args_begin(&args);
    arg_int(&args, call->cells[0]);
    return denied != 0 ? denied : ask(call, OP_OFFBOARD, &args, NULL, 0);
}

int32_t px4_param_get(struct call *call) {
    struct args args;
    const uint8_t *name = guest(call, call->cells[0], call->cells[1]);
    if (name == NULL || !is_name(name, call->cells[1], ABI_PARAMETER_MAX)) {
        return ABI_INVALID;
    }
    args_begin(&args);
    arg_text(&args, name, call->cells[1]);
    return ask(call, OP_PARAM_GET, &args, NULL, 0);
}

/* The value goes as data, 8 bytes: this CBOR has no floating point. */
int32_t px4_param_set(struct call *call) {
    struct args args;
    const uint8_t *name = guest(call, call->cells[0], call->cells[1]);
    const int32_t denied = may(call, WB_RIGHT_PARAMETERS);
    uint8_t value[8];
    if (name == NULL || !is_name(name, call->cells[1], ABI_PARAMETER_MAX)) {
        return ABI_INVALID;
    }
    memcpy(value, call->cells + 2, sizeof value);
    args_begin(&args);
    arg_text(&args, name, call->cells[1]);
    return denied != 0 ? denied : ask(call, OP_PARAM_SET, &args, value, sizeof value);
}

int32_t px4_mission(struct call *call) {
    struct args args;
    const uint32_t count = call->cells[1];
    const int32_t denied = may(call, WB_RIGHT_MISSION);
    if (count > APP_MESSAGE_MAX) {
        return ABI_INVALID;
    }
    const uint8_t *items = guest(call, call->cells[0], count * ABI_WAYPOINT_BYTES);
    if (items == NULL) {
        return 0;
    }
    args_begin(&args);
    arg_int(&args, count);
    return denied != 0 ? denied : ask(call, OP_MISSION, &args, items, count * ABI_WAYPOINT_BYTES);
}

/* ---- wasmbed:ros2 ---------------------------------------------------------------------------------------------------------------- */

/* The handle of a route is its place in the start request. */
int32_t ros2_open(struct call *call) {
    struct wb_start start;
    struct wb_item alias;
    struct args args;
    const uint32_t length = call->cells[1];
    const uint8_t *wanted = guest(call, call->cells[0], length);
    if (wanted == NULL || length == 0 || length > ABI_ALIAS_MAX || !instance_record(call->instance, &start)) {
        return ABI_NOTFOUND;
    }
    for (int32_t handle = 0; start.routes.at < start.routes.end && wb_cbor_next(&start.routes, &alias); handle++) {
        if (alias.value == length && memcmp(alias.data, wanted, length) == 0) {
            args_begin(&args);
            arg_text(&args, wanted, length);
            arg_int(&args, handle);
            const int32_t refused = send(call, OP_OPEN, 0, &args, NULL, 0);
            return refused != 0 ? refused : handle;
        }
        if (!wb_cbor_skip(&start.routes) || !wb_cbor_skip(&start.routes)) { /* direction, kind */
            break;
        }
    }
    return ABI_NOTFOUND;
}

/* handle, token and status as the operation has them, then data at these two cells. */
static int32_t ros2_send(struct call *call, enum note_op op, const struct args *args, uint32_t cell, bool asks) {
    const uint8_t *data = guest(call, call->cells[cell], call->cells[cell + 1]);
    if (data == NULL) {
        return 0;
    }
    if (call->cells[cell + 1] > APP_MESSAGE_MAX) {
        return ABI_TOOBIG;
    }
    return asks ? ask(call, op, args, data, call->cells[cell + 1]) : send(call, op, 0, args, data, call->cells[cell + 1]);
}

static void handle_and_token(struct call *call, struct args *args, bool token) {
    args_begin(args);
    arg_int(args, (int32_t)call->cells[0]);
    if (token) {
        arg_int(args, (int64_t)((uint64_t)call->cells[2] << 32 | call->cells[1]));
    }
}

int32_t ros2_close(struct call *call) {
    struct args args;
    handle_and_token(call, &args, false);
    return send(call, OP_CLOSE, 0, &args, NULL, 0);
}

int32_t ros2_publish(struct call *call) {
    struct args args;
    handle_and_token(call, &args, false);
    return ros2_send(call, OP_PUBLISH, &args, 1, false);
}

int32_t ros2_call(struct call *call) {
    struct args args;
    handle_and_token(call, &args, false);
    return ros2_send(call, OP_CALL, &args, 1, true);
}

int32_t ros2_respond(struct call *call) {
    struct args args;
    handle_and_token(call, &args, true);
    arg_int(&args, (int32_t)call->cells[3]);
    return ros2_send(call, OP_RESPOND, &args, 4, false);
}

int32_t ros2_feedback(struct call *call) {
    struct args args;
    handle_and_token(call, &args, true);
    return ros2_send(call, OP_FEEDBACK, &args, 3, false);
}

int32_t ros2_cancel(struct call *call) {
    struct args args;
    handle_and_token(call, &args, true);
    return send(call, OP_CANCEL, 0, &args, NULL, 0);
}
