/* Says hello for its device, then counts the seconds. */
#include "wasmbed_text.h"

WB_APPLICATION;

#define SECOND_MS 1000

static struct wb_text line;
static uint32_t seconds;

WB_INIT {
    wb_text_clear(&line);
    wb_text_add(&line, "hello from ");
    int32_t written = wb_text_add_device(&line);
    if (written < 0) {
        return written;
    }
    wb_text_log(WB_INFO, &line);
    return wb_timer_set(0, SECOND_MS, SECOND_MS);
}

WB_EVENT {
    (void)source;
    (void)length;
    if (type == WB_TIMER && ++seconds % 10 == 0) {
        wb_text_clear(&line);
        wb_text_add(&line, "up for ");
        wb_text_add_number(&line, seconds);
        wb_text_add(&line, " s");
        wb_text_log(WB_INFO, &line);
    }
    return 0;
}
