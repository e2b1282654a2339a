/* Time is SysTick's, ten interrupts a second; TIM2 wakes the main loop earlier when it asks. */
#include "board.h"
#include "cortex_m4.h"
#include "hal.h"
#include "stm32_tim.h"
#include "supervise.h"

#define TICK_US 50000u
#define TICK_CYCLES (CORE_HZ / 1000000u * TICK_US)
_Static_assert(TICK_CYCLES <= 0x1000000u, "SysTick has 24 bits");

static volatile uint64_t ticked_us;

void timer_init(void) {
    STK->LOAD = TICK_CYCLES - 1;
    STK->VAL = 0;
    STK->CTRL = STK_CTRL_ENABLE | STK_CTRL_TICKINT | STK_CTRL_CLKSOURCE;
    TIM2->PSC = TIM2_HZ / 1000000u - 1;
    NVIC_ISER[TIM2_IRQ / 32] = 1u << (TIM2_IRQ % 32);
}

__attribute__((naked)) void timer_tick(void) {
    __asm__ volatile("mov r0, lr\n"
                     "mrs r1, psp\n"
                     "b timer_ticked");
}

__attribute__((used)) void timer_ticked(uint32_t exception_return, const uint32_t *frame);
void timer_ticked(uint32_t exception_return, const uint32_t *frame) {
    (void)exception_return;
    ticked_us += TICK_US;
    if (!supervise_overdue()) {
        watchdog_feed();
        return;
    }
    const struct crash_registers registers = {0, frame[6], frame[5], (uint32_t)(uintptr_t)(frame + 8), 0};
    crash_now(CRASH_SUPERVISION, &registers);
}

void timer_wake(void) {
    TIM2->SR = 0;
    TIM2->DIER = 0;
    TIM2->CR1 = 0;
    TIM2->ARR = 0;
}

uint64_t hal_now_us(void) {
    const uint32_t state = hal_interrupts_off();
    uint64_t base = ticked_us;
    uint32_t cycles = TICK_CYCLES - STK->VAL;
    if ((SCB->ICSR & SCB_ICSR_PENDSTSET) != 0) {
        /* The counter began again and its interrupt waits. */
        const uint32_t value = STK->VAL;
        cycles = value == 0 ? 0 : TICK_CYCLES - value;
        base += TICK_US;
    }
    hal_interrupts_restore(state);
    return base + cycles / (CORE_HZ / 1000000u);
}

void hal_idle(uint64_t until_us) {
    const uint64_t now = hal_now_us();
    if (until_us <= now) {
        return;
    }
    const uint64_t left = until_us - now;
    const uint32_t state = hal_interrupts_off();
    if (!uart_waiting()) {
        if (left < TICK_US) {
            TIM2->ARR = (uint32_t)left;
            TIM2->EGR = TIM_EGR_UG;
            TIM2->SR = 0;
            TIM2->DIER = TIM_DIER_UIE;
            TIM2->CR1 = TIM_CR1_CEN | TIM_CR1_OPM;
        }
        __asm__ volatile("dsb\nwfi" ::: "memory");
    }
    hal_interrupts_restore(state);
}
