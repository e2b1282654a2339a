/* What goes to the gateway: requests to host modules, states, lines for the journal. Requests and lines keep their order:
 * the first one of each is sent again until the gateway has it. */
#include <stddef.h>
#include <string.h>

#include "app.h"

#define RESEND_MS 1500u
#define SMP_HEADER_BYTES 8u
#define REQUEST_FIXED 48u /* heads, number, token, module and operation in CBOR */
#define LOG_MOST 96u      /* of a line; longer ones are cut */

enum note_kind { NOTE_LINE, NOTE_REQUEST };

struct note {
    uint16_t bytes; /* of the whole entry, padded to 4 */
    uint8_t kind, instance;
    uint8_t op;     /* or level */
    uint8_t args, arg_bytes, sent;
    uint16_t data_bytes, reserved;
    uint32_t token; /* or lines that were left out before this one */
    uint32_t number, at_ms; /* at: sent, or queued as long as it is not */
};

static uint8_t ring[APP_NOTES_BYTES] __attribute__((aligned(4)));
static uint32_t used;
static uint32_t number; /* of the last request or line */
static uint16_t last;   /* where it lies */
static uint32_t lines_dropped[APP_INSTANCES];

static const struct {
    const char *module, *name;
    uint32_t grant;
} ops[OP_COUNT] = {
    [OP_ACQUIRE] = {"px4", "acquire", WB_GRANT_PX4},
    [OP_RELEASE] = {"px4", "release", WB_GRANT_PX4},
    [OP_PX4_SUBSCRIBE] = {"px4", "subscribe", WB_GRANT_PX4},
    [OP_PX4_WATCH] = {"px4", "watch", WB_GRANT_PX4},
    [OP_COMMAND] = {"px4", "command", WB_GRANT_PX4},
    [OP_SETPOINT] = {"px4", "setpoint", WB_GRANT_PX4},
    [OP_OFFBOARD] = {"px4", "offboard", WB_GRANT_PX4},
    [OP_PARAM_GET] = {"px4", "param_get", WB_GRANT_PX4},
    [OP_PARAM_SET] = {"px4", "param_set", WB_GRANT_PX4},
    [OP_MISSION] = {"px4", "mission", WB_GRANT_PX4},
    [OP_OPEN] = {"ros2", "open", WB_GRANT_ROS2},
    [OP_CLOSE] = {"ros2", "close", WB_GRANT_ROS2},
    [OP_PUBLISH] = {"ros2", "publish", WB_GRANT_ROS2},
    [OP_CALL] = {"ros2", "call", WB_GRANT_ROS2},
    [OP_RESPOND] = {"ros2", "respond", WB_GRANT_ROS2},
    [OP_FEEDBACK] = {"ros2", "feedback", WB_GRANT_ROS2},
    [OP_CANCEL] = {"ros2", "cancel", WB_GRANT_ROS2},
    [OP_SECURE_SEND] = {"secure", "send", WB_GRANT_SECURE},
    [OP_SEQUENCE] = {"secure", "sequence", WB_GRANT_SECURE},
};

static struct note *at(uint32_t offset) { return (void *)(ring + offset); }
static uint8_t *args_of(struct note *note) { return (uint8_t *)(note + 1); }
static uint8_t *data_of(struct note *note) { return args_of(note) + note->arg_bytes; }

static void drop(uint32_t offset) {
    const uint32_t bytes = at(offset)->bytes;
    memmove(ring + offset, ring + offset + bytes, used - offset - bytes);
    used -= bytes;
}

static struct note *add(const struct instance *instance, uint32_t arg_bytes, uint32_t data_bytes) {
    const uint32_t bytes = ((uint32_t)sizeof(struct note) + arg_bytes + data_bytes + 3u) & ~3u;
    if (used + bytes > sizeof ring) {
        return NULL;
    }
    struct note *note = at(used);
    memset(note, 0, sizeof *note);
    note->bytes = (uint16_t)bytes;
    note->instance = (uint8_t)(instance - app_instances);
    note->arg_bytes = (uint8_t)arg_bytes;
    note->data_bytes = (uint16_t)data_bytes;
    note->at_ms = app_now_ms();
    if (number == 0) {
        (void)wb_link_random(&app_link, (uint8_t *)&number, sizeof number);
        number &= 0x3fffffffu; /* far from the end of 32 bits */
    }
    note->number = ++number;
    used += bytes;
    return note;
}

/* A setpoint that was not sent yet makes room for the newer one. */
static bool replace_setpoint(const struct instance *instance, const uint8_t *data, uint32_t length) {
    for (uint32_t offset = 0; offset < used; offset += at(offset)->bytes) {
        struct note *note = at(offset);
        if (note->kind == NOTE_REQUEST && note->op == OP_SETPOINT && !note->sent &&
            note->instance == (uint8_t)(instance - app_instances) && note->data_bytes == length) {
            memcpy(data_of(note), data, length);
            note->at_ms = app_now_ms();
            return true;
        }
    }
    return false;
}

int32_t notes_request(struct instance *instance, enum note_op op, uint32_t token, const uint8_t *args, uint32_t args_bytes,
                      uint32_t arg_count, const uint8_t *data, uint32_t length) {
    struct wb_start start;
    if ((app_available & ops[op].grant) == 0) {
        return ABI_UNAVAILABLE;
    }
    if (!instance_record(instance, &start)) {
        return ABI_UNAVAILABLE; /* it is being stopped */
    }
    const uint32_t entry = (uint32_t)sizeof(struct note) + args_bytes + length + 3u;
    if (args_bytes > 255 || entry > sizeof ring ||
        SMP_HEADER_BYTES + REQUEST_FIXED + start.instance.length + args_bytes + length > WB_LINK_TX_BYTES) {
        return ABI_TOOBIG;
    }
    if (op == OP_SETPOINT && data != NULL && replace_setpoint(instance, data, length)) {
        return 0;
    }
    struct note *note = add(instance, args_bytes, length);
    if (note == NULL) {
        return ABI_AGAIN;
    }
    note->kind = NOTE_REQUEST;
    note->op = (uint8_t)op;
    note->args = (uint8_t)arg_count;
    note->token = token;
    if (args_bytes != 0) {
        memcpy(args_of(note), args, args_bytes);
    }
    if (data != NULL) {
        memcpy(data_of(note), data, length);
    }
    last = (uint16_t)((uint8_t *)note - ring);
    return 0;
}

uint8_t *notes_data(void) { return data_of(at(last)); }

void notes_trim(uint32_t length) {
    struct note *note = at(last);
    used = last;
    if (length != 0) {
        note->data_bytes = (uint16_t)length;
        note->bytes = (uint16_t)(((uint32_t)sizeof *note + note->arg_bytes + length + 3u) & ~3u);
        used += note->bytes;
    }
}

static uint32_t line_bytes(void) {
    uint32_t bytes = 0;
    for (uint32_t offset = 0; offset < used; offset += at(offset)->bytes) {
        bytes += at(offset)->kind == NOTE_LINE ? at(offset)->bytes : 0u;
    }
    return bytes;
}

void notes_log(struct instance *instance, uint32_t level, const uint8_t *text, uint32_t length) {
    const uint32_t index = (uint32_t)(instance - app_instances);
    length = length < LOG_MOST ? length : LOG_MOST;
    /* Lines take half of the room at most: requests always find the other one. */
    const bool fits = line_bytes() + (uint32_t)sizeof(struct note) + length + 3u <= sizeof ring / 2;
    struct note *note = fits ? add(instance, 0, length) : NULL;
    if (note == NULL) {
        lines_dropped[index]++;
        return;
    }
    note->kind = NOTE_LINE;
    note->op = (uint8_t)level;
    note->token = lines_dropped[index];
    lines_dropped[index] = 0;
    for (uint32_t i = 0; i < length; i++) {
        data_of(note)[i] = text[i] < ' ' ? ' ' : text[i] > '~' ? '?' : text[i]; /* a cut line stays a text */
    }
}

void notes_drop(const struct instance *instance) {
    for (uint32_t offset = 0; offset < used;) {
        const struct note *note = at(offset);
        if (note->kind == NOTE_REQUEST && note->instance == (uint8_t)(instance - app_instances) && note->op != OP_RELEASE) {
            drop(offset);
        } else {
            offset += note->bytes;
        }
    }
}

void notes_link_lost(void) {
    for (uint32_t offset = 0; offset < used;) {
        if (at(offset)->kind == NOTE_REQUEST) {
            drop(offset);
        } else {
            offset += at(offset)->bytes;
        }
    }
}

void notes_accepted(void *context, uint32_t accepted) {
    (void)context;
    for (uint32_t offset = 0; offset < used; offset += at(offset)->bytes) {
        if (at(offset)->number == accepted) {
            drop(offset);
            return;
        }
    }
}

bool notes_waiting(void) { return used != 0; }

static void put_instance(struct wb_cbor_out *out, const struct instance *instance) {
    struct wb_start start;
    const bool there = instance_record(instance, &start);
    wb_put_text_bytes(out, there ? start.instance.data : "", there ? start.instance.length : 0);
}

static void write_request(struct wb_cbor_out *out, struct note *note) {
    wb_put_map(out, 7);
    wb_put_uint(out, 0);
    wb_put_uint(out, note->number);
    wb_put_uint(out, 1);
    put_instance(out, &app_instances[note->instance]);
    wb_put_uint(out, 2);
    wb_put_text(out, ops[note->op].module);
    wb_put_uint(out, 3);
    wb_put_text(out, ops[note->op].name);
    wb_put_uint(out, 4);
    wb_put_uint(out, note->token);
    wb_put_uint(out, 5);
    wb_put_array(out, note->args);
    if ((size_t)(out->end - out->at) < note->arg_bytes) {
        out->full = true;
        return;
    }
    memcpy(out->at, args_of(note), note->arg_bytes);
    out->at += note->arg_bytes;
    wb_put_uint(out, 6);
    wb_put_bytes(out, data_of(note), note->data_bytes);
}

static bool next_request(struct wb_cbor_out *out) {
    const uint32_t now = app_now_ms();
    for (uint32_t offset = 0; offset < used;) {
        struct note *note = at(offset);
        if (note->kind != NOTE_REQUEST) {
            offset += note->bytes;
            continue;
        }
        if (note->op == OP_SETPOINT && now - note->at_ms > APP_SETPOINT_AGE_MS) {
            drop(offset); /* too old to be flown */
            continue;
        }
        if (note->sent && now - note->at_ms < RESEND_MS) {
            return false;
        }
        note->sent = 1;
        note->at_ms = note->op == OP_SETPOINT ? note->at_ms : now;
        write_request(out, note);
        return true;
    }
    return false;
}

static bool next_state(struct wb_cbor_out *out) {
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        struct instance *instance = &app_instances[i];
        struct wb_start start;
        if (!instance->changed) {
            continue;
        }
        instance->changed = false;
        if (!instance_record(instance, &start)) {
            continue; /* stopped by the gateway itself */
        }
        char text[WB_MESSAGE_TEXT_MAX];
        uint32_t length = 0;
        const char *why;
        const uint8_t *previous = trial_rolled_back(instance, &why);
        why = instance->why != NULL ? instance->why : why;
        for (const char *from = why; from != NULL && *from != '\0' && length < (instance->why != NULL ? 60u : sizeof text); from++) {
            text[length++] = *from;
        }
        if (instance->why != NULL && instance->why_name[0] != '\0') {
            text[length++] = ':';
            text[length++] = ' ';
            for (const char *from = instance->why_name; *from != '\0'; from++) {
                text[length++] = *from;
            }
        }
        const bool news = instance->rolled_back && previous != NULL;
        instance->rolled_back = false;
        wb_put_map(out, news ? 6 : 5);
        if (news) {
            wb_put_uint(out, 5);
            wb_put_bytes(out, previous, 32);
        }
        wb_put_uint(out, 0);
        wb_put_text_bytes(out, start.instance.data, start.instance.length);
        wb_put_uint(out, 1);
        wb_put_uint(out, instance->state);
        wb_put_uint(out, 2);
        wb_put_uint(out, instance->reason);
        wb_put_uint(out, 3);
        wb_put_text_bytes(out, text, length);
        wb_put_uint(out, 4);
        wb_put_uint(out, instance->restarts);
        return true;
    }
    return false;
}

static bool next_line(struct wb_cbor_out *out) {
    for (uint32_t offset = 0; offset < used; offset += at(offset)->bytes) {
        struct note *note = at(offset);
        if (note->kind != NOTE_LINE) {
            continue;
        }
        const uint32_t now = app_now_ms();
        if (note->sent && now - note->at_ms < RESEND_MS) {
            return false;
        }
        note->sent = 1;
        note->at_ms = now;
        wb_put_map(out, 5);
        wb_put_uint(out, 0);
        put_instance(out, &app_instances[note->instance]);
        wb_put_uint(out, 1);
        wb_put_uint(out, note->op);
        wb_put_uint(out, 2);
        wb_put_text_bytes(out, data_of(note), note->data_bytes);
        wb_put_uint(out, 3);
        wb_put_uint(out, note->token);
        wb_put_uint(out, 4);
        wb_put_uint(out, note->number);
        return true;
    }
    return false;
}

enum wb_note notes_next(void *context, struct wb_cbor_out *out) {
    (void)context;
    return next_request(out) ? WB_NOTE_REQUEST
           : next_state(out) ? WB_NOTE_STATE
           : next_line(out)  ? WB_NOTE_LOG
                             : WB_NOTE_NONE;
}
