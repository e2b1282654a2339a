/* Says hello for its device, then counts the seconds. */
#include "wasmbed_text.h"

static struct wb_text line;
static uint32_t ticks;

WB_EXPORT("wasmbed_start") int wasmbed_start(void) {
    wb_text_clear(&line);
    wb_text_add(&line, "hello from ");
    int32_t written = wb_text_add_device(&line);
    if (written < 0) {
        return written;
    }
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EXPORT("wasmbed_tick") int wasmbed_tick(void) {
    ticks++;
    if (ticks % 10 == 0) {
        wb_text_clear(&line);
        wb_text_add(&line, "up for ");
        wb_text_add_number(&line, ticks);
        wb_text_add(&line, " ticks");
        wb_text_log(WB_INFO, &line);
    }
    return 0;
}
