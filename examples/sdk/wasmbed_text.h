/* Builds one line of text in a fixed buffer; what does not fit is left out. Define WB_TEXT_MAX before including this
 * for another size.
 */
#ifndef WASMBED_TEXT_H
#define WASMBED_TEXT_H

#include <stdint.h>

#include "wasmbed.h"

#ifndef WB_TEXT_MAX
#define WB_TEXT_MAX 192
#endif

struct wb_text {
    int32_t length;
    char bytes[WB_TEXT_MAX];
};

static inline void wb_text_clear(struct wb_text *text) {
    text->length = 0;
}

static inline void wb_text_add_bytes(struct wb_text *text, const char *more, int32_t length) {
    for (int32_t i = 0; i < length && text->length < WB_TEXT_MAX; i++) {
        text->bytes[text->length++] = more[i];
    }
}

static inline void wb_text_add(struct wb_text *text, const char *more) {
    for (int32_t i = 0; more[i] != '\0' && text->length < WB_TEXT_MAX; i++) {
        text->bytes[text->length++] = more[i];
    }
}

/* Adds a decimal number with at least `width` digits (1 to 20), zeroes in front. */
static inline void wb_text_add_digits(struct wb_text *text, uint64_t value, int32_t width) {
    char digits[20];
    int32_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while ((value != 0 || count < width) && count < 20);
    while (count > 0 && text->length < WB_TEXT_MAX) {
        text->bytes[text->length++] = digits[--count];
    }
}

static inline void wb_text_add_number(struct wb_text *text, uint64_t value) {
    wb_text_add_digits(text, value, 1);
}

static inline void wb_text_add_signed(struct wb_text *text, int64_t value) {
    if (value < 0) {
        wb_text_add_bytes(text, "-", 1);
    }
    wb_text_add_digits(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 1);
}

/* Adds a value with 0 to 9 decimals, rounded to nearest (halves away from zero): "21.50", "-0.3". What is not finite
 * or has more than 18 digits in all becomes "nan", which is no JSON: use wb_text_add_json there. */
static inline void wb_text_add_decimal(struct wb_text *text, double value, int32_t decimals) {
    uint64_t power = 1;
    for (int32_t i = 0; i < decimals && i < 9; i++) {
        power *= 10;
    }
    const double scaled = (value < 0 ? -value : value) * (double)power + 0.5;
    if (!(scaled < 1e18)) {
        wb_text_add(text, "nan");
        return;
    }
    const uint64_t whole = (uint64_t)scaled;
    if (value < 0 && whole != 0) {
        wb_text_add_bytes(text, "-", 1);
    }
    wb_text_add_digits(text, whole / power, 1);
    if (decimals > 0) {
        wb_text_add_bytes(text, ".", 1);
        wb_text_add_digits(text, whole % power, decimals < 9 ? decimals : 9);
    }
}

/* The same as a JSON value: null instead of "nan". */
static inline void wb_text_add_json(struct wb_text *text, double value, int32_t decimals) {
    const int32_t before = text->length;
    wb_text_add_decimal(text, value, decimals);
    if (text->length > before && text->bytes[before] == 'n') {
        text->length = before;
        wb_text_add(text, "null");
    }
}

/* Adds namespace/name of the device; a negative WB_E* code when it does not fit. */
static inline int32_t wb_text_add_device(struct wb_text *text) {
    const int32_t written = wb_device_name(text->bytes + text->length, WB_TEXT_MAX - text->length);
    if (written > 0) {
        text->length += written;
    }
    return written;
}

static inline void wb_text_log(enum wb_level level, const struct wb_text *text) {
    wb_log_bytes((int32_t)level, text->bytes, text->length);
}

#endif
