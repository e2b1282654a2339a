/* See wb_cbor.h. RFC 8949, definite lengths only. */
#include "wb_cbor.h"

#include <string.h>

/* The argument of a head; false for the forms that this reader refuses (reserved, indefinite). */
static bool argument(struct wb_cbor *reader, uint8_t info, uint64_t *value) {
    if (info < 24) {
        *value = info;
        return true;
    }
    if (info > 27) {
        return false;
    }
    const size_t bytes = (size_t)1 << (info - 24);
    if ((size_t)(reader->end - reader->at) < bytes) {
        return false;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i++) {
        sum = sum << 8 | *reader->at++;
    }
    *value = sum;
    return true;
}

static bool head(struct wb_cbor *reader, struct wb_item *item) {
    static const uint8_t types[8] = {WB_CBOR_UINT,  WB_CBOR_NINT, WB_CBOR_BYTES, WB_CBOR_TEXT,
                                     WB_CBOR_ARRAY, WB_CBOR_MAP,  WB_CBOR_NONE,  WB_CBOR_NONE};
    if (reader->at >= reader->end) {
        return false;
    }
    const uint8_t first = *reader->at++;
    if (first >= 0xf4 && first <= 0xf6) {
        item->type = first == 0xf6 ? WB_CBOR_NULL : WB_CBOR_BOOL;
        item->value = first == 0xf5;
        item->data = reader->at;
        return true;
    }
    item->type = types[first >> 5];
    if (item->type == WB_CBOR_NONE || !argument(reader, first & 0x1f, &item->value)) {
        return false;
    }
    item->data = reader->at;
    const size_t left = (size_t)(reader->end - reader->at);
    if (item->type == WB_CBOR_BYTES || item->type == WB_CBOR_TEXT) {
        if (item->value > left) {
            return false;
        }
        reader->at += item->value;
    } else if (item->type == WB_CBOR_ARRAY) {
        return item->value <= left;
    } else if (item->type == WB_CBOR_MAP) {
        return item->value <= left / 2;
    }
    return true;
}

bool wb_cbor_next(struct wb_cbor *reader, struct wb_item *item) {
    struct wb_cbor try = *reader;
    if (!head(&try, item)) {
        item->type = WB_CBOR_NONE;
        return false;
    }
    *reader = try;
    return true;
}

bool wb_cbor_skip(struct wb_cbor *reader) {
    struct wb_cbor try = *reader;
    uint32_t open[WB_CBOR_DEPTH + 1];
    uint32_t depth = 0;
    open[0] = 1;
    for (;;) {
        struct wb_item item;
        if (!head(&try, &item)) {
            return false;
        }
        open[depth]--;
        if (item.type == WB_CBOR_ARRAY || item.type == WB_CBOR_MAP) {
            if (depth == WB_CBOR_DEPTH) {
                return false;
            }
            /* Within the bytes that are left: head saw to it. */
            open[++depth] = (uint32_t)item.value << (item.type == WB_CBOR_MAP);
        }
        while (open[depth] == 0) {
            if (depth == 0) {
                *reader = try;
                return true;
            }
            depth--;
        }
    }
}

bool wb_cbor_map(const uint8_t *data, size_t length, struct wb_cbor *map) {
    struct wb_cbor whole = {data, data + length};
    struct wb_cbor inside = whole;
    struct wb_item item;
    if (!wb_cbor_skip(&whole) || whole.at != whole.end || !head(&inside, &item) || item.type != WB_CBOR_MAP) {
        return false;
    }
    *map = inside;
    return true;
}

bool wb_cbor_get(struct wb_cbor map, uint32_t key, struct wb_item *item) {
    struct wb_item name;
    while (map.at < map.end) {
        struct wb_cbor at_key = map;
        if (!wb_cbor_skip(&map) || !head(&at_key, &name)) {
            break;
        }
        if (name.type == WB_CBOR_UINT && name.value == key) {
            return wb_cbor_next(&map, item);
        }
        if (!wb_cbor_skip(&map)) {
            break;
        }
    }
    item->type = WB_CBOR_NONE;
    return false;
}

bool wb_cbor_get_named(struct wb_cbor map, const char *key, struct wb_item *item) {
    struct wb_item name;
    const size_t length = strlen(key);
    while (map.at < map.end) {
        struct wb_cbor at_key = map;
        if (!wb_cbor_skip(&map) || !head(&at_key, &name)) {
            break;
        }
        if (name.type == WB_CBOR_TEXT && name.value == length && memcmp(name.data, key, length) == 0) {
            return wb_cbor_next(&map, item);
        }
        if (!wb_cbor_skip(&map)) {
            break;
        }
    }
    item->type = WB_CBOR_NONE;
    return false;
}

bool wb_cbor_get_u64(struct wb_cbor map, uint32_t key, uint64_t *value) {
    struct wb_item item;
    if (!wb_cbor_get(map, key, &item) || item.type != WB_CBOR_UINT) {
        return false;
    }
    *value = item.value;
    return true;
}

bool wb_cbor_get_u32(struct wb_cbor map, uint32_t key, uint32_t *value) {
    uint64_t wide;
    if (!wb_cbor_get_u64(map, key, &wide) || wide > UINT32_MAX) {
        return false;
    }
    *value = (uint32_t)wide;
    return true;
}

bool wb_cbor_get_bytes(struct wb_cbor map, uint32_t key, uint32_t length, const uint8_t **data) {
    struct wb_item item;
    if (!wb_cbor_get(map, key, &item) || item.type != WB_CBOR_BYTES || item.value != length) {
        return false;
    }
    *data = item.data;
    return true;
}

struct wb_cbor wb_cbor_enter(struct wb_cbor outer, const struct wb_item *item) {
    struct wb_cbor inner = {item->data, outer.end};
    struct wb_cbor end = inner;
    if (item->type != WB_CBOR_ARRAY && item->type != WB_CBOR_MAP) {
        inner.end = inner.at;
        return inner;
    }
    const uint64_t items = item->value << (item->type == WB_CBOR_MAP);
    for (uint64_t i = 0; i < items; i++) {
        if (!wb_cbor_skip(&end)) {
            end = inner;
            break;
        }
    }
    inner.end = end.at;
    return inner;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void put(struct wb_cbor_out *out, const void *data, size_t length) {
    if (out->full || (size_t)(out->end - out->at) < length) {
        out->full = true;
        return;
    }
    if (length != 0) {
        memcpy(out->at, data, length);
        out->at += length;
    }
}

static void put_head(struct wb_cbor_out *out, uint32_t major, uint64_t value) {
    uint8_t bytes[9];
    uint32_t width = 0;
    uint32_t info = (uint32_t)value;
    if (value >= 24) {
        info = value <= 0xff ? 24 : value <= 0xffff ? 25 : value <= 0xffffffff ? 26 : 27;
        width = 1u << (info - 24);
        for (uint32_t i = width; i > 0; i--) {
            bytes[i] = (uint8_t)value;
            value >>= 8;
        }
    }
    bytes[0] = (uint8_t)(major << 5 | info);
    put(out, bytes, width + 1);
}

void wb_put_uint(struct wb_cbor_out *out, uint64_t value) { put_head(out, 0, value); }

void wb_put_int(struct wb_cbor_out *out, int64_t value) {
    put_head(out, value < 0, value < 0 ? ~(uint64_t)value : (uint64_t)value);
}

void wb_put_bytes(struct wb_cbor_out *out, const void *data, size_t length) {
    put_head(out, 2, length);
    put(out, data, length);
}

void wb_put_text_bytes(struct wb_cbor_out *out, const void *text, size_t length) {
    put_head(out, 3, length);
    put(out, text, length);
}

void wb_put_text(struct wb_cbor_out *out, const char *text) { wb_put_text_bytes(out, text, strlen(text)); }
void wb_put_array(struct wb_cbor_out *out, size_t items) { put_head(out, 4, items); }
void wb_put_map(struct wb_cbor_out *out, size_t pairs) { put_head(out, 5, pairs); }

void wb_put_bool(struct wb_cbor_out *out, bool value) {
    const uint8_t byte = value ? 0xf5 : 0xf4;
    put(out, &byte, 1);
}
