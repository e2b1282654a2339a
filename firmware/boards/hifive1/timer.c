/* Time is mtime; mtimecmp wakes the main loop when it asks, and every 200 ms for the supervision. */
#include "board.h"
#include "fe310_clint.h"
#include "hal.h"
#include "supervise.h"

#define TICK (MTIME_HZ / 5u)
static uint64_t started;

static uint64_t mtime(void) {
    uint32_t high;
    uint32_t low;
    do {
        high = CLINT_MTIME_HIGH;
        low = CLINT_MTIME_LOW;
    } while (high != CLINT_MTIME_HIGH);
    return (uint64_t)high << 32 | low;
}

static void compare_at(uint64_t when) {
    CLINT_MTIMECMP_HIGH = UINT32_MAX; /* no interrupt from a half of the new value */
    CLINT_MTIMECMP_LOW = (uint32_t)when;
    CLINT_MTIMECMP_HIGH = (uint32_t)(when >> 32);
}

void timer_init(void) {
    started = mtime();
    compare_at(started + TICK);
    __asm__ volatile("csrs mie, %0" ::"r"(1u << 7));
}

int timer_interrupt(void) {
    compare_at(mtime() + TICK);
    if (supervise_overdue()) {
        return 1;
    }
    watchdog_feed();
    return 0;
}

uint64_t hal_now_us(void) {
    const uint64_t ticks = mtime() - started;
#if MTIME_HZ % 1000000u == 0
    return ticks / (MTIME_HZ / 1000000u);
#else
    return (ticks * 15625u) >> 9; /* 1,000,000 / 32,768 */
#endif
}

/* Microseconds below TICK as counts of mtime. */
static uint32_t counts(uint32_t us) {
#if MTIME_HZ % 1000000u == 0
    return us * (MTIME_HZ / 1000000u);
#else
    return (us << 9) / 15625u + 1;
#endif
}

#define TICK_US 200000u
void hal_idle(uint64_t until_us) {
    const uint64_t now = hal_now_us();
    if (until_us <= now) {
        return;
    }
    const uint64_t left = until_us - now;
    const uint32_t state = hal_interrupts_off();
    if (!uart_waiting()) {
        if (left < TICK_US) {
            compare_at(mtime() + counts((uint32_t)left));
        }
        __asm__ volatile("wfi" ::: "memory");
    }
    hal_interrupts_restore(state);
}
