/* LEB128 and fixed-width numbers of the binary format (WebAssembly core specification, section 5.2.2). */
#include <string.h>

#include "internal.h"

uint8_t read_u8(struct wbi_loader *l) {
    if (l->at == l->end) {
        __builtin_longjmp(l->escape, 1); /* the item is not complete; nothing was done yet */
    }
    return *l->at++;
}

/* At most ceil(bits / 7) bytes; unused bits of the last one are zero, or copies of the sign. */
static uint64_t read_leb(struct wbi_loader *l, uint32_t bits, bool is_signed) {
    uint64_t value = 0;
    uint32_t shift = 0;
    for (;;) {
        const uint8_t byte = read_u8(l);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (shift + 7 >= bits) {
            const uint32_t used = bits - shift;
            if ((byte & 0x80) != 0) {
                malformed(l, "integer too long");
            }
            if (is_signed) {
                const int32_t extended = (int32_t)((uint32_t)byte << 25) >> (25 + used - 1);
                if (extended != 0 && extended != -1) {
                    malformed(l, "integer too long");
                }
            } else if ((byte >> used) != 0) {
                malformed(l, "integer too long");
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

uint32_t read_u32(struct wbi_loader *l) { return (uint32_t)read_leb(l, 32, false); }
uint64_t read_u64(struct wbi_loader *l) { return read_leb(l, 64, false); }
int32_t read_s32(struct wbi_loader *l) { return (int32_t)read_leb(l, 32, true); }
int64_t read_s33(struct wbi_loader *l) { return (int64_t)read_leb(l, 33, true); }
int64_t read_s64(struct wbi_loader *l) { return (int64_t)read_leb(l, 64, true); }

static uint64_t read_fixed(struct wbi_loader *l, uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        value |= (uint64_t)read_u8(l) << (8 * i);
    }
    return value;
}

uint32_t read_f32(struct wbi_loader *l) { return (uint32_t)read_fixed(l, 4); }
uint64_t read_f64(struct wbi_loader *l) { return read_fixed(l, 8); }

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
