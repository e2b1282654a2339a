/* The application of the ROS 2 benchmark: reads every message of its route whole. With SAMPLES it notes, after the first
 * SKIP messages, for so many of them the time that stands first in the message and its own, and then logs both in
 * hexadecimal. */
#include "wasmbed_env.h"
#include "wasmbed_text.h"

WB_APPLICATION;

#define MOST 4096
#define PAIRS_A_LINE 100
#define DIGITS 16

static struct {
    int64_t sent, seen;
} samples[MOST];
static char line[PAIRS_A_LINE * 2 * DIGITS];
static uint8_t message[sizeof(struct wb_ros2_header) + 4096];
static int32_t wanted, skip, count;

static void put(char *at, int64_t value) {
    for (int32_t i = 0; i < DIGITS; i++) {
        at[i] = "0123456789abcdef"[((uint64_t)value >> (60 - 4 * i)) & 15];
    }
}

static void tell(void) {
    for (int32_t first = 0; first < count; first += PAIRS_A_LINE) {
        int32_t length = 0;
        for (int32_t i = first; i < count && i < first + PAIRS_A_LINE; i++) {
            put(line + length, samples[i].sent);
            put(line + length + DIGITS, samples[i].seen);
            length += 2 * DIGITS;
        }
        wb_log_bytes(WB_INFO, line, length);
    }
    wb_log(WB_INFO, "end");
}

WB_INIT {
    double number;
    if (!wb_env_decimal("SAMPLES", 0.0, 0.0, MOST, &number)) {
        return WB_EINVALID;
    }
    wanted = (int32_t)number;
    if (!wb_env_decimal("SKIP", 0.0, 0.0, 1e6, &number)) {
        return WB_EINVALID;
    }
    skip = (int32_t)number;
    return wb_ros2_open("in") < 0;
}

WB_EVENT {
    (void)source;
    if (type != WB_ROS2) {
        return 0;
    }
    const int32_t read = wb_event_read(0, message, (int32_t)sizeof message);
    if (read != length || wanted == 0) {
        return read == length ? 0 : WB_ETOOBIG;
    }
    if (skip > 0) {
        skip--;
    } else if (count < wanted) {
        /* Behind the encapsulation header of CDR. */
        __builtin_memcpy(&samples[count].sent, message + sizeof(struct wb_ros2_header) + 4, sizeof(int64_t));
        samples[count].seen = wb_clock_realtime_ns();
        if (++count == wanted) {
            tell();
        }
    }
    return 0;
}
