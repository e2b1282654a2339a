/* Time is SysTick's: twenty interrupts a second, one more where the main loop asks to be woken earlier. */
#include "board.h"
#include "cortex_m4.h"
#include "hal.h"
#include "supervise.h"

#define CYCLES_PER_US (CORE_HZ / 1000000u)
#define TICK_US 50000u
#define TICK_CYCLES (CYCLES_PER_US * TICK_US)
_Static_assert(TICK_CYCLES <= 0x1000000u, "SysTick has 24 bits");
/* Shortest period, so that an interrupt does not follow on the heels of its own setting. */
#define LEAST_CYCLES (CYCLES_PER_US * 20u)

static uint64_t base;   /* cycles until the period in hand began */
static uint32_t period; /* its length in cycles */

/* Cycles since the start; interrupts are off. */
static uint64_t cycles(void) {
    uint32_t gone = period - STK->VAL;
    if ((SCB->ICSR & SCB_ICSR_PENDSTSET) != 0) {
        /* The counter began again and its interrupt waits. */
        const uint32_t value = STK->VAL;
        gone = period + (value == 0 ? 0 : period - value);
    }
    return base + gone;
}

/* Begins a new period; the few cycles between reading and writing the counter are lost, 0.1 us each time. */
static void begin(uint32_t length) {
    base = cycles();
    STK->LOAD = length - 1;
    STK->VAL = 0;
    SCB->ICSR = SCB_ICSR_PENDSTCLR;
    period = length;
}

void timer_init(void) {
    period = TICK_CYCLES;
    STK->LOAD = TICK_CYCLES - 1;
    STK->VAL = 0;
    STK->CTRL = STK_CTRL_ENABLE | STK_CTRL_TICKINT | STK_CTRL_CLKSOURCE;
}

/* Takes the frame of what was interrupted along. */
__attribute__((naked)) void timer_tick(void) {
    __asm__ volatile("mrs r0, psp\n"
                     "b timer_ticked");
}

__attribute__((used)) void timer_ticked(const uint32_t *frame);
void timer_ticked(const uint32_t *frame) {
    base += period;
    if (period != TICK_CYCLES) {
        begin(TICK_CYCLES);
    }
    if (!supervise_overdue()) {
        watchdog_feed();
        return;
    }
    const struct crash_registers registers = {0, frame[6], frame[5], (uint32_t)(uintptr_t)(frame + 8), 0};
    crash_now(CRASH_SUPERVISION, &registers);
}

uint64_t hal_now_us(void) {
    const uint32_t state = hal_interrupts_off();
    const uint64_t now = cycles();
    hal_interrupts_restore(state);
    return now / CYCLES_PER_US;
}

void hal_idle(uint64_t until_us) {
    const uint32_t state = hal_interrupts_off();
    const uint64_t now = cycles();
    const uint64_t until = until_us * CYCLES_PER_US;
    if (until > now && !uart_waiting()) {
        if (until < base + period) {
            const uint32_t left = (uint32_t)(until - now);
            begin(left < LEAST_CYCLES ? LEAST_CYCLES : left);
        }
        __asm__ volatile("dsb\nwfi" ::: "memory");
    }
    hal_interrupts_restore(state);
}
