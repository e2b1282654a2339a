/* LEB128 and fixed-width numbers of the binary format (WebAssembly core specification, section 5.2.2). */
#include <string.h>

#include "internal.h"

uint8_t read_u8(struct reader *r) {
    if (r->state != READ_OK || r->at == r->end) {
        if (r->state == READ_OK) {
            r->state = READ_SHORT;
        }
        return 0;
    }
    return *r->at++;
}

/* At most ceil(bits / 7) bytes; unused bits of the last one are zero, or copies of the sign. */
static uint64_t read_leb(struct reader *r, uint32_t bits, bool is_signed) {
    uint64_t value = 0;
    uint32_t shift = 0;
    for (;;) {
        const uint8_t byte = read_u8(r);
        if (r->state != READ_OK) {
            return 0;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (shift + 7 >= bits) {
            const uint32_t used = bits - shift;
            if ((byte & 0x80) != 0) {
                r->state = READ_BAD;
                return 0;
            }
            if (is_signed) {
                const int32_t extended = (int32_t)((uint32_t)byte << 25) >> (25 + used - 1);
                if (extended != 0 && extended != -1) {
                    r->state = READ_BAD;
                    return 0;
                }
            } else if ((byte >> used) != 0) {
                r->state = READ_BAD;
                return 0;
            }
        }
        shift += 7;
        if ((byte & 0x80) == 0) {
            if (is_signed && shift < 64 && (byte & 0x40) != 0) {
                value |= ~UINT64_C(0) << shift;
            }
            return value;
        }
    }
}

uint32_t read_u32(struct reader *r) { return (uint32_t)read_leb(r, 32, false); }
uint64_t read_u64(struct reader *r) { return read_leb(r, 64, false); }
int32_t read_s32(struct reader *r) { return (int32_t)read_leb(r, 32, true); }
int64_t read_s33(struct reader *r) { return (int64_t)read_leb(r, 33, true); }
int64_t read_s64(struct reader *r) { return (int64_t)read_leb(r, 64, true); }

static uint64_t read_fixed(struct reader *r, uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        value |= (uint64_t)read_u8(r) << (8 * i);
    }
    return value;
}

uint32_t read_f32(struct reader *r) { return (uint32_t)read_fixed(r, 4); }
uint64_t read_f64(struct reader *r) { return read_fixed(r, 8); }

uint16_t object_u16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, 2);
    return value;
}

uint32_t object_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}
