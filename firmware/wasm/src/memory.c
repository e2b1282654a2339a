/* Bulk operations, growth, and unaligned accesses of cores that have none. */
#include <string.h>

#include "run.h"

#if !(defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__) || defined(__aarch64__))
uint32_t get32_slow(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
void put32_slow(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}
#endif

const struct wbi_segment *segment_at(const struct wbi_instance *in, bool data, uint32_t index) {
    const struct wbi_header *h = header_of(in->object);
    const uint32_t *table = (const uint32_t *)(const void *)(in->object + (data ? h->datas : h->elements));
    return (const struct wbi_segment *)(const void *)(in->object + table[index]);
}

/* What is left of a segment: nothing once it was dropped. */
static uint32_t segment_count(const struct wbi_instance *in, bool data, uint32_t index) {
    const uint32_t bit = index + (data ? header_of(in->object)->element_count : 0u);
    return (in->dropped[bit / 8] >> (bit % 8) & 1) != 0 ? 0 : segment_at(in, data, index)->count;
}

static bool inside(uint32_t start, uint32_t count, uint32_t size) { return start <= size && count <= size - start; }

enum wbi_status memory_bulk(struct wbi_instance *in, uint32_t kind, uint32_t segment, const uint32_t operand[3]) {
    struct wbi_memory *m = in->memory;
    const uint32_t to = operand[0];
    const uint32_t from = operand[1];
    const uint32_t count = operand[2];
    if (!inside(to, count, m->bytes) || (kind == BULK_COPY && !inside(from, count, m->bytes)) ||
        (kind == BULK_INIT && !inside(from, count, segment_count(in, true, segment)))) {
        return WBI_TRAP_MEMORY;
    }
    if (count == 0) {
        return WBI_OK;
    }
    switch (kind) {
    case BULK_COPY: memmove(m->data + to, m->data + from, count); break;
    case BULK_FILL: memset(m->data + to, (int)(from & 0xff), count); break;
    default: memcpy(m->data + to, (const uint8_t *)(segment_at(in, true, segment) + 1) + from, count); break;
    }
    return WBI_OK;
}

enum wbi_status table_bulk(struct wbi_instance *in, uint32_t kind, uint32_t segment, const uint32_t operand[3]) {
    struct wbi_table *t = in->table;
    const uint32_t to = operand[0];
    const uint32_t from = operand[1];
    const uint32_t count = operand[2];
    if (!inside(to, count, t->size) || (kind == BULK_COPY && !inside(from, count, t->size)) ||
        (kind == BULK_INIT && !inside(from, count, segment_count(in, false, segment)))) {
        return WBI_TRAP_TABLE;
    }
    if (count == 0) {
        return WBI_OK;
    }
    if (kind == BULK_COPY) {
        memmove(t->entries + to, t->entries + from, count * 4u);
        return WBI_OK;
    }
    const uint16_t *functions = (const uint16_t *)(const void *)(segment_at(in, false, segment) + 1) + from;
    for (uint32_t i = 0; i < count; i++) {
        t->entries[to + i] = functions[i] == 0xffff ? WBI_NULL_REF : (uint32_t)in->number << 16 | functions[i];
    }
    return WBI_OK;
}

uint32_t memory_grow(struct wbi_memory *m, uint32_t pages) {
    const uint32_t before = m->pages;
    if (pages > m->max_pages - before || ((uint64_t)(before + pages) << m->page_log2) > m->capacity) {
        return WBI_NONE;
    }
    const uint32_t bytes = (before + pages) << m->page_log2;
    if (bytes > m->bytes) {
        memset(m->data + m->bytes, 0, bytes - m->bytes);
    }
    m->pages = before + pages;
    m->bytes = bytes;
    return before;
}
