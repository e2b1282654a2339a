#include <stdarg.h>

#include "platform.h"

static void number(uint32_t value, uint32_t base) {
    char digits[12];
    uint32_t at = sizeof digits;
    do {
        const uint32_t digit = value % base;
        digits[--at] = (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
        value /= base;
    } while (value != 0);
    platform_write(digits + at, (uint32_t)sizeof digits - at);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (const char *at = format; *at != '\0'; at++) {
        uint32_t length = 0;
        while (at[length] != '%' && at[length] != '\0') {
            length++;
        }
        if (length != 0) {
            platform_write(at, length);
            at += length - 1;
            continue;
        }
        at++;
        if (*at == 's') {
            const char *text = va_arg(arguments, const char *);
            uint32_t bytes = 0;
            while (text[bytes] != '\0') {
                bytes++;
            }
            platform_write(text, bytes);
        } else if (*at == 'c') {
            const char letter = (char)va_arg(arguments, int);
            platform_write(&letter, 1);
        } else if (*at == 'd') {
            const int32_t value = va_arg(arguments, int);
            if (value < 0) {
                platform_write("-", 1);
            }
            number(value < 0 ? 0u - (uint32_t)value : (uint32_t)value, 10);
        } else {
            number(va_arg(arguments, uint32_t), *at == 'x' ? 16 : 10);
        }
    }
    va_end(arguments);
}
