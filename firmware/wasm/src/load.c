/* The outer frame of a load: items out of a byte stream that is split anywhere, sections in order. */
#include <string.h>

#include "internal.h"

enum wbi_status wbi_load_begin(struct wbi_loader *l, const struct wbi_flash *flash, void *scratch,
                               uint32_t scratch_bytes, const struct wbi_load_limits *limits) {
    memset(l, 0, sizeof *l);
    l->flash = *flash;
    l->scratch = scratch;
    l->scratch_bytes = scratch_bytes & ~3u;
    if (limits != NULL) {
        l->limits = *limits;
    }
    if (l->limits.function_bytes == 0 || l->limits.function_bytes > 65534) {
        l->limits.function_bytes = 65534;
    }
    if (l->limits.stack_bytes == 0 || l->limits.stack_bytes > 65532) {
        l->limits.stack_bytes = 65532;
    }
    l->error.reason = "";
    l->error.function = WBI_NO_FUNCTION;
    l->header.start = WBI_NONE;
    l->state = ST_MAGIC;
    if (flash->capacity < sizeof l->header) {
        note(l, WBI_FLASH_FULL, flash_full);
    }
    l->out = sizeof l->header;
    l->flushed = sizeof l->header;
    return (enum wbi_status)l->error.status;
}

/* UTF-8 as in the Unicode standard, table 3-7. */
static bool utf8_next(struct wbi_loader *l, uint8_t byte) {
    if (l->utf8_left != 0) {
        uint8_t low = 0x80;
        uint8_t high = 0xbf;
        if (l->utf8_first == 0xe0) {
            low = 0xa0;
        } else if (l->utf8_first == 0xed) {
            high = 0x9f;
        } else if (l->utf8_first == 0xf0) {
            low = 0x90;
        } else if (l->utf8_first == 0xf4) {
            high = 0x8f;
        }
        l->utf8_first = 0;
        l->utf8_left--;
        return byte >= low && byte <= high;
    }
    if (byte < 0x80) {
        return true;
    }
    l->utf8_first = byte;
    l->utf8_left = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
    return byte >= 0xc2 && byte <= 0xf4;
}

static void stream(struct wbi_loader *l) {
    uint32_t part = (uint32_t)(l->end - l->at);
    if (part > l->stream_left) {
        part = l->stream_left;
    }
    if (part == 0 && l->stream_left != 0) {
        __builtin_longjmp(l->escape, 1);
    }
    if (l->stream_text) {
        for (uint32_t i = 0; i < part; i++) {
            if (!utf8_next(l, l->at[i])) {
                l->pos += i;
                malformed(l, "malformed UTF-8");
            }
        }
    }
    if (l->section != 0) {
        out_bytes(l, l->at, part);
    }
    l->at += part;
    l->stream_left -= part;
    if (l->stream_left == 0) {
        if (l->stream_text && l->utf8_left != 0) {
            l->pos += part;
            malformed(l, "malformed UTF-8");
        }
        l->state = l->stream_next;
    }
}

/* Where sections may stand: the data count comes before the code. */
static uint8_t section_order(uint8_t id) {
    static const uint8_t order[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10};
    return id < sizeof order ? order[id] : 0;
}

static void begin_section(struct wbi_loader *l) {
    const uint8_t id = read_u8(l);
    const uint32_t size = read_u32(l);
    if (id > SECTION_DATA_COUNT) {
        malformed(l, "malformed section id");
    }
    l->section = id;
    if (id != 0) {
        if (section_order(id) <= l->order) {
            malformed(l, "section out of order");
        }
        l->order = section_order(id);
        make_index_spaces(l, l->order);
    }
    l->size_left = size;
    l->state = id == 0 ? ST_CUSTOM : id == SECTION_START ? ST_START : id == SECTION_DATA_COUNT ? ST_DATA_COUNT : ST_COUNT;
}

static void begin_custom(struct wbi_loader *l) {
    l->stream_left = read_u32(l);
    l->stream_text = true;
    l->stream_next = ST_CUSTOM_END;
    l->state = ST_STREAM;
}

static void step(struct wbi_loader *l) {
    static const uint8_t magic[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    switch (l->state) {
    case ST_MAGIC:
        for (uint32_t i = 0; i < 8; i++) {
            if (read_u8(l) != magic[i]) {
                malformed(l, i < 4 ? "not a WebAssembly module" : "unknown version");
            }
        }
        l->state = ST_SECTION;
        return;
    case ST_SECTION: begin_section(l); return;
    case ST_STREAM: stream(l); return;
    case ST_CUSTOM: begin_custom(l); return;
    case ST_CUSTOM_END: l->state = ST_SKIP; return;
    case ST_SKIP: l->at = l->end; return;
    default: section_item(l); return;
    }
}

/* One item out of the bytes at hand; *used stays 0 when it is not complete. False when the module is refused. */
static bool take(struct wbi_loader *l, const uint8_t *data, size_t available, size_t *used) {
    const bool inside = l->state != ST_MAGIC && l->state != ST_SECTION;
    *used = 0;
    l->at = data;
    l->limited = inside && available >= l->size_left;
    l->end = data + (l->limited ? l->size_left : available);
    if (__builtin_setjmp(l->escape) != 0) {
        if (l->limited) {
            note(l, WBI_MALFORMED, "unexpected end");
        }
        return l->error.status == WBI_OK;
    }
    step(l);
    *used = (size_t)(l->at - data);
    l->pos += (uint32_t)*used;
    if (inside) {
        l->size_left -= (uint32_t)*used;
        if (l->state == ST_ITEM_DONE && l->size_left != 0) {
            malformed(l, "section size differs");
        }
        if (l->size_left == 0 && (l->state == ST_SKIP || l->state == ST_ITEM_DONE)) {
            l->state = ST_SECTION;
            out_flush(l);
        }
    }
    return true;
}

enum wbi_status wbi_load_feed(struct wbi_loader *l, const uint8_t *data, size_t length) {
    while (l->error.status == WBI_OK) {
        const uint8_t before = l->state;
        const size_t had = l->carry_used;
        size_t fill = had == 0 ? 0 : WBI_CARRY_BYTES - had;
        size_t used;
        fill = fill < length ? fill : length;
        memcpy(l->carry + had, data, fill);
        const size_t available = had == 0 ? length : had + fill;
        if (!take(l, had == 0 ? data : l->carry, available, &used)) {
            break;
        }
        const bool stuck = used == 0 && l->state == before;
        if (stuck && available >= WBI_CARRY_BYTES) {
            note(l, WBI_MALFORMED, "integer too long");
            break;
        }
        if (used >= had) { /* the rest is read in place */
            data += used - had;
            length -= used - had;
            l->carry_used = 0;
        } else {
            memmove(l->carry, l->carry + used, available - used);
            l->carry_used = (uint8_t)(available - used);
            data += fill;
            length -= fill;
        }
        if (stuck && had == 0) {
            memcpy(l->carry, data, length);
            l->carry_used = (uint8_t)length;
            break;
        }
        if (stuck && length == 0) {
            break;
        }
    }
    return (enum wbi_status)l->error.status;
}

static void finish(struct wbi_loader *l, const uint8_t *digest) {
    struct wbi_header *h = &l->header;
    const uint32_t commit = WBI_COMMIT;
    l->section = 0;
    if (l->state != ST_SECTION || l->carry_used != 0) {
        malformed(l, "unexpected end");
    }
    make_index_spaces(l, 255);
    if (l->bodies != (uint16_t)(h->func_count - h->import_funcs)) {
        malformed(l, "function and code counts differ");
    }
    if (l->has_data_count && l->data_count != h->data_count) {
        malformed(l, "data counts differ");
    }
    out_align(l, 4);
    out_flush(l);
    h->magic = WBI_MAGIC;
    h->abi = WBI_ABI;
    memcpy(h->digest, digest, WBI_DIGEST_BYTES);
    h->bytes = l->out;
    h->exit_code[0] = OP_EXIT * 4;
    h->crc = object_crc((const uint8_t *)h, l->flash.base, l->out);
    if (!l->flash.program(l->flash.context, 0, (const uint8_t *)h, offsetof(struct wbi_header, commit)) ||
        !l->flash.program(l->flash.context, offsetof(struct wbi_header, commit), (const uint8_t *)&commit, 4)) {
        refuse(l, WBI_FLASH_FAILED, "flash failed");
    }
}

enum wbi_status wbi_load_finish(struct wbi_loader *l, const uint8_t digest[WBI_DIGEST_BYTES]) {
    if (l->error.status == WBI_OK && __builtin_setjmp(l->escape) == 0) {
        finish(l, digest);
    }
    return (enum wbi_status)l->error.status;
}

uint32_t wbi_load_bytes(const struct wbi_loader *l) { return l->out; }
