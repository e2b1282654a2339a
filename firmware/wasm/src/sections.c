/* The sections of a module, item by item, into the tables of the object. */
#include <string.h>

#include "internal.h"

static const uint16_t max_index = 0xfffe;

const uint8_t *object_type(const uint8_t *base, const struct wbi_header *h, uint32_t type) {
    return base + object_u32(base + h->types + 4 * type);
}

static void value_type(struct wbi_loader *l, uint8_t code, uint8_t *type) {
    if (code >= 0x7c && code <= 0x7f) {
        *type = (uint8_t)(0x7f - code);
        return;
    }
    if (code == 0x7b || code == 0x70 || code == 0x6f) {
        refuse(l, WBI_UNSUPPORTED, "reference types");
    }
    malformed(l, "malformed value type");
}

struct limits {
    uint32_t min, max;
    uint8_t page_log2;
};

static void read_limits(struct wbi_loader *l, bool memory, struct limits *limits) {
    const uint8_t flags = read_u8(l);
    if ((flags & (memory ? 0xf4u : 0xfeu)) != 0) {
        (flags & 0xf0u) == 0 && memory ? refuse(l, WBI_UNSUPPORTED, "64-bit memory") : malformed(l, "malformed limits flags");
    }
    if ((flags & 2u) != 0) {
        refuse(l, WBI_UNSUPPORTED, "shared memory");
    }
    limits->min = read_u32(l);
    limits->max = (flags & 1) != 0 ? read_u32(l) : WBI_NONE;
    limits->page_log2 = 16;
    if ((flags & 8u) != 0) {
        const uint32_t log2 = read_u32(l);
        if (log2 >= 64) {
            malformed(l, "invalid custom page size");
        }
        if (log2 != 0 && log2 != 16) {
            invalid(l, "invalid custom page size");
        }
        limits->page_log2 = (uint8_t)log2;
    }
    if (memory && limits->page_log2 == 16) {
        if (limits->min > 65536 || ((flags & 1) != 0 && limits->max > 65536)) {
            invalid(l, "memory larger than 4 GiB");
        }
        if ((flags & 1) == 0) {
            limits->max = 65536;
        }
    }
    if (limits->min > limits->max) {
        invalid(l, "minimum above maximum");
    }
}

static void set_memory(struct wbi_loader *l, const struct limits *limits, bool imported) {
    struct wbi_header *h = &l->header;
    if ((h->flags & WBI_HAS_MEMORY) != 0) {
        refuse(l, WBI_UNSUPPORTED, "multiple memories");
    }
    if (l->limits.memory_bytes != 0 && ((uint64_t)limits->min << limits->page_log2) > l->limits.memory_bytes) {
        refuse(l, WBI_LIMIT, "memory larger than the board's limit");
    }
    h->flags = (uint16_t)(h->flags | WBI_HAS_MEMORY | (imported ? WBI_MEMORY_IMPORTED : 0));
    h->memory_min = limits->min;
    h->memory_max = limits->max;
    h->page_log2 = limits->page_log2;
}

static void set_table(struct wbi_loader *l, const struct limits *limits, bool imported) {
    struct wbi_header *h = &l->header;
    if ((h->flags & WBI_HAS_TABLE) != 0) {
        refuse(l, WBI_UNSUPPORTED, "multiple tables");
    }
    h->flags = (uint16_t)(h->flags | WBI_HAS_TABLE | (imported ? WBI_TABLE_IMPORTED : 0));
    h->table_min = limits->min;
    h->table_max = limits->max;
}

static void make_functions(struct wbi_loader *l, uint32_t defined) {
    struct wbi_header *h = &l->header;
    struct wbi_import import;
    const uint32_t none = 0;
    uint32_t function = 0;
    l->seen_functions = true;
    if (defined > max_index - (uint32_t)h->import_funcs) {
        refuse(l, WBI_LIMIT, "too many entries");
    }
    h->func_count = (uint16_t)(h->import_funcs + defined);
    out_align(l, 4);
    h->func_code = l->out;
    h->func_types = l->out + 4u * h->func_count;
    out_reserve(l, 6u * h->func_count);
    for (uint32_t i = 0; i < h->import_count; i++) {
        object_import(l->flash.base, h, i, &import);
        if (import.kind == 0) {
            out_patch_u16(l, h->func_types + 2 * function, import.type);
            out_patch(l, h->func_code + 4 * function, &none, 4);
            function++;
        }
    }
}

static void make_globals(struct wbi_loader *l, uint32_t defined) {
    struct wbi_header *h = &l->header;
    struct wbi_import import;
    uint32_t global = 0;
    uint32_t place = h->import_funcs; /* pointers to imports: functions first, then the others */
    l->seen_globals = true;
    if (defined > 4096) {
        refuse(l, WBI_LIMIT, "too many entries");
    }
    h->global_count = (uint16_t)(h->import_globals + defined);
    out_align(l, 4);
    h->globals = l->out;
    out_reserve(l, (uint32_t)sizeof(struct wbi_global) * h->global_count);
    for (uint32_t i = 0; i < h->import_count; i++) {
        object_import(l->flash.base, h, i, &import);
        if (import.kind == 3) {
            const struct wbi_global g = {(uint8_t)((import.type & 3u) | ((import.type >> 8) != 0 ? 0x80u : 0u)),
                                         WBI_INIT_IMPORTED, (uint16_t)place, 0, 0};
            out_patch(l, h->globals + (uint32_t)sizeof g * global, &g, sizeof g);
            global++;
        }
        place += import.kind != 0;
    }
}

void make_index_spaces(struct wbi_loader *l, uint8_t order) {
    if (order > SECTION_FUNCTION && !l->seen_functions) {
        make_functions(l, 0);
    }
    if (order > SECTION_GLOBAL && !l->seen_globals) {
        make_globals(l, 0);
    }
}

void next_item(struct wbi_loader *l, uint8_t state) {
    l->item++;
    l->state = --l->left == 0 ? ST_ITEM_DONE : state;
}

static void begin_name(struct wbi_loader *l, uint8_t next) {
    const uint32_t length = read_u32(l);
    if (length > 0xffff) {
        length > l->size_left ? malformed(l, "length out of bounds") : refuse(l, WBI_LIMIT, "name too long");
    }
    l->stream_left = length;
    l->stream_text = true;
    l->stream_next = next;
    l->state = ST_STREAM;
    out_u16(l, length);
}

static void type_done(struct wbi_loader *l) {
    const uint8_t *base = l->flash.base;
    out_flush(l);
    const uint8_t *type = object_type(base, &l->header, l->item);
    const uint32_t length = 2u + type[2] + type[3];
    uint32_t same = 0;
    while (same < l->item && memcmp(object_type(base, &l->header, same) + 2, type + 2, length) != 0) {
        same++;
    }
    out_patch_u16(l, (uint32_t)(type - base), same);
    next_item(l, ST_TYPE);
}

static void type_item(struct wbi_loader *l) {
    const uint8_t form = l->state == ST_TYPE ? read_u8(l) : 0x60;
    const uint32_t count = read_u32(l);
    if (form != 0x60) {
        malformed(l, "malformed function type");
    }
    if (count > 255) {
        refuse(l, count > l->size_left ? WBI_MALFORMED : WBI_LIMIT, "more than 255 values");
    }
    l->sub_left = count;
    if (l->state == ST_TYPE) {
        const uint8_t record[4] = {0xff, 0xff, (uint8_t)count, 0xff};
        out_align(l, 4);
        out_patch_u32(l, l->header.types + 4 * l->item, l->out);
        out_bytes(l, record, 4);
        l->state = count != 0 ? ST_TYPE_PARAM : ST_TYPE_RESULTS;
        return;
    }
    const uint8_t results = (uint8_t)count;
    out_flush(l);
    out_patch(l, object_u32(l->flash.base + l->header.types + 4 * l->item) + 3, &results, 1);
    l->state = ST_TYPE_RESULT;
    if (count == 0) {
        type_done(l);
    }
}

static void type_value(struct wbi_loader *l) {
    const uint8_t code = read_u8(l);
    uint8_t type;
    value_type(l, code, &type);
    out_bytes(l, &type, 1);
    if (--l->sub_left != 0) {
        return;
    }
    if (l->state == ST_TYPE_PARAM) {
        l->state = ST_TYPE_RESULTS;
        return;
    }
    type_done(l);
}

static void import_kind(struct wbi_loader *l) {
    struct wbi_header *h = &l->header;
    const uint8_t kind = read_u8(l);
    struct limits limits = {0, 0, 16};
    uint32_t type = 0;
    if (kind == 0) {
        type = read_u32(l);
    } else if (kind == 1) {
        const uint8_t element = read_u8(l);
        if (element != 0x70) {
            element == 0x6f ? refuse(l, WBI_UNSUPPORTED, "reference types") : malformed(l, "malformed element kind");
        }
        read_limits(l, false, &limits);
    } else if (kind == 2) {
        read_limits(l, true, &limits);
    } else if (kind == 3) {
        uint8_t value = 0;
        const uint8_t code = read_u8(l);
        const uint8_t mutable = read_u8(l);
        value_type(l, code, &value);
        if (mutable > 1) {
            malformed(l, "malformed mutability");
        }
        type = value | (uint32_t)mutable << 8;
    } else {
        malformed(l, "malformed import kind");
    }
    if (kind == 0) {
        if (type >= h->type_count) {
            invalid(l, "unknown type");
        }
        h->import_funcs++;
    } else if (kind == 1) {
        set_table(l, &limits, true);
    } else if (kind == 2) {
        set_memory(l, &limits, true);
    } else if (kind == 3) {
        h->import_globals++;
    }
    const uint8_t head[2] = {kind, limits.page_log2};
    out_bytes(l, head, 2);
    out_u16(l, type);
    if (kind == 1 || kind == 2) {
        out_bytes(l, &limits.min, 4);
        out_bytes(l, &limits.max, 4);
    }
    next_item(l, ST_IMPORT);
}

bool object_import(const uint8_t *base, const struct wbi_header *h, uint32_t index, struct wbi_import *import) {
    const uint8_t *at = base + h->imports;
    if (index >= h->import_count) {
        return false;
    }
    for (uint32_t i = 0;; i++) {
        memset(import, 0, sizeof *import);
        import->module_bytes = object_u16(at);
        import->module = at + 2;
        at += 2u + import->module_bytes;
        import->name_bytes = object_u16(at);
        import->name = at + 2;
        at += 2u + import->name_bytes;
        import->kind = at[0];
        import->page_log2 = at[1];
        import->type = object_u16(at + 2);
        at += 4;
        if (import->kind == 1 || import->kind == 2) {
            import->min = object_u32(at);
            import->max = object_u32(at + 4);
            at += 8;
        }
        if (i == index) {
            return true;
        }
    }
}

static void global_item(struct wbi_loader *l) {
    struct wbi_header *h = &l->header;
    struct wbi_global g = {0};
    const uint8_t code = read_u8(l);
    const uint8_t mutable = read_u8(l);
    uint8_t type = 0;
    value_type(l, code, &type);
    if (mutable > 1) {
        malformed(l, "malformed mutability");
    }
    const_expression(l, type, &g);
    g.type = (uint8_t)(type | (mutable != 0 ? 0x80u : 0u));
    g.place = h->global_bytes;
    h->global_bytes = (uint16_t)(h->global_bytes + 4 * cells_of(type));
    next_item(l, ST_GLOBAL);
    out_patch(l, h->globals + (uint32_t)sizeof g * (h->import_globals + l->item - 1), &g, sizeof g);
}

static void export_kind(struct wbi_loader *l) {
    const struct wbi_header *h = &l->header;
    const uint8_t kind = read_u8(l);
    const uint32_t index = read_u32(l);
    uint32_t count = 0;
    switch (kind) {
    case 0: count = h->func_count; break;
    case 1: count = (h->flags & WBI_HAS_TABLE) != 0; break;
    case 2: count = (h->flags & WBI_HAS_MEMORY) != 0; break;
    case 3: count = h->global_count; break;
    default: malformed(l, "malformed export kind");
    }
    if (index >= count) {
        invalid(l, "unknown export");
    }
    out_bytes(l, &kind, 1);
    out_u16(l, index);
    out_flush(l);
    const uint8_t *at = l->flash.base + h->exports;
    const uint8_t *mine = l->flash.base + l->sub_left;
    while (at < mine) {
        const uint32_t length = object_u16(at);
        if (length == object_u16(mine) && memcmp(at + 2, mine + 2, length) == 0) {
            invalid(l, "duplicate export name");
        }
        at += 5 + length;
    }
    next_item(l, ST_EXPORT);
}

static void start_item(struct wbi_loader *l) {
    const uint32_t function = read_u32(l);
    if (function >= l->header.func_count) {
        invalid(l, "unknown function");
    }
    const uint8_t *type =
        object_type(l->flash.base, &l->header, object_u16(l->flash.base + l->header.func_types + 2 * function));
    if (type[2] != 0 || type[3] != 0) {
        invalid(l, "start function");
    }
    l->header.start = function;
    l->state = ST_ITEM_DONE;
}

/* Reserves the tables whose length the count of a section gives. */
void section_begin(struct wbi_loader *l, uint32_t count) {
    struct wbi_header *h = &l->header;
    static const uint8_t first[] = {0, ST_TYPE, ST_IMPORT, ST_FUNCTION, ST_TABLE, ST_MEMORY, ST_GLOBAL, ST_EXPORT,
                                    0, ST_ELEMENT, ST_BODY, ST_DATA};
    l->left = count;
    l->item = 0;
    l->state = count == 0 ? ST_ITEM_DONE : first[l->section];
    if (count > l->size_left) {
        malformed(l, "length out of bounds");
    }
    if (count > max_index) {
        refuse(l, WBI_LIMIT, "too many entries");
    }
    out_align(l, 4);
    switch (l->section) {
    case SECTION_TYPE:
        h->types = l->out;
        h->type_count = (uint16_t)count;
        out_reserve(l, 4 * count);
        return;
    case SECTION_IMPORT:
        h->imports = l->out;
        h->import_count = (uint16_t)count;
        return;
    case SECTION_FUNCTION: make_functions(l, count); return;
    case SECTION_TABLE:
    case SECTION_MEMORY:
        if (count > 1) {
            refuse(l, WBI_UNSUPPORTED, l->section == SECTION_TABLE ? "multiple tables" : "multiple memories");
        }
        return;
    case SECTION_GLOBAL: make_globals(l, count); return;
    case SECTION_EXPORT:
        h->exports = l->out;
        h->export_count = (uint16_t)count;
        return;
    case SECTION_ELEMENT:
        h->elements = l->out;
        h->element_count = (uint16_t)count;
        out_reserve(l, 4 * count);
        return;
    case SECTION_CODE:
        if (count != (uint32_t)(h->func_count - h->import_funcs)) {
            malformed(l, "function and code counts differ");
        }
        return;
    default:
        h->datas = l->out;
        h->data_count = (uint16_t)count;
        out_reserve(l, 4 * count);
        return;
    }
}

static void body_item(struct wbi_loader *l) {
    const uint8_t *start = l->at;
    const uint8_t state = l->state;
    if (state == ST_BODY) {
        const uint32_t size = read_u32(l);
        const uint8_t *inside = l->at;
        const uint32_t groups = read_u32(l);
        l->body.start = l->pos + (uint32_t)(inside - start);
        l->body.end = l->body.start + size;
        if (size > l->size_left || (uint32_t)(l->at - inside) > size) {
            malformed(l, "unexpected end");
        }
        l->sub_left = groups;
        body_begin(l, size);
        l->state = ST_LOCALS;
        if (groups == 0) {
            body_start(l);
        }
        return;
    }
    if ((uint32_t)(l->end - l->at) > l->body.end - l->pos) {
        l->end = l->at + (l->body.end - l->pos);
        l->limited = true;
    }
    if (state == ST_LOCALS) {
        const uint32_t count = read_u32(l);
        const uint8_t code = read_u8(l);
        uint8_t type;
        value_type(l, code, &type);
        body_locals(l, count, type);
        l->sub_left--;
        if (l->sub_left == 0) {
            body_start(l);
        }
    } else if (state == ST_TABLE_ENTRIES) {
        const uint32_t depth = read_u32(l);
        body_table_entry(l, depth);
    } else {
        body_instruction(l);
        if (l->body.labels == 0) {
            if (l->pos + (uint32_t)(l->at - start) != l->body.end) {
                malformed(l, "unexpected end");
            }
            l->bodies++;
            next_item(l, ST_BODY);
        }
    }
}

void section_item(struct wbi_loader *l) {
    struct limits limits;
    switch (l->state) {
    case ST_COUNT: {
        const uint8_t *start = l->at;
        const uint32_t count = read_u32(l);
        (void)start;
        section_begin(l, count);
        return;
    }
    case ST_TYPE:
    case ST_TYPE_RESULTS: type_item(l); return;
    case ST_TYPE_PARAM:
    case ST_TYPE_RESULT: type_value(l); return;
    case ST_IMPORT: begin_name(l, ST_IMPORT_FIELD); return;
    case ST_IMPORT_FIELD: begin_name(l, ST_IMPORT_KIND); return;
    case ST_IMPORT_KIND: import_kind(l); return;
    case ST_FUNCTION: {
        const uint32_t type = read_u32(l);
        if (type >= l->header.type_count) {
            invalid(l, "unknown type");
        }
        next_item(l, ST_FUNCTION);
        out_patch_u16(l, l->header.func_types + 2 * (l->header.import_funcs + l->item - 1), type);
        return;
    }
    case ST_TABLE: {
        const uint8_t element = read_u8(l);
        if (element != 0x70) {
            element == 0x6f ? refuse(l, WBI_UNSUPPORTED, "reference types") : malformed(l, "malformed element kind");
        }
        read_limits(l, false, &limits);
        next_item(l, ST_TABLE);
        set_table(l, &limits, false);
        return;
        return;
    }
    case ST_MEMORY:
        read_limits(l, true, &limits);
        next_item(l, ST_MEMORY);
        set_memory(l, &limits, false);
        return;
        return;
    case ST_GLOBAL: global_item(l); return;
    case ST_EXPORT:
        l->sub_left = l->out;
        begin_name(l, ST_EXPORT_KIND);
        return;
    case ST_EXPORT_KIND: export_kind(l); return;
    case ST_START: start_item(l); return;
    case ST_ELEMENT: element_item(l); return;
    case ST_ELEMENT_ITEM: element_value(l); return;
    case ST_DATA_COUNT: {
        const uint32_t count = read_u32(l);
        if (count > max_index) {
            refuse(l, WBI_LIMIT, "too many entries");
        }
        l->has_data_count = true;
        l->data_count = (uint16_t)count;
        l->state = ST_ITEM_DONE;
        return;
    }
    case ST_DATA: data_item(l); return;
    case ST_DATA_BYTES: {
        next_item(l, ST_DATA);
        return;
    }
    default: body_item(l); return;
    }
}
