/* A ring of bytes between one writer and one reader, one of them an interrupt. The size is a power of two. */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stdint.h>

struct ring {
    volatile uint16_t put, got; /* free running */
    uint16_t mask;
    uint8_t *bytes;
};

#define RING(storage) {0, 0, (uint16_t)(sizeof(storage) - 1), storage}
_Static_assert(sizeof(uint16_t) == 2, "free running 16-bit counters");

static inline uint32_t ring_used(const struct ring *ring) { return (uint16_t)(ring->put - ring->got); }
static inline uint32_t ring_room(const struct ring *ring) { return ring->mask + 1u - ring_used(ring); }

static inline bool ring_put(struct ring *ring, uint8_t byte) {
    if (ring_room(ring) == 0) {
        return false;
    }
    ring->bytes[ring->put & ring->mask] = byte;
    __asm__ volatile("" ::: "memory"); /* the byte is there before its count; one core, so the compiler's order is enough */
    ring->put = (uint16_t)(ring->put + 1u);
    return true;
}

static inline bool ring_get(struct ring *ring, uint8_t *byte) {
    if (ring_used(ring) == 0) {
        return false;
    }
    *byte = ring->bytes[ring->got & ring->mask];
    __asm__ volatile("" ::: "memory");
    ring->got = (uint16_t)(ring->got + 1u);
    return true;
}

#endif
