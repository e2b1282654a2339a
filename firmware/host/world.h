/* What an application finds on a developer's desk: all of wasmbed:sys on a clock that jumps from event to event, and
 * nothing behind the other modules, whose functions answer UNAVAILABLE.
 */
#ifndef WORLD_H
#define WORLD_H

#include "wbi.h"

enum { WORLD_TIMERS = 16, WORLD_ENV = 64, WORLD_TIMER_EVENT = 1 };

struct world {
    int64_t now_ns, end_ns;
    struct {
        int64_t due_ns, period_ns; /* due 0: not set */
    } timers[WORLD_TIMERS];
    const char *env[WORLD_ENV]; /* NAME=VALUE */
    uint32_t env_count, topics;
    const uint8_t *event; /* of the call under way, or null */
    uint32_t event_bytes;
    bool logs_time;
};

/* The host functions of ABI 1; their context is the world. */
const struct wbi_host_function *world_functions(struct world *world, uint32_t *count);
/* Goes on to the next timer that is due before the end: its number, or -1 when there is none. */
int32_t world_next(struct world *world);

#endif
