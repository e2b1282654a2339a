/* The smallest useful application: averages readings and reports; what the memory of a C module cannot go below. */
#include "wasmbed.h"

WB_APPLICATION;

static int32_t history[8];
static uint32_t count;

WB_INIT {
    wb_log(WB_INFO, "started");
    return wb_timer_set(0, 1000, 1000);
}

WB_EVENT {
    int32_t sum = 0;
    (void)type;
    (void)source;
    (void)length;
    history[count++ % 8] = (int32_t)(wb_clock_monotonic_ns() >> 10) & 0xff;
    for (uint32_t i = 0; i < 8; i++) {
        sum += history[i];
    }
    if (sum / 8 > 200) {
        wb_log(WB_WARN, "high");
    }
    return 0;
}
