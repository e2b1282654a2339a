/* Reads the values of the manifest's spec.env. */
#ifndef WASMBED_ENV_H
#define WASMBED_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "wasmbed.h"

/* Reads one decimal number ("-12.5", no exponent, at most 18 digits) that begins at *at; moves *at behind it. False
 * when there is none: then *at and *value stay as they are. */
static inline bool wb_read_decimal(const char *text, int32_t length, int32_t *at, double *value) {
    int32_t i = *at;
    const bool negative = i < length && text[i] == '-';
    if (negative || (i < length && text[i] == '+')) {
        i++;
    }
    int64_t digits = 0;
    double divisor = 1.0;
    int32_t count = 0;
    bool point = false;
    for (; i < length; i++) {
        if (text[i] == '.' && !point) {
            point = true;
        } else if (text[i] >= '0' && text[i] <= '9' && count < 18) {
            digits = digits * 10 + (text[i] - '0');
            divisor *= point ? 10.0 : 1.0;
            count++;
        } else {
            break;
        }
    }
    if (count == 0 || (i < length && text[i] >= '0' && text[i] <= '9')) {
        return false;
    }
    *at = i;
    *value = (double)(negative ? -digits : digits) / divisor;
    return true;
}

/* The number in an environment variable. Without the variable: the fallback. One that is no number, or not in
 * [low, high], is logged as an error and the result is false. */
static inline bool wb_env_decimal(const char *name, double fallback, double low, double high, double *value) {
    char text[32];
    int32_t at = 0;
    const int32_t length = wb_env(name, text, (int32_t)sizeof text);
    if (length == WB_ENOTFOUND) {
        *value = fallback;
        return true;
    }
    if (length > 0 && wb_read_decimal(text, length, &at, value) && at == length && *value >= low && *value <= high) {
        return true;
    }
    wb_log(WB_ERROR, "the next variable of spec.env is no number in its range:");
    wb_log(WB_ERROR, name);
    return false;
}

#endif
