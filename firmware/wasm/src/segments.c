/* Constant expressions, element and data segments. */
#include "internal.h"

/* A constant expression of this type (T_ANY: any). Reads up to its end. */
void const_expression(struct wbi_loader *l, uint8_t type, struct wbi_global *g) {
    const uint8_t opcode = read_u8(l);
    uint8_t found = T_I32;
    uint64_t bits = 0;
    g->init = WBI_INIT_CONST;
    switch (opcode) {
    case 0x41: bits = (uint32_t)read_s32(l); break;
    case 0x42: bits = (uint64_t)read_s64(l); found = T_I64; break;
    case 0x43: bits = read_f32(l); found = T_F32; break;
    case 0x44: bits = read_f64(l); found = T_F64; break;
    case 0x23:
        bits = read_u32(l);
        if (bits >= l->header.import_globals) {
            invalid(l, "unknown global");
        }
        const struct wbi_global *other =
            (const struct wbi_global *)(const void *)(l->flash.base + l->header.globals) + bits;
        if ((other->type & 0x80) != 0) {
            invalid(l, "not a constant expression");
        }
        found = other->type & 3;
        g->init = WBI_INIT_GLOBAL;
        break;
    case 0xd0:
    case 0xd2: refuse(l, WBI_UNSUPPORTED, "reference types");
    default: invalid(l, "not a constant expression");
    }
    const uint8_t end = read_u8(l);
    if (end != 0x0b) {
        invalid(l, "not a constant expression");
    }
    if (found != type) {
        invalid(l, "type mismatch");
    }
    g->low = (uint32_t)bits;
    g->high = (uint32_t)(bits >> 32);
}

static void begin_segment(struct wbi_loader *l, uint32_t table, uint8_t mode, const struct wbi_global *g, uint32_t count) {
    const struct wbi_segment s = {mode, g->init, 0, g->low, count};
    out_align(l, 4);
    out_patch_u32(l, table + 4 * l->item, l->out);
    out_bytes(l, &s, sizeof s);
}

void element_item(struct wbi_loader *l) {
    struct wbi_global g = {0};
    const uint32_t flags = read_u32(l);
    uint8_t kind = 0;
    if (flags > 7) {
        malformed(l, "malformed segment kind");
    }
    const bool active = (flags & 1) == 0;
    const uint32_t table = active && (flags & 2) != 0 ? read_u32(l) : 0;
    if (active) {
        if (((l->header.flags & WBI_HAS_TABLE) == 0 || table != 0)) {
            invalid(l, "unknown table");
        }
        const_expression(l, T_I32, &g);
    }
    if ((flags & 3) != 0) {
        kind = read_u8(l);
        if (kind != ((flags & 4) != 0 ? 0x70 : 0)) {
            kind == 0x6f ? refuse(l, WBI_UNSUPPORTED, "reference types") : malformed(l, "malformed element kind");
        }
    }
    const uint32_t count = read_u32(l);
    begin_segment(l, l->header.elements, active ? 0 : (flags & 2) != 0 ? 2 : 1, &g, count);
    l->elem_flags = (uint8_t)flags;
    l->sub_left = count;
    l->state = ST_ELEMENT_ITEM;
    if (count == 0) {
        next_item(l, ST_ELEMENT);
    }
}

void element_value(struct wbi_loader *l) {
    uint32_t function;
    if ((l->elem_flags & 4) != 0) {
        const uint8_t opcode = read_u8(l);
        if (opcode != 0xd0 && opcode != 0xd2) {
            opcode == 0x23 ? refuse(l, WBI_UNSUPPORTED, "reference types")
                                  : invalid(l, "not a constant expression");
        }
        function = opcode == 0xd0 ? (read_u8(l) == 0x70 ? WBI_NONE : WBI_NONE - 1) : read_u32(l);
        if (read_u8(l) != 0x0b) {
            invalid(l, "not a constant expression");
        }
        if (opcode == 0xd0 && function != WBI_NONE) {
            invalid(l, "type mismatch");
        }
    } else {
        function = read_u32(l);
    }
    if (function != WBI_NONE && function >= l->header.func_count) {
        invalid(l, "unknown function");
    }
    out_u16(l, function);
    if (--l->sub_left == 0) {
        next_item(l, ST_ELEMENT);
    }
}

void data_item(struct wbi_loader *l) {
    struct wbi_global g = {0};
    const uint32_t flags = read_u32(l);
    if (flags > 2) {
        malformed(l, "malformed segment kind");
    }
    const uint32_t memory = flags == 2 ? read_u32(l) : 0;
    if (flags != 1) {
        if (((l->header.flags & WBI_HAS_MEMORY) == 0 || memory != 0)) {
            invalid(l, "unknown memory");
        }
        const_expression(l, T_I32, &g);
    }
    const uint32_t length = read_u32(l);
    l->stream_left = length;
    l->stream_text = false;
    l->stream_next = ST_DATA_BYTES;
    l->state = ST_STREAM;
    begin_segment(l, l->header.datas, flags == 1 ? 1 : 0, &g, length);
}
