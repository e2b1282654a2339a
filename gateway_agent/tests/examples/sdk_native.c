/* The SDK's headers as native functions, for test_examples_sdk.py. */
#include "wasmbed_cbor.h"
#include "wasmbed_env.h"
#include "wasmbed_math.h"
#include "wasmbed_text.h"
static struct wb_text text;
static const char *setting;
int32_t wb_device_name(char *buffer, int32_t capacity) {
    (void)buffer;
    return capacity < 5 ? WB_ETOOBIG : 5;
}

void wb_log_bytes(int32_t level, const char *line, int32_t length) {
    (void)level;
    (void)line;
    (void)length;
}

int32_t wb_env_bytes(const char *name, int32_t length, char *buffer, int32_t capacity) {
    (void)name;
    (void)length;
    if (!setting) {
        return WB_ENOTFOUND;
    }
    int32_t all = wb_strlen(setting);
    if (all > capacity) {
        return WB_ETOOBIG;
    }
    for (int32_t i = 0; i < all; i++) {
        buffer[i] = setting[i];
    }
    return all;
}
const char *t_bytes(void) {
    return text.bytes;
}

int32_t t_decimal(double value, int32_t decimals) {
    wb_text_clear(&text);
    wb_text_add_decimal(&text, value, decimals);
    return text.length;
}

int32_t t_json(double value, int32_t decimals) {
    wb_text_clear(&text);
    wb_text_add_json(&text, value, decimals);
    return text.length;
}

int32_t t_signed(int64_t value) {
    wb_text_clear(&text);
    wb_text_add_signed(&text, value);
    return text.length;
}

int32_t t_fill(const char *more, int32_t times) {
    wb_text_clear(&text);
    while (times--) {
        wb_text_add(&text, more);
    }
    return text.length;
}

int32_t e_read(const char *from, double *value) {
    int32_t at = 0;
    return wb_read_decimal(from, wb_strlen(from), &at, value) ? at : -1;
}

int32_t e_env(const char *value, double low, double high, double *out) {
    setting = value;
    return wb_env_decimal("X", 7.0, low, high, out);
}

double m_sin(double x) {
    return wb_sin(x);
}

double m_cos(double x) {
    return wb_cos(x);
}

int32_t m_finite(double x) {
    return wb_finite(x);
}

float m_clamp(float x, float a, float b) {
    return wb_clampf(x, a, b);
}

float m_min(float a, float b) {
    return wb_minf(a, b);
}

float m_max(float a, float b) {
    return wb_maxf(a, b);
}

int32_t c_all(void *to, int32_t capacity, int64_t number, float narrow, double wide, const char *word,
              const void *data, int32_t length) {
    struct wb_cbor c;
    wb_cbor_begin(&c, to, capacity);
    wb_cbor_array(&c, 7);
    wb_cbor_int(&c, number);
    wb_cbor_float(&c, narrow);
    wb_cbor_double(&c, wide);
    wb_cbor_text(&c, word);
    wb_cbor_bytes(&c, data, length);
    wb_cbor_bool(&c, number < 0);
    wb_cbor_map(&c, 1);
    wb_cbor_text(&c, "k");
    wb_cbor_int(&c, 1);
    return c.overflow ? -c.length : c.length;
}
