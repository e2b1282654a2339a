/* Says hello for its device, then counts the seconds. */
#include "wasmbed.h"

static char line[160];
static uint32_t ticks;

static int32_t append(int32_t at, const char *text) {
    for (int32_t i = 0; text[i] != '\0' && at < (int32_t)sizeof line; i++) {
        line[at++] = text[i];
    }
    return at;
}

static int32_t append_number(int32_t at, uint32_t value) {
    char digits[10];
    int32_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0 && at < (int32_t)sizeof line) {
        line[at++] = digits[--count];
    }
    return at;
}

WB_EXPORT("wasmbed_start") int wasmbed_start(void) {
    int32_t at = append(0, "hello from ");
    int32_t written = wb_device_name(line + at, (int32_t)sizeof line - at);
    if (written < 0) {
        return written;
    }
    wb_log_bytes(WB_INFO, line, at + written);
    return 0;
}

WB_EXPORT("wasmbed_tick") int wasmbed_tick(void) {
    ticks++;
    if (ticks % 10 == 0) {
        int32_t at = append_number(append(0, "up for "), ticks);
        wb_log_bytes(WB_INFO, line, append(at, " ticks"));
    }
    return 0;
}
