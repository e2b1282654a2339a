/* Watches over a fleet: tells the other drones of this application that this one is there, counts what comes from them
 * and logs both with its uptime every ten seconds.
 */
#include "wasmbed_text.h"

WB_APPLICATION;

enum timers { SEND, REPORT };
#define SEND_MS 1000
#define REPORT_MS 10000

static const char topic[] = "presence";
static struct wb_text line;
static char device[WB_TEXT_MAX];
static int32_t device_length;
static int64_t started_ns;
static uint64_t sent;
static uint64_t received;
static uint64_t lost;

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

WB_INIT {
    started_ns = wb_clock_monotonic_ns();
    device_length = wb_device_name(device, (int32_t)sizeof device);
    if (device_length < 0) {
        return device_length;
    }
    wb_text_clear(&line);
    wb_text_add(&line, "monitoring ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    int32_t handle = wb_subscribe(topic);
    if (handle < 0) {
        return handle;
    }
    int32_t result = wb_timer_set(SEND, SEND_MS, SEND_MS);
    return result == 0 ? wb_timer_set(REPORT, REPORT_MS, REPORT_MS) : result;
}

WB_EVENT {
    (void)length;
    lost += (uint64_t)wb_dropped();
    if (type == WB_MESSAGE) {
        received++;
    } else if (type == WB_TIMER && source == REPORT) {
        report();
    } else if (type == WB_TIMER && source == SEND) {
        int32_t readers = wb_send(topic, device, device_length);
        if (readers < 0) {
            return readers;
        }
        sent += (uint64_t)readers;
    }
    return 0;
}
