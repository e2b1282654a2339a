/* The newest sample of every sensor. Values come from outside: the QEMU host's simulation, or the gateway. */
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "hal.h"

struct sample_header {
    int64_t time_ns;
    uint16_t kind, count, width, height;
    uint32_t format, bytes;
};
_Static_assert(sizeof(struct sample_header) == 24, "wb_sample");

#define VALUE_BYTES 24u
enum { FORMAT_F32 = 0, FORMAT_F64 = 4 };
static const struct {
    uint8_t count, format, bytes;
} shapes[APP_SENSORS] = {{6, FORMAT_F32, 24}, {2, FORMAT_F32, 8}, {3, FORMAT_F64, 24}, {3, FORMAT_F32, 12}};

static struct {
    int64_t time_ns; /* 0: none yet */
    uint8_t values[VALUE_BYTES];
} newest[APP_SENSORS];

int64_t app_realtime_ns(void) {
    int64_t unix_us;
    uint32_t age_ms;
    uint32_t error_us;
    if (wb_link_time(&app_link, app_now_ms(), &unix_us, &age_ms, &error_us)) {
        return unix_us * 1000;
    }
    return (int64_t)(hal_now_us() * 1000u);
}

uint32_t sensors_sample(uint32_t index, uint8_t sample[APP_TELEMETRY_BYTES]) {
    if (newest[index].time_ns == 0) {
        return 0;
    }
    const struct sample_header header = {newest[index].time_ns, (uint16_t)(index + 1), shapes[index].count, 0, 0,
                                         shapes[index].format, shapes[index].bytes};
    memcpy(sample, &header, sizeof header);
    memcpy(sample + sizeof header, newest[index].values, shapes[index].bytes);
    return (uint32_t)sizeof header + shapes[index].bytes;
}

enum wb_rc sensors_put(void *context, uint32_t sensor, uint64_t time_us, const uint8_t *data, uint32_t length) {
    (void)context;
    if (sensor == 0 || sensor > APP_SENSORS || length != shapes[sensor - 1].bytes) {
        return WB_RC_INVAL;
    }
    const uint32_t index = sensor - 1;
    newest[index].time_ns = time_us != 0 ? (int64_t)(time_us * 1000u) : app_realtime_ns();
    memcpy(newest[index].values, data, length);
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        app_instances[i].sensors_fresh = (uint8_t)(app_instances[i].sensors_fresh | 1u << index);
    }
    return WB_RC_OK;
}
