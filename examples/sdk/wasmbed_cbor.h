/* Writes CBOR (RFC 8949) into a buffer: the compact form for what leaves the device. The lengths are the shortest ones,
 * floats are 32 bits wide. What does not fit sets `overflow` and is left out, so one look at the end is enough.
 */
#ifndef WASMBED_CBOR_H
#define WASMBED_CBOR_H

#include <stdbool.h>
#include <stdint.h>

struct wb_cbor {
    uint8_t *bytes;
    int32_t capacity;
    int32_t length;
    bool overflow;
};

static inline void wb_cbor_begin(struct wb_cbor *cbor, void *buffer, int32_t capacity) {
    cbor->bytes = buffer;
    cbor->capacity = capacity;
    cbor->length = 0;
    cbor->overflow = false;
}

/* An initial byte and `count` bytes of value, most significant first. */
static inline void wb_cbor_put(struct wb_cbor *cbor, uint8_t first, uint64_t value, int32_t count) {
    if (cbor->overflow || cbor->capacity - cbor->length < count + 1) {
        cbor->overflow = true;
        return;
    }
    cbor->bytes[cbor->length++] = first;
    for (int32_t i = count - 1; i >= 0; i--) {
        cbor->bytes[cbor->length++] = (uint8_t)(value >> (8 * i));
    }
}

static inline void wb_cbor_head(struct wb_cbor *cbor, uint8_t major, uint64_t value) {
    const uint8_t first = (uint8_t)(major << 5);
    if (value < 24) {
        wb_cbor_put(cbor, (uint8_t)(first | value), 0, 0);
    } else if (value <= 0xff) {
        wb_cbor_put(cbor, first | 24, value, 1);
    } else if (value <= 0xffff) {
        wb_cbor_put(cbor, first | 25, value, 2);
    } else if (value <= 0xffffffff) {
        wb_cbor_put(cbor, first | 26, value, 4);
    } else {
        wb_cbor_put(cbor, first | 27, value, 8);
    }
}

static inline void wb_cbor_int(struct wb_cbor *cbor, int64_t value) {
    wb_cbor_head(cbor, value < 0 ? 1 : 0, value < 0 ? ~(uint64_t)value : (uint64_t)value);
}

static inline void wb_cbor_float(struct wb_cbor *cbor, float value) {
    union {
        float value;
        uint32_t bits;
    } as = {value};
    wb_cbor_put(cbor, 0xfa, as.bits, 4);
}

static inline void wb_cbor_double(struct wb_cbor *cbor, double value) {
    union {
        double value;
        uint64_t bits;
    } as = {value};
    wb_cbor_put(cbor, 0xfb, as.bits, 8);
}

static inline void wb_cbor_bool(struct wb_cbor *cbor, bool value) {
    wb_cbor_put(cbor, value ? 0xf5 : 0xf4, 0, 0);
}

static inline void wb_cbor_array(struct wb_cbor *cbor, int32_t count) {
    wb_cbor_head(cbor, 4, (uint64_t)count);
}

static inline void wb_cbor_map(struct wb_cbor *cbor, int32_t pairs) {
    wb_cbor_head(cbor, 5, (uint64_t)pairs);
}

static inline void wb_cbor_chunk(struct wb_cbor *cbor, uint8_t major, const void *data, int32_t length) {
    const uint8_t *from = data;
    wb_cbor_head(cbor, major, (uint64_t)length);
    if (cbor->overflow || cbor->capacity - cbor->length < length) {
        cbor->overflow = true;
        return;
    }
    for (int32_t i = 0; i < length; i++) {
        cbor->bytes[cbor->length++] = from[i];
    }
}

static inline void wb_cbor_text(struct wb_cbor *cbor, const char *text) {
    int32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    wb_cbor_chunk(cbor, 3, text, length);
}

static inline void wb_cbor_bytes(struct wb_cbor *cbor, const void *data, int32_t length) {
    wb_cbor_chunk(cbor, 2, data, length);
}

#endif
