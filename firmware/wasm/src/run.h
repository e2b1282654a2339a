/* Shared by the parts that run a module. */
#ifndef WBI_RUN_H
#define WBI_RUN_H

#include "ops.h"
#include "wbi.h"

/* Runs from resume_at in resume_frame until the outermost function returns or something ends the call. */
enum wbi_status run_code(struct wbi_instance *in);

static inline const struct wbi_header *header_of(const uint8_t *object) {
    return (const struct wbi_header *)(const void *)object;
}

/* A return address in one cell: the pointer itself where pointers are that small. */
static inline uint32_t pack_return(const uint8_t *object, const uint16_t *at) {
#if UINTPTR_MAX == UINT32_MAX
    (void)object;
    return (uint32_t)(uintptr_t)at;
#else
    return (uint32_t)((const uint8_t *)at - object);
#endif
}

static inline const uint16_t *unpack_return(const uint8_t *object, uint32_t cell) {
#if UINTPTR_MAX == UINT32_MAX
    (void)object;
    return (const uint16_t *)(uintptr_t)cell;
#else
    return (const uint16_t *)(const void *)(object + cell);
#endif
}

/* ---- rare instructions, out of the loop ------------------------------------------------------------------- */

uint32_t float32_unary(uint32_t kind, uint32_t bits);
uint64_t float64_unary(uint32_t kind, uint64_t bits);
uint32_t float32_pair(uint32_t kind, uint32_t a, uint32_t b);
uint64_t float64_pair(uint32_t kind, uint64_t a, uint64_t b);
uint32_t float32_from(uint32_t kind, uint64_t value);
uint64_t float64_from(uint32_t kind, uint64_t value);
uint32_t float_demote(uint64_t bits);
uint64_t float_promote(uint32_t bits);
/* Float to integer, or the status of a trap. */
enum wbi_status float_truncate(uint32_t kind, uint64_t bits, uint64_t *value);
uint64_t integer_unary64(uint32_t kind, uint64_t value);
enum wbi_status divide32(uint32_t kind, uint32_t a, uint32_t b, uint32_t *result);
enum wbi_status divide64(uint32_t kind, uint64_t a, uint64_t b, uint64_t *result);

enum wbi_status memory_bulk(struct wbi_instance *in, uint32_t kind, uint32_t segment, const uint32_t operand[3]);
enum wbi_status table_bulk(struct wbi_instance *in, uint32_t kind, uint32_t segment, const uint32_t operand[3]);
uint32_t memory_grow(struct wbi_memory *memory, uint32_t pages);
static inline void segment_drop(struct wbi_instance *in, uint32_t bit) {
    in->dropped[bit / 8] = (uint8_t)(in->dropped[bit / 8] | 1u << (bit % 8));
}
const struct wbi_segment *segment_at(const struct wbi_instance *in, bool data, uint32_t index);

/* Unaligned little-endian accesses of guest memory. */
#if defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__) || defined(__aarch64__)
static inline uint32_t get32(const uint8_t *p) {
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}
static inline uint32_t get16(const uint8_t *p) {
    uint16_t v;
    __builtin_memcpy(&v, p, 2);
    return v;
}
static inline void put32(uint8_t *p, uint32_t v) { __builtin_memcpy(p, &v, 4); }
static inline void put16(uint8_t *p, uint32_t v) {
    const uint16_t half = (uint16_t)v;
    __builtin_memcpy(p, &half, 2);
}
#else
uint32_t get32_slow(const uint8_t *p);
void put32_slow(uint8_t *p, uint32_t v);
static inline uint32_t get32(const uint8_t *p) {
    if (__builtin_expect(((uintptr_t)p & 3) != 0, 0)) {
        return get32_slow(p);
    }
    return *(const uint32_t *)(const void *)p;
}
static inline uint32_t get16(const uint8_t *p) { return (uint32_t)(p[0] | p[1] << 8); }
static inline void put32(uint8_t *p, uint32_t v) {
    if (__builtin_expect(((uintptr_t)p & 3) != 0, 0)) {
        put32_slow(p, v);
    } else {
        *(uint32_t *)(void *)p = v;
    }
}
static inline void put16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
#endif

#endif
