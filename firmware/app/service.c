/* What the link asks of the firmware. */
#include <string.h>

#include "app.h"
#include "hal.h"

static const struct wb_info info = {
    .board = hal_board_name,
    .firmware = APP_VERSION,
    .module_bytes = APP_MODULE_BYTES,
    .memory_bytes = APP_MEMORY_BYTES,
    .stack_bytes = APP_STACK_BYTES,
    .receive_ring = APP_RECEIVE_RING,
    .instances = APP_INSTANCES,
};

static enum wb_rc provide(void *context, uint32_t available) {
    (void)context;
    app_available = available;
    if ((available & WB_GRANT_PX4) == 0) {
        telemetry_forget(); /* what the vehicle said before it went is of no use when it is back */
    }
    return WB_RC_OK;
}

static void health(void *context, struct wb_health *out) {
    (void)context;
    static const uint8_t reasons[RESET_REASONS] = {WB_RESET_POWER, WB_RESET_PIN, WB_RESET_SOFTWARE, WB_RESET_CRASH,
                                                   WB_RESET_WATCHDOG};
    struct crash_record record;
    out->uptime_s = (uint32_t)(hal_now_us() / 1000000u);
    out->changes = instances_changes();
    out->reset_reason = reasons[crash_reason()];
    out->crashed = crash_get(&record);
}

static bool crash(void *context, struct wb_crash *out) {
    (void)context;
    struct crash_record record;
    if (!crash_get(&record)) {
        return false;
    }
    const char *kind = crash_kind_name((enum crash_kind)record.kind);
    out->cause = record.cause;
    out->pc = record.pc;
    out->address = record.address;
    out->status = record.kind | (uint32_t)record.reason << 8 | (uint32_t)record.place << 16;
    out->uptime_s = record.uptime_ms / 1000;
    out->count = record.sequence;
    out->what = (struct wb_text){kind, (uint32_t)strlen(kind)};
    return true;
}

static enum wb_rc clear_crash(void *context) {
    (void)context;
    crash_clear();
    return WB_RC_OK;
}

static uint32_t statistics(void *context, struct wb_cbor_out *out) {
    (void)context;
    const struct hal_uart_statistics *uart = hal_uart_statistics();
    const uint32_t values[] = {uart->received, uart->sent, uart->lost, uart->errors, hal_stack_used(), hal_stack_bytes(),
                               crash_boots()};
    const uint32_t count = sizeof values / sizeof values[0];
    for (uint32_t i = 0; i < count; i++) {
        wb_put_uint(out, 64 + i);
        wb_put_uint(out, values[i]);
    }
    return count;
}

static void reset(void *context) {
    (void)context;
    app_reset_wanted = true;
}

const struct wb_app app_service = {
    .info = &info,
    .upload_begin = modules_begin,
    .upload_write = modules_write,
    .upload_end = modules_end,
    .module_count = modules_count,
    .module_row = modules_row,
    .module_remove = modules_remove,
    .start = instances_start,
    .stop = instances_stop,
    .instance_count = instances_count,
    .instance_row = instances_row,
    .deliver = events_deliver,
    .provide = provide,
    .secret = secure_secret,
    .sensor = sensors_put,
    .accepted = notes_accepted,
    .next = notes_next,
    .health = health,
    .crash = crash,
    .crash_clear = clear_crash,
    .statistics = statistics,
    .reset = reset,
    .image = image_state,
    .image_set = image_set,
    .image_begin = image_begin,
    .image_erase = image_erase,
};
