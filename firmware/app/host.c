/* The functions of application ABI 1 on a device: sys and sensor are answered here, px4 and ros2 go to the gateway. */
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "hal.h"
#include "host.h"
#include "store.h"

struct instance *host_instance(struct wbi_instance *wbi) {
    return (struct instance *)(void *)((uint8_t *)wbi - offsetof(struct instance, wbi));
}

uint32_t host_grant(const uint8_t *module, uint32_t length) {
    static const struct {
        const char *name;
        uint32_t grant;
    } modules[] = {{"wasmbed:sys", WB_GRANT_SYS},
                   {"wasmbed:px4", WB_GRANT_PX4},
                   {"wasmbed:ros2", WB_GRANT_ROS2},
                   {"wasmbed:sensor", WB_GRANT_SENSOR},
                   {"wasmbed:secure", WB_GRANT_SECURE}};
    for (uint32_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (strlen(modules[i].name) == length && memcmp(modules[i].name, module, length) == 0) {
            return modules[i].grant;
        }
    }
    return 0;
}

/* ---- wasmbed:sys --------------------------------------------------------------------------------------------------------- */

static int32_t copy_out(struct call *call, uint32_t pointer, uint32_t capacity, const void *data, uint32_t length) {
    uint8_t *to = guest(call, pointer, capacity);
    if (to == NULL) {
        return 0;
    }
    if (length > capacity) {
        return ABI_TOOBIG;
    }
    memcpy(to, data, length);
    return (int32_t)length;
}

static int32_t sys_log(struct call *call) {
    const uint8_t *text = guest(call, call->cells[1], call->cells[2]);
    if (text != NULL) {
        notes_log(call->instance, call->cells[0] <= 4 ? call->cells[0] : 4, text, call->cells[2]);
    }
    return 0;
}

static int32_t give_i64(struct call *call, uint64_t value) {
    call->cells[0] = (uint32_t)value;
    call->cells[1] = (uint32_t)(value >> 32);
    call->wide = true;
    return 0;
}

static int32_t sys_monotonic(struct call *call) { return give_i64(call, hal_now_us() * 1000u); }
static int32_t sys_realtime(struct call *call) { return give_i64(call, (uint64_t)app_realtime_ns()); }

static int32_t sys_random(struct call *call) {
    uint8_t *to = guest(call, call->cells[0], call->cells[1]);
    if (call->cells[1] > ABI_RANDOM_MAX) {
        return ABI_INVALID;
    }
    if (to == NULL) {
        return 0;
    }
    return wb_link_random(&app_link, to, call->cells[1]) ? (int32_t)call->cells[1] : ABI_IO;
}

static int32_t sys_device_name(struct call *call) {
    struct wb_start start;
    if (!instance_record(call->instance, &start)) {
        return ABI_IO;
    }
    return copy_out(call, call->cells[0], call->cells[1], start.device.data, start.device.length);
}

static int32_t sys_env(struct call *call) {
    struct wb_start start;
    struct wb_item name;
    struct wb_item value;
    const uint8_t *wanted = guest(call, call->cells[0], call->cells[1]);
    if (wanted == NULL || guest(call, call->cells[2], call->cells[3]) == NULL || !instance_record(call->instance, &start)) {
        return ABI_NOTFOUND;
    }
    while (start.env.at < start.env.end && wb_cbor_next(&start.env, &name) && wb_cbor_next(&start.env, &value)) {
        if (name.value == call->cells[1] && memcmp(name.data, wanted, (size_t)name.value) == 0) {
            return copy_out(call, call->cells[2], call->cells[3], value.data, (uint32_t)value.value);
        }
    }
    return ABI_NOTFOUND;
}

static int32_t sys_timer_set(struct call *call) {
    const uint32_t number = call->cells[0];
    const uint32_t period = call->cells[2];
    const uint32_t first = call->cells[1] != 0 ? call->cells[1] : period;
    struct instance *instance = call->instance;
    if (number >= APP_TIMERS || (first != 0 && (first < ABI_TIMER_MIN_MS || first > ABI_DAY_MS)) ||
        (period != 0 && (period < ABI_TIMER_MIN_MS || period > ABI_DAY_MS))) {
        return ABI_INVALID;
    }
    if (first == 0) {
        instance->timers_set = (uint16_t)(instance->timers_set & ~(1u << number));
        return 0;
    }
    instance->timers_set = (uint16_t)(instance->timers_set | 1u << number);
    instance->timers[number] = (struct timer){app_now_ms() + first, period};
    return 0;
}

/* Topics are of other instances of the same application on this host: a device has none. Handles are real all the same. */
static int32_t sys_subscribe(struct call *call) {
    struct instance *instance = call->instance;
    const uint32_t length = call->cells[1];
    const uint8_t *topic = guest(call, call->cells[0], length);
    if (topic == NULL || length == 0 || length > ABI_TOPIC_MAX) {
        return ABI_INVALID;
    }
    uint32_t hash = 2166136261u; /* FNV-1a, folded to 16 bits */
    for (uint32_t i = 0; i < length; i++) {
        hash = (hash ^ topic[i]) * 16777619u;
    }
    const uint16_t short_hash = (uint16_t)(hash ^ hash >> 16);
    for (uint32_t i = 0; i < instance->topic_count; i++) {
        if (instance->topics[i] == short_hash) {
            return (int32_t)i;
        }
    }
    if (instance->topic_count == APP_TOPICS) {
        return ABI_TOOBIG;
    }
    instance->topics[instance->topic_count] = short_hash;
    return instance->topic_count++;
}

static int32_t sys_send(struct call *call) {
    if (guest(call, call->cells[0], call->cells[1]) == NULL || guest(call, call->cells[2], call->cells[3]) == NULL) {
        return 0;
    }
    if (call->cells[1] == 0 || call->cells[1] > ABI_TOPIC_MAX) {
        return ABI_INVALID;
    }
    return call->cells[3] > APP_MESSAGE_MAX ? ABI_TOOBIG : 0;
}

static int32_t sys_event_read(struct call *call) {
    const struct instance *instance = call->instance;
    const uint32_t offset = call->cells[0];
    uint8_t *to = guest(call, call->cells[1], call->cells[2]);
    if (to == NULL) {
        return 0;
    }
    if (instance->phase != PHASE_EVENT) {
        return ABI_NOTFOUND;
    }
    if (offset > instance->hand_bytes) {
        return ABI_INVALID;
    }
    uint32_t length = instance->hand_bytes - offset;
    length = length < call->cells[2] ? length : call->cells[2];
    memcpy(to, instance->hand + offset, length);
    return (int32_t)length;
}

static int32_t sys_dropped(struct call *call) {
    const uint32_t dropped = call->instance->dropped;
    call->instance->dropped = 0;
    return (int32_t)dropped;
}

static enum store_type state_of(const struct call *call) {
    return (enum store_type)(STORE_STATE_0 + (uint32_t)(call->instance - app_instances));
}

static int32_t sys_state_put(struct call *call) {
    const uint8_t *state = guest(call, call->cells[0], call->cells[1]);
    if (state == NULL) {
        return 0;
    }
    if (call->instance->phase != PHASE_SAVE) {
        return ABI_DENIED;
    }
    if (call->cells[1] > APP_STATE_MAX) {
        return ABI_TOOBIG;
    }
    if (!store_put(state_of(call), state, call->cells[1])) {
        return ABI_IO;
    }
    call->instance->handed_over = true;
    return 0;
}

static int32_t sys_state_get(struct call *call) {
    uint32_t length = 0;
    if (guest(call, call->cells[0], call->cells[1]) == NULL) {
        return 0;
    }
    if (call->instance->phase != PHASE_INIT) {
        return ABI_DENIED;
    }
    const uint8_t *state = store_get(state_of(call), &length);
    if (!call->instance->handed_over || state == NULL) {
        return ABI_NOTFOUND;
    }
    return copy_out(call, call->cells[0], call->cells[1], state, length);
}

/* ---- wasmbed:sensor ---------------------------------------------------------------------------------------------------------- */

struct sensor_info {
    uint16_t kind, values;
    uint32_t rate_millihz, max_bytes;
    char name[20];
};
static const struct sensor_info sensors[APP_SENSORS] = {
    {1, 6, 100000, 48, "imu"}, {2, 2, 25000, 32, "barometer"}, {3, 3, 5000, 48, "gps"}, {4, 3, 1000, 36, "battery"}};

static int32_t sensor_count(struct call *call) {
    (void)call;
    return APP_SENSORS;
}

static int32_t sensor_info(struct call *call) {
    const uint32_t index = call->cells[0];
    if (index >= APP_SENSORS) {
        return guest(call, call->cells[1], call->cells[2]) == NULL ? 0 : ABI_NOTFOUND;
    }
    return copy_out(call, call->cells[1], call->cells[2], &sensors[index], sizeof sensors[index]);
}

static int32_t sensor_read(struct call *call) {
    uint8_t sample[APP_TELEMETRY_BYTES];
    if (guest(call, call->cells[1], call->cells[2]) == NULL) {
        return 0;
    }
    if (call->cells[0] >= APP_SENSORS) {
        return ABI_NOTFOUND;
    }
    const uint32_t length = sensors_sample(call->cells[0], sample);
    return length == 0 ? ABI_AGAIN : copy_out(call, call->cells[1], call->cells[2], sample, length);
}

static int32_t sensor_subscribe(struct call *call) {
    struct instance *instance = call->instance;
    const uint32_t index = call->cells[0];
    const int32_t interval = (int32_t)call->cells[1];
    if (index >= APP_SENSORS) {
        return ABI_NOTFOUND;
    }
    if (interval < -1 || interval > (int32_t)ABI_DAY_MS) {
        return ABI_INVALID;
    }
    const uint32_t bit = 1u << index;
    instance->sensors_on = (uint8_t)(interval < 0 ? instance->sensors_on & ~bit : instance->sensors_on | bit);
    instance->sensors[index] = (struct sensor_subscription){interval < 0 ? 0 : (uint32_t)interval, app_now_ms() - ABI_DAY_MS};
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------ */

static const struct host_entry entries[] = {
#define FUNCTION(module, name, signature, call, rate) {call, rate},
#include "host_table.h"
#undef FUNCTION
};
_Static_assert(sizeof entries / sizeof entries[0] <= 64, "a call's number fits its context");

/* Limits of calls a second, then the function itself. */
static enum wbi_status enter(struct wbi_instance *wbi, void *context, uint32_t *cells) {
    const struct host_entry *entry = context;
    struct instance *instance = host_instance(wbi);
    struct call call = {instance, cells, false, false};
    const uint32_t number = (uint32_t)(entry - entries);
    if (app_now_ms() - instance->rate_ms >= 1000) {
        instance->rate_ms = app_now_ms();
        memset(instance->rates, 0, sizeof instance->rates);
    }
    if (entry->rate_per_s != 0) {
        if (instance->rates[number] >= entry->rate_per_s) {
            cells[0] = (uint32_t)ABI_RATE;
            return WBI_OK;
        }
        instance->rates[number]++;
    }
    const int32_t result = entry->call(&call);
    if (call.outside) {
        return WBI_TRAP_MEMORY;
    }
    if (!call.wide) {
        cells[0] = (uint32_t)result;
    }
    return WBI_OK;
}

enum {
#define FUNCTION(module, name, signature, call, rate) AT_##module##_##name,
#include "host_table.h"
#undef FUNCTION
    HOST_FUNCTIONS
};
_Static_assert(HOST_FUNCTIONS <= HOST_RATES, "a counter for every function");

const struct wbi_host_function host_functions[HOST_FUNCTIONS] = {
#define FUNCTION(module, name, signature, call, rate)                                                                            \
    {"wasmbed:" #module, #name, signature, enter, (void *)(uintptr_t)&entries[AT_##module##_##name]},
#include "host_table.h"
#undef FUNCTION
};
const uint32_t host_function_count = HOST_FUNCTIONS;
