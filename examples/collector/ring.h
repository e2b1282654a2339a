/* Records that wait for their delivery, the oldest first, in a fixed ring. A full ring loses its oldest one.
 * Knows nothing of the host.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stdint.h>

#define RECORD_VALUES 6
#ifdef WB_SMALL
#define RING_RECORDS 48
#else
#define RING_RECORDS 1024
#endif

struct record {
    int64_t time_ns;
    uint32_t sequence;
    uint8_t sensor, kind, count;
    uint8_t wide; /* doubles: a place needs them */
    union {
        float narrow[RECORD_VALUES];
        double wide[RECORD_VALUES / 2];
    } values;
};

struct ring {
    uint32_t first, count; /* index of the oldest, how many */
    uint32_t next_sequence;
    uint32_t lost;
    struct record records[RING_RECORDS];
};

static inline struct record *ring_at(struct ring *ring, uint32_t i) {
    return &ring->records[(ring->first + i) % RING_RECORDS];
}

/* Adds a record and gives it its sequence. */
static inline void ring_add(struct ring *ring, const struct record *record) {
    if (ring->count == RING_RECORDS) {
        ring->first = (ring->first + 1) % RING_RECORDS;
        ring->count--;
        ring->lost++;
    }
    struct record *place = ring_at(ring, ring->count++);
    *place = *record;
    place->sequence = ring->next_sequence++;
}

/* Lets go of everything up to a sequence; sequences wrap. */
static inline void ring_confirm(struct ring *ring, uint32_t sequence) {
    while (ring->count > 0 && (int32_t)(ring_at(ring, 0)->sequence - sequence) <= 0) {
        ring->first = (ring->first + 1) % RING_RECORDS;
        ring->count--;
    }
}

#endif
