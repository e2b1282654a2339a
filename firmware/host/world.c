/* See world.h. Semantics as in docs/abi.md. */
#include "world.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    NOT_FOUND = -2,
    UNAVAILABLE = -19,
    DENIED = -1,
    INVALID = -22,
    TOO_BIG = -90,
    TIMER_MIN_MS = 10,
    TIMER_MAX_MS = 86400000,
    TOPICS = 16,
    TOPIC_MAX = 64,
    MESSAGE_MAX = 256,
    RANDOM_MAX = 256
};
#define MS_NS 1000000

static void give(uint32_t *cells, int32_t value) { cells[0] = (uint32_t)value; }

/* Copies to the guest; the whole capacity must be its own. */
static enum wbi_status put(struct wbi_instance *in, uint32_t *cells, uint32_t at, uint32_t capacity, const void *data,
                           uint32_t length) {
    uint8_t *buffer = wbi_guest(in, at, capacity);
    if (buffer == NULL) {
        return WBI_TRAP_MEMORY;
    }
    if (length > capacity) {
        give(cells, TOO_BIG);
        return WBI_OK;
    }
    memcpy(buffer, data, length);
    give(cells, (int32_t)length);
    return WBI_OK;
}

static enum wbi_status sys_log(struct wbi_instance *in, void *context, uint32_t *cells) {
    static const char *const levels[] = {"error", "warning", "info", "debug", "trace"};
    const struct world *world = context;
    const uint8_t *text = wbi_guest(in, cells[1], cells[2]);
    if (text == NULL) {
        return WBI_TRAP_MEMORY;
    }
    if (world->logs_time) {
        printf("%.1f s ", (double)world->now_ns / 1e9);
    }
    printf("%s: %.*s\n", levels[cells[0] < 5 ? cells[0] : 4], (int)cells[2], (const char *)text);
    return WBI_OK;
}

static void give_wide(uint32_t *cells, int64_t value) {
    cells[0] = (uint32_t)value;
    cells[1] = (uint32_t)((uint64_t)value >> 32);
}

static enum wbi_status sys_monotonic(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    give_wide(cells, ((const struct world *)context)->now_ns);
    return WBI_OK;
}

static enum wbi_status sys_realtime(struct wbi_instance *in, void *context, uint32_t *cells) {
    struct timespec now;
    (void)in;
    (void)context;
    clock_gettime(CLOCK_REALTIME, &now);
    give_wide(cells, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    return WBI_OK;
}

static enum wbi_status sys_random(struct wbi_instance *in, void *context, uint32_t *cells) {
    uint8_t *buffer = wbi_guest(in, cells[0], cells[1]);
    const uint32_t length = cells[1];
    (void)context;
    if (buffer == NULL) {
        return WBI_TRAP_MEMORY;
    }
    give(cells, length <= RANDOM_MAX && getrandom(buffer, length, 0) == (ssize_t)length ? (int32_t)length : INVALID);
    return WBI_OK;
}

static enum wbi_status sys_device_name(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)context;
    return put(in, cells, cells[0], cells[1], "default/desk", 12);
}

static enum wbi_status sys_env(struct wbi_instance *in, void *context, uint32_t *cells) {
    const struct world *world = context;
    const uint8_t *name = wbi_guest(in, cells[0], cells[1]);
    if (name == NULL || wbi_guest(in, cells[2], cells[3]) == NULL) {
        return WBI_TRAP_MEMORY;
    }
    for (uint32_t i = 0; i < world->env_count; i++) {
        if (strncmp(world->env[i], (const char *)name, cells[1]) == 0 && world->env[i][cells[1]] == '=') {
            const char *value = world->env[i] + cells[1] + 1;
            return put(in, cells, cells[2], cells[3], value, (uint32_t)strlen(value));
        }
    }
    give(cells, NOT_FOUND);
    return WBI_OK;
}

static bool in_range(int32_t ms) { return ms == 0 || (ms >= TIMER_MIN_MS && ms <= TIMER_MAX_MS); }

static enum wbi_status sys_timer_set(struct wbi_instance *in, void *context, uint32_t *cells) {
    struct world *world = context;
    const uint32_t timer = cells[0];
    const int32_t first = (int32_t)cells[1];
    const int32_t period = (int32_t)cells[2];
    (void)in;
    if (timer >= WORLD_TIMERS || !in_range(first) || !in_range(period)) {
        give(cells, INVALID);
        return WBI_OK;
    }
    const int32_t wait = first != 0 ? first : period;
    world->timers[timer].due_ns = wait == 0 ? 0 : world->now_ns + (int64_t)wait * MS_NS;
    world->timers[timer].period_ns = (int64_t)period * MS_NS;
    give(cells, 0);
    return WBI_OK;
}

static enum wbi_status sys_subscribe(struct wbi_instance *in, void *context, uint32_t *cells) {
    struct world *world = context;
    if (wbi_guest(in, cells[0], cells[1]) == NULL) {
        return WBI_TRAP_MEMORY;
    }
    if (cells[1] == 0 || cells[1] > TOPIC_MAX) {
        give(cells, INVALID);
    } else {
        give(cells, world->topics < TOPICS ? (int32_t)world->topics++ : TOO_BIG);
    }
    return WBI_OK;
}

static enum wbi_status sys_send(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)context;
    if (wbi_guest(in, cells[0], cells[1]) == NULL || wbi_guest(in, cells[2], cells[3]) == NULL) {
        return WBI_TRAP_MEMORY;
    }
    give(cells, cells[3] > MESSAGE_MAX ? TOO_BIG : 0);
    return WBI_OK;
}

static enum wbi_status sys_event_read(struct wbi_instance *in, void *context, uint32_t *cells) {
    const struct world *world = context;
    const uint32_t offset = cells[0];
    if (world->event == NULL || offset > world->event_bytes) {
        if (wbi_guest(in, cells[1], cells[2]) == NULL) {
            return WBI_TRAP_MEMORY;
        }
        give(cells, world->event == NULL ? NOT_FOUND : INVALID);
        return WBI_OK;
    }
    const uint32_t left = world->event_bytes - offset;
    return put(in, cells, cells[1], cells[2], world->event + offset, left < cells[2] ? left : cells[2]);
}

static enum wbi_status nothing(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    give(cells, 0);
    return WBI_OK;
}

static enum wbi_status not_found(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    give(cells, NOT_FOUND);
    return WBI_OK;
}

static enum wbi_status denied(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    give(cells, DENIED);
    return WBI_OK;
}

static enum wbi_status unavailable(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    give(cells, UNAVAILABLE);
    return WBI_OK;
}

#define SYS "wasmbed:sys"
#define PX4 "wasmbed:px4"
#define ROS2 "wasmbed:ros2"
#define SENSOR "wasmbed:sensor"
#define SECURE "wasmbed:secure"
static struct wbi_host_function functions[] = {
    {SYS, "log", "iii:", sys_log, NULL},
    {SYS, "clock_monotonic_ns", ":I", sys_monotonic, NULL},
    {SYS, "clock_realtime_ns", ":I", sys_realtime, NULL},
    {SYS, "random", "ii:i", sys_random, NULL},
    {SYS, "device_name", "ii:i", sys_device_name, NULL},
    {SYS, "env", "iiii:i", sys_env, NULL},
    {SYS, "timer_set", "iii:i", sys_timer_set, NULL},
    {SYS, "subscribe", "ii:i", sys_subscribe, NULL},
    {SYS, "send", "iiii:i", sys_send, NULL},
    {SYS, "event_read", "iii:i", sys_event_read, NULL},
    {SYS, "dropped", ":i", nothing, NULL},
    {SYS, "state_put", "ii:i", denied, NULL},
    {SYS, "state_get", "ii:i", not_found, NULL},
    {PX4, "acquire", ":i", unavailable, NULL},
    {PX4, "release", ":i", nothing, NULL},
    {PX4, "subscribe", "ii:i", unavailable, NULL},
    {PX4, "read", "iii:i", unavailable, NULL},
    {PX4, "command", "i:i", unavailable, NULL},
    {PX4, "setpoint", "i:i", unavailable, NULL},
    {PX4, "offboard", "i:i", unavailable, NULL},
    {PX4, "param_get", "ii:i", unavailable, NULL},
    {PX4, "param_set", "iiF:i", unavailable, NULL},
    {PX4, "mission", "ii:i", unavailable, NULL},
    {ROS2, "open", "ii:i", unavailable, NULL},
    {ROS2, "close", "i:i", nothing, NULL},
    {ROS2, "publish", "iii:i", unavailable, NULL},
    {ROS2, "call", "iii:i", unavailable, NULL},
    {ROS2, "respond", "iIiii:i", unavailable, NULL},
    {ROS2, "feedback", "iIii:i", unavailable, NULL},
    {ROS2, "cancel", "iI:i", unavailable, NULL},
    {SENSOR, "count", ":i", nothing, NULL},
    {SENSOR, "info", "iii:i", not_found, NULL},
    {SENSOR, "read", "iii:i", not_found, NULL},
    {SENSOR, "subscribe", "ii:i", not_found, NULL},
    {SECURE, "seal", "iiii:i", unavailable, NULL},
    {SECURE, "unseal", "iiii:i", unavailable, NULL},
    {SECURE, "send", "ii:i", unavailable, NULL},
};

const struct wbi_host_function *world_functions(struct world *world, uint32_t *count) {
    *count = sizeof functions / sizeof functions[0];
    for (uint32_t i = 0; i < *count; i++) {
        functions[i].context = world;
    }
    return functions;
}

int32_t world_next(struct world *world) {
    int32_t next = -1;
    for (int32_t i = 0; i < WORLD_TIMERS; i++) {
        if (world->timers[i].due_ns != 0 && world->timers[i].due_ns <= world->end_ns &&
            (next < 0 || world->timers[i].due_ns < world->timers[next].due_ns)) {
            next = i;
        }
    }
    if (next >= 0) {
        world->now_ns = world->timers[next].due_ns;
        world->timers[next].due_ns = world->timers[next].period_ns == 0 ? 0 : world->now_ns + world->timers[next].period_ns;
    }
    return next;
}
