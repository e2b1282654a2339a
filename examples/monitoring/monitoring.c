/* Watches over a fleet: tells the other drones of this application that this one is there, counts what comes from them
 * and logs both with its uptime every ten seconds.
 */
#include "wasmbed_text.h"

#define REPORT_EVERY_TICKS 10
/* More than the queue of a topic holds, so that a tick empties it. */
#define RECEIVE_MAX 64

static const char topic[] = "presence";
static struct wb_text line;
static char device[WB_TEXT_MAX];
static char message[WB_MESSAGE_MAX];
static int32_t device_length;
static int64_t started_ns;
static uint32_t ticks;
static uint64_t sent;
static uint64_t received;
static uint64_t lost;

static int32_t receive_all(void) {
    for (int32_t i = 0; i < RECEIVE_MAX; i++) {
        int32_t length = wb_recv(topic, (int32_t)sizeof topic - 1, message, WB_MESSAGE_MAX);
        if (length == WB_EAGAIN) {
            return 0;
        }
        if (length < 0) {
            return length;
        }
        received++;
    }
    return 0;
}

static void report(void) {
    wb_text_clear(&line);
    wb_text_add(&line, "up ");
    wb_text_add_number(&line, (uint64_t)(wb_clock_monotonic_ns() - started_ns) / 1000000000U);
    wb_text_add(&line, " s, messages sent ");
    wb_text_add_number(&line, sent);
    wb_text_add(&line, ", received ");
    wb_text_add_number(&line, received);
    wb_text_add(&line, ", lost ");
    wb_text_add_number(&line, lost);
    wb_text_log(WB_INFO, &line);
}

WB_EXPORT("wasmbed_start") int wasmbed_start(void) {
    started_ns = wb_clock_monotonic_ns();
    device_length = wb_device_name(device, (int32_t)sizeof device);
    if (device_length < 0) {
        return device_length;
    }
    wb_text_clear(&line);
    wb_text_add(&line, "monitoring ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    /* The first receive subscribes. */
    return receive_all();
}

WB_EXPORT("wasmbed_tick") int wasmbed_tick(void) {
    ticks++;
    int32_t readers = wb_send_bytes(topic, (int32_t)sizeof topic - 1, device, device_length);
    if (readers >= 0) {
        sent += (uint64_t)readers;
    } else if (readers == WB_EAGAIN) {
        lost++;
    } else {
        return readers;
    }
    int32_t result = receive_all();
    if (result == 0 && ticks % REPORT_EVERY_TICKS == 0) {
        report();
    }
    return result;
}
