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
    out_reserve(l, sizeof l->header);
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

static bool stream(struct wbi_loader *l, struct reader *r) {
    uint32_t part = (uint32_t)(r->end - r->at);
    if (part > l->stream_left) {
        part = l->stream_left;
    }
    if (part == 0 && l->stream_left != 0) {
        r->state = READ_SHORT;
        return true;
    }
    if (l->stream_text) {
        for (uint32_t i = 0; i < part; i++) {
            if (!utf8_next(l, r->at[i])) {
                return malformed(l, "malformed UTF-8 encoding");
            }
        }
    }
    if (l->section != 0 && !out_bytes(l, r->at, part)) {
        return false;
    }
    r->at += part;
    l->stream_left -= part;
    if (l->stream_left == 0) {
        if (l->stream_text && l->utf8_left != 0) {
            return malformed(l, "malformed UTF-8 encoding");
        }
        l->state = l->stream_next;
    }
    return true;
}

/* Where sections may stand: the data count comes before the code. */
static uint8_t section_order(uint8_t id) {
    static const uint8_t order[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10};
    return id < sizeof order ? order[id] : 0;
}

static bool begin_section(struct wbi_loader *l, struct reader *r) {
    const uint8_t id = read_u8(r);
    const uint32_t size = read_u32(r);
    if (r->state != READ_OK) {
        return true;
    }
    if (id > SECTION_DATA_COUNT) {
        return malformed(l, "malformed section id");
    }
    l->section = id;
    if (id != 0) {
        if (section_order(id) <= l->order) {
            return malformed(l, "unexpected content after last section");
        }
        l->order = section_order(id);
        if (!make_index_spaces(l, l->order)) {
            return false;
        }
    }
    l->size_left = size;
    l->state = id == 0 ? ST_CUSTOM : id == SECTION_START ? ST_START : id == SECTION_DATA_COUNT ? ST_DATA_COUNT : ST_COUNT;
    return true;
}

static bool begin_custom(struct wbi_loader *l, struct reader *r) {
    l->stream_left = read_u32(r);
    if (r->state != READ_OK) {
        return true;
    }
    l->stream_text = true;
    l->stream_next = ST_CUSTOM_END;
    l->state = ST_STREAM;
    return true;
}

static bool skip(struct wbi_loader *l, struct reader *r) {
    r->at = r->end;
    (void)l;
    return true;
}

static bool step(struct wbi_loader *l, struct reader *r) {
    static const uint8_t magic[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    uint8_t seen[8];
    switch (l->state) {
    case ST_MAGIC:
        for (uint32_t i = 0; i < 8; i++) {
            seen[i] = read_u8(r);
            if (r->state == READ_OK && seen[i] != magic[i]) {
                return malformed(l, i < 4 ? "magic header not detected" : "unknown binary version");
            }
        }
        if (r->state == READ_OK) {
            l->state = ST_SECTION;
        }
        return true;
    case ST_SECTION: return begin_section(l, r);
    case ST_STREAM: return stream(l, r);
    case ST_CUSTOM: return begin_custom(l, r);
    case ST_CUSTOM_END:
        l->state = ST_SKIP;
        return true;
    case ST_SKIP: return skip(l, r);
    default: return section_item(l, r);
    }
}

/* One item out of [*data, *data + available). Leaves *used at 0 when the item is not complete. */
static bool take(struct wbi_loader *l, const uint8_t *data, size_t available, size_t *used) {
    struct reader r = {data, data + available, READ_OK};
    const bool inside = l->state != ST_MAGIC && l->state != ST_SECTION;
    bool limited = false;
    if (inside && available >= l->size_left) {
        r.end = data + l->size_left;
        limited = true;
    }
    if (!step(l, &r)) {
        return false;
    }
    if (r.state == READ_BAD) {
        return malformed(l, "integer representation too long or too large");
    }
    if (r.state == READ_SHORT) {
        *used = 0;
        return limited ? malformed(l, "unexpected end of section or function") : true;
    }
    *used = (size_t)(r.at - data);
    l->pos += (uint32_t)*used;
    if (inside) {
        l->size_left -= (uint32_t)*used;
        if (l->size_left == 0 && (l->state == ST_SKIP || l->state == ST_ITEM_DONE)) {
            l->state = ST_SECTION;
            return out_flush(l);
        }
        if (l->state == ST_ITEM_DONE) {
            return malformed(l, "section size mismatch");
        }
    } else if (l->state != ST_SECTION && l->size_left == 0 && l->state == ST_SKIP) {
        l->state = ST_SECTION;
    }
    return true;
}

enum wbi_status wbi_load_feed(struct wbi_loader *l, const uint8_t *data, size_t length) {
    while (l->error.status == WBI_OK) {
        size_t used = 0;
        const uint8_t before = l->state;
        if (l->carry_used != 0) {
            size_t fill = WBI_CARRY_BYTES - (size_t)l->carry_used;
            if (fill > length) {
                fill = length;
            }
            memcpy(l->carry + l->carry_used, data, fill);
            const size_t had = l->carry_used;
            const size_t available = had + fill;
            if (!take(l, l->carry, available, &used)) {
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
                if (used == 0 && l->state == before) {
                    if (available == WBI_CARRY_BYTES) {
                        malformed(l, "integer representation too long");
                    } else if (length == 0) {
                        break;
                    }
                }
            }
            continue;
        }
        if (!take(l, data, length, &used)) {
            break;
        }
        data += used;
        length -= used;
        if (used == 0 && l->state == before) {
            if (length >= WBI_CARRY_BYTES) {
                malformed(l, "integer representation too long");
                break;
            }
            memcpy(l->carry, data, length);
            l->carry_used = (uint8_t)length;
            break;
        }
    }
    return (enum wbi_status)l->error.status;
}

enum wbi_status wbi_load_finish(struct wbi_loader *l, const uint8_t digest[WBI_DIGEST_BYTES]) {
    struct wbi_header *h = &l->header;
    if (l->error.status != WBI_OK) {
        return (enum wbi_status)l->error.status;
    }
    l->section = 0;
    if (l->state != ST_SECTION || l->carry_used != 0) {
        malformed(l, "unexpected end of the module");
    } else if (make_index_spaces(l, 255)) {
        if (l->bodies != (uint16_t)(h->func_count - h->import_funcs)) {
            malformed(l, "function and code section have inconsistent lengths");
        } else if (l->has_data_count && l->data_count != h->data_count) {
            malformed(l, "data count and data section have inconsistent lengths");
        }
    }
    if (l->error.status == WBI_OK && out_align(l, 4) && out_flush(l)) {
        const uint32_t commit = WBI_COMMIT;
        h->magic = WBI_MAGIC;
        h->abi = WBI_ABI;
        memcpy(h->digest, digest, WBI_DIGEST_BYTES);
        h->bytes = l->out;
        h->exit_delta = 0;
        h->exit_code[0] = OP_EXIT * 4;
        h->exit_code[1] = 0;
        h->crc = object_crc(0, l->flash.base + sizeof *h, l->out - (uint32_t)sizeof *h);
        if (!l->flash.program(l->flash.context, 0, (const uint8_t *)h, offsetof(struct wbi_header, commit)) ||
            !l->flash.program(l->flash.context, offsetof(struct wbi_header, commit), (const uint8_t *)&commit, 4)) {
            refuse(l, WBI_FLASH_FAILED, "flash could not be programmed");
        }
    }
    return (enum wbi_status)l->error.status;
}

uint32_t wbi_load_bytes(const struct wbi_loader *l) { return l->out; }
