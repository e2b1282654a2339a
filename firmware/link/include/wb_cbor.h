/* A bounded reader and writer of CBOR (RFC 8949): definite lengths, integers up to 64 bits, no tags, no floats.
 * Nothing is copied: texts and byte strings point into the message.
 */
#ifndef WB_CBOR_H
#define WB_CBOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays and maps within each other, at most. */
#define WB_CBOR_DEPTH 8u

enum wb_cbor_type {
    WB_CBOR_NONE = 0, /* the end of the bytes, or bytes that are not what this reader takes */
    WB_CBOR_UINT,
    WB_CBOR_NINT, /* value n means -1 - n */
    WB_CBOR_BYTES,
    WB_CBOR_TEXT,
    WB_CBOR_ARRAY, /* value: number of items */
    WB_CBOR_MAP,   /* value: number of pairs */
    WB_CBOR_BOOL,
    WB_CBOR_NULL
};

struct wb_cbor {
    const uint8_t *at, *end;
};

struct wb_item {
    const uint8_t *data; /* of a text or byte string: `value` bytes; of an array or map: its first item */
    uint64_t value;
    uint8_t type; /* enum wb_cbor_type */
};

/* Takes the head of the next item (an array or map is entered). False at the end and for what is not allowed. */
bool wb_cbor_next(struct wb_cbor *reader, struct wb_item *item);
/* Steps over the next item with all that is in it. */
bool wb_cbor_skip(struct wb_cbor *reader);
/* True when the bytes are exactly one map within WB_CBOR_DEPTH; `map` then reads its pairs. */
bool wb_cbor_map(const uint8_t *data, size_t length, struct wb_cbor *map);
/* The value under an integer or text key of a map that wb_cbor_map or an item gave; false when it is not there. */
bool wb_cbor_get(struct wb_cbor map, uint32_t key, struct wb_item *item);
bool wb_cbor_get_named(struct wb_cbor map, const char *key, struct wb_item *item);
/* The same with the type asked for; numbers must fit 32 bits. */
bool wb_cbor_get_u32(struct wb_cbor map, uint32_t key, uint32_t *value);
bool wb_cbor_get_u64(struct wb_cbor map, uint32_t key, uint64_t *value);
bool wb_cbor_get_bytes(struct wb_cbor map, uint32_t key, uint32_t length, const uint8_t **data);
/* The pairs of a map or the items of an array that wb_cbor_get gave, out of the map it was got from. */
struct wb_cbor wb_cbor_enter(struct wb_cbor outer, const struct wb_item *item);

struct wb_cbor_out {
    uint8_t *at, *end;
    bool full; /* something did not fit: the message may not be sent */
};

void wb_put_uint(struct wb_cbor_out *out, uint64_t value);
void wb_put_int(struct wb_cbor_out *out, int64_t value);
void wb_put_bytes(struct wb_cbor_out *out, const void *data, size_t length);
void wb_put_text(struct wb_cbor_out *out, const char *text);
void wb_put_text_bytes(struct wb_cbor_out *out, const void *text, size_t length);
void wb_put_array(struct wb_cbor_out *out, size_t items);
void wb_put_map(struct wb_cbor_out *out, size_t pairs);
void wb_put_bool(struct wb_cbor_out *out, bool value);

#endif
