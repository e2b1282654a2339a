/* Builds one line of text in a fixed buffer; what does not fit is left out. */
#ifndef WASMBED_TEXT_H
#define WASMBED_TEXT_H

#include "wasmbed.h"

#define WB_TEXT_MAX 192

struct wb_text {
    int32_t length;
    char bytes[WB_TEXT_MAX];
};

static inline void wb_text_clear(struct wb_text *text) {
    text->length = 0;
}

static inline void wb_text_add(struct wb_text *text, const char *more) {
    for (int32_t i = 0; more[i] != '\0' && text->length < WB_TEXT_MAX; i++) {
        text->bytes[text->length++] = more[i];
    }
}

static inline void wb_text_add_number(struct wb_text *text, uint64_t value) {
    char digits[20];
    int32_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0 && text->length < WB_TEXT_MAX) {
        text->bytes[text->length++] = digits[--count];
    }
}

/* Adds namespace/name of the device; a negative errno value when it does not fit. */
static inline int32_t wb_text_add_device(struct wb_text *text) {
    int32_t written = wb_device_name(text->bytes + text->length, WB_TEXT_MAX - text->length);
    if (written > 0) {
        text->length += written;
    }
    return written;
}

static inline void wb_text_log(enum wb_level level, const struct wb_text *text) {
    wb_log_bytes((int32_t)level, text->bytes, text->length);
}

#endif
