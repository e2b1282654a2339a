/* What an application is told: its queue, timers, and what keeps only the newest. */
#include <stddef.h>
#include <string.h>

#include "app.h"

struct queued {
    uint8_t type, reserved;
    uint16_t bytes; /* of the data */
    uint32_t source;
};

static uint32_t size_of(uint32_t bytes) { return ((uint32_t)sizeof(struct queued) + bytes + 3u) & ~3u; }

void events_clear(struct instance *instance) {
    instance->queue_used = 0;
    instance->queue_count = 0;
    instance->timers_set = 0;
    instance->sensors_on = instance->sensors_fresh = 0;
    instance->telemetry_on = instance->telemetry_fresh = 0;
    instance->topic_count = 0;
    instance->link_event = instance->owner_event = 0;
    instance->tokens_failed = 0;
    memset(instance->tokens, 0, sizeof instance->tokens);
    instance->hand_type = 0;
    instance->dropped = 0;
}

static void remove_at(struct instance *instance, uint32_t at) {
    const struct queued *entry = (const void *)(instance->queue + at);
    const uint32_t size = size_of(entry->bytes);
    memmove(instance->queue + at, instance->queue + at + size, instance->queue_used - at - size);
    instance->queue_used = (uint16_t)(instance->queue_used - size);
    instance->queue_count--;
}

/* Drops the oldest event that may be dropped and is not in hand. */
static bool make_room(struct instance *instance) {
    for (uint32_t at = 0; at < instance->queue_used;) {
        const struct queued *entry = (const void *)(instance->queue + at);
        const bool in_hand = at == 0 && instance->hand_type != 0 && instance->hand_queued;
        if (entry->type == ABI_ROS2 && !in_hand) {
            remove_at(instance, at);
            instance->dropped++;
            instance->dropped_all++;
            return true;
        }
        at += size_of(entry->bytes);
    }
    return false;
}

static bool has_room(struct instance *instance, uint32_t length) {
    const uint32_t size = size_of(length);
    if (length > APP_QUEUE_BYTES || size > APP_QUEUE_BYTES) {
        return false;
    }
    while (instance->queue_count >= APP_QUEUE_EVENTS || instance->queue_used + size > APP_QUEUE_BYTES) {
        if (!make_room(instance)) {
            return false;
        }
    }
    return true;
}

bool events_push(struct instance *instance, uint32_t type, uint32_t source, const uint8_t *data, uint32_t length) {
    if (!has_room(instance, length)) {
        return false;
    }
    const uint32_t size = size_of(length);
    struct queued *entry = (void *)(instance->queue + instance->queue_used);
    *entry = (struct queued){(uint8_t)type, 0, (uint16_t)length, source};
    memcpy(entry + 1, data, length);
    instance->queue_used = (uint16_t)(instance->queue_used + size);
    instance->queue_count++;
    return true;
}

static bool hand(struct instance *instance, uint32_t type, uint32_t source, uint32_t length) {
    instance->hand_type = (uint8_t)type;
    instance->hand_source = source;
    instance->hand_bytes = (uint16_t)length;
    instance->hand_queued = 0;
    instance->hand = instance->hand_copy;
    return true;
}

static bool take_queued(struct instance *instance) {
    if (instance->queue_count == 0) {
        return false;
    }
    const struct queued *entry = (const void *)instance->queue;
    hand(instance, entry->type, entry->source, entry->bytes);
    instance->hand_queued = 1;
    instance->hand = (const uint8_t *)(entry + 1);
    return true;
}

/* What is never dropped and has its place outside the queue. */
static bool take_urgent(struct instance *instance) {
    for (uint32_t i = 0; i < APP_TOKENS; i++) {
        if ((instance->tokens_failed >> i & 1) != 0) {
            const int32_t status = ABI_UNAVAILABLE;
            memcpy(instance->hand_copy, &status, sizeof status);
            const uint32_t token = instance->tokens[i];
            instance->tokens_failed = (uint8_t)(instance->tokens_failed & ~(1u << i));
            instance->tokens[i] = 0;
            return hand(instance, ABI_RESULT, token, sizeof status);
        }
    }
    if (instance->owner_event != 0) {
        instance->hand_copy[0] = instance->owner_event;
        instance->owner_event = 0;
        return hand(instance, ABI_OWNER, 0, 1);
    }
    if (instance->link_event != 0) {
        const uint32_t up = instance->link_event - 1u;
        instance->link_event = 0;
        return hand(instance, ABI_LINK, up, 0);
    }
    return false;
}

static bool take_timer(struct instance *instance, uint32_t now_ms) {
    uint32_t chosen = APP_TIMERS;
    for (uint32_t i = 0; i < APP_TIMERS; i++) {
        const struct timer *timer = &instance->timers[i];
        if ((instance->timers_set >> i & 1) != 0 && (int32_t)(now_ms - timer->due_ms) >= 0 &&
            (chosen == APP_TIMERS || (int32_t)(timer->due_ms - instance->timers[chosen].due_ms) < 0)) {
            chosen = i;
        }
    }
    if (chosen == APP_TIMERS) {
        return false;
    }
    struct timer *timer = &instance->timers[chosen];
    uint32_t missed = 0;
    if (timer->period_ms == 0) {
        instance->timers_set = (uint16_t)(instance->timers_set & ~(1u << chosen));
    } else {
        missed = (now_ms - timer->due_ms) / timer->period_ms;
        timer->due_ms += (missed + 1) * timer->period_ms;
    }
    memcpy(instance->hand_copy, &missed, sizeof missed);
    return hand(instance, ABI_TIMER, chosen, sizeof missed);
}

static bool take_fresh(struct instance *instance, uint32_t now_ms) {
    for (uint32_t i = 0; i < APP_SENSORS; i++) {
        struct sensor_subscription *wish = &instance->sensors[i];
        if ((instance->sensors_on & instance->sensors_fresh) >> i & 1 && now_ms - wish->last_ms >= wish->interval_ms) {
            instance->sensors_fresh = (uint8_t)(instance->sensors_fresh & ~(1u << i));
            wish->last_ms = now_ms;
            return hand(instance, ABI_SENSOR, i, sensors_sample(i, instance->hand_copy));
        }
    }
    for (uint32_t i = 0; i < APP_TELEMETRY; i++) {
        if (((instance->telemetry_on & instance->telemetry_fresh) >> i & 1) != 0 &&
            now_ms - instance->telemetry_last[i] >= instance->telemetry_interval[i]) {
            const struct telemetry *newest = &app_telemetry[i];
            instance->telemetry_fresh = (uint16_t)(instance->telemetry_fresh & ~(1u << i));
            instance->telemetry_last[i] = now_ms;
            memcpy(instance->hand_copy, newest->record, newest->bytes);
            return hand(instance, ABI_TELEMETRY, newest->kind, newest->bytes);
        }
    }
    return false;
}

bool events_take(struct instance *instance, uint32_t now_ms) {
    if (take_urgent(instance)) {
        return true;
    }
    instance->turn = !instance->turn; /* neither a full queue nor a fast timer keeps the other waiting */
    return instance->turn
               ? take_queued(instance) || take_timer(instance, now_ms) || take_fresh(instance, now_ms)
               : take_timer(instance, now_ms) || take_fresh(instance, now_ms) || take_queued(instance);
}

void events_done(struct instance *instance) {
    if (instance->hand_queued) {
        remove_at(instance, 0);
    }
    instance->hand_type = 0;
    instance->hand_queued = 0;
}

uint32_t events_due_ms(const struct instance *instance, uint32_t now_ms, uint32_t most) {
    for (uint32_t i = 0; i < APP_TIMERS; i++) {
        if ((instance->timers_set >> i & 1) != 0) {
            const int32_t left = (int32_t)(instance->timers[i].due_ms - now_ms);
            most = left <= 0 ? 0 : (uint32_t)left < most ? (uint32_t)left : most;
        }
    }
    for (uint32_t i = 0; i < APP_SENSORS; i++) {
        if (((instance->sensors_on & instance->sensors_fresh) >> i & 1) != 0) {
            const uint32_t past = now_ms - instance->sensors[i].last_ms;
            const uint32_t left = past >= instance->sensors[i].interval_ms ? 0 : instance->sensors[i].interval_ms - past;
            most = left < most ? left : most;
        }
    }
    if ((instance->telemetry_on & instance->telemetry_fresh) != 0 && most > 10) {
        most = 10;
    }
    return instance->queue_count != 0 || instance->tokens_failed != 0 || instance->link_event != 0 ? 0 : most;
}

uint32_t tokens_new(struct instance *instance) {
    for (uint32_t i = 0; i < APP_TOKENS; i++) {
        if (instance->tokens[i] == 0) {
            instance->next_token = (instance->next_token + 1) & 0x7fffffffu;
            instance->next_token += instance->next_token == 0;
            instance->tokens[i] = instance->next_token;
            return instance->next_token;
        }
    }
    return 0;
}

static uint32_t token_index(const struct instance *instance, uint32_t token) {
    for (uint32_t i = 0; i < APP_TOKENS; i++) {
        if (token != 0 && instance->tokens[i] == token) {
            return i;
        }
    }
    return APP_TOKENS;
}

void tokens_end(struct instance *instance, uint32_t token) {
    const uint32_t index = token_index(instance, token);
    if (index != APP_TOKENS) {
        instance->tokens[index] = 0;
    }
}

void tokens_fail(struct instance *instance) {
    for (uint32_t i = 0; i < APP_TOKENS; i++) {
        if (instance->tokens[i] != 0) {
            instance->tokens_failed = (uint8_t)(instance->tokens_failed | 1u << i);
        }
    }
    if (instance->owner) {
        instance->owner = false;
        instance->owner_event = ABI_OWNER_BRIDGE_GONE;
    }
}

/* The token whose call this event ends; 0 when it ends none. */
static uint32_t ended_token(uint32_t type, uint32_t source, const uint8_t *data, uint32_t length) {
    if (type == ABI_RESULT) {
        return source;
    }
    if (type == ABI_ROS2 && length >= ABI_ROS2_TOKEN + 4 &&
        (data[0] == ABI_ROS2_REPLY || data[0] == ABI_ROS2_FAILURE || data[0] == ABI_ROS2_REJECTED ||
         data[0] == ABI_ROS2_RESULT)) {
        uint32_t token;
        memcpy(&token, data + ABI_ROS2_TOKEN, sizeof token);
        return token;
    }
    return 0;
}

/* The message lies in the link's buffer, which is this side's until it returns: it is opened there. */
static enum wb_rc deliver_secure(struct instance *instance, const uint8_t *data, uint32_t length) {
    uint32_t at;
    uint32_t bytes;
    uint64_t number;
    if (!has_room(instance, length)) {
        return WB_RC_BUSY;
    }
    if (!secure_open(instance, (uint8_t *)(uintptr_t)data, length, &at, &bytes, &number)) {
        return WB_RC_OK; /* of another key, changed, or old: nobody is told */
    }
    if (!events_push(instance, ABI_SECURE, 0, data + at, bytes)) {
        return WB_RC_BUSY;
    }
    secure_taken(instance, number);
    return WB_RC_OK;
}

enum wb_rc events_deliver(void *context, struct wb_text name, uint32_t type, uint32_t source, const uint8_t *data,
                          uint32_t length) {
    (void)context;
    struct instance *instance = instance_named(name);
    if (instance == NULL) {
        return WB_RC_NOENT;
    }
    if (type == ABI_TELEMETRY) {
        return telemetry_put(source, data, length) ? WB_RC_OK : WB_RC_INVAL;
    }
    if (type != ABI_ROS2 && type != ABI_RESULT && type != ABI_SECURE && type != ABI_OWNER) {
        return WB_RC_INVAL;
    }
    if (instance->phase != PHASE_INIT && instance->phase != PHASE_READY && instance->phase != PHASE_EVENT) {
        return WB_RC_OK; /* nobody is there to be told */
    }
    const uint32_t ended = ended_token(type, source, data, length);
    if (type == ABI_RESULT && token_index(instance, ended) == APP_TOKENS) {
        return WB_RC_OK; /* of the run before */
    }
    if (type == ABI_OWNER) {
        instance->owner = false;
        instance->owner_event = length != 0 ? data[0] : ABI_OWNER_BRIDGE_GONE;
        return WB_RC_OK;
    }
    if (type == ABI_SECURE) {
        return deliver_secure(instance, data, length);
    }
    if (length > APP_MESSAGE_MAX + 24u) {
        return WB_RC_MSGSIZE;
    }
    if (!events_push(instance, type, source, data, length)) {
        return WB_RC_BUSY;
    }
    tokens_end(instance, ended);
    return WB_RC_OK;
}
