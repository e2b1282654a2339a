/* Vectors and reset. The main loop runs on the process stack, exceptions on a small one of their own, so that a fault
 * of the main stack still finds a stack. */
#include <stdint.h>

#include "board.h"
#include "cortex_m4.h"
#include "hal.h"
#include "stm32_usart.h"

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, exception_stack_top, main_stack_top, main_stack_bottom;
extern int main(void);
void fault_entry(void);
_Noreturn void start_on_process_stack(void);

const char hal_board_name[] = "stm32";
#define STACK_PAINT 0x5a5a5a5au

static void reset(void) {
    __asm__ volatile("cpsid i");
    FPU_CPACR |= 0xfu << 20;
    __asm__ volatile("dsb\nisb");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    for (uint32_t *to = &main_stack_bottom; to < &main_stack_top;) {
        *to++ = STACK_PAINT;
    }
    __asm__ volatile("msr psp, %0\n"
                     "mov r0, #2\n" /* CONTROL.SPSEL */
                     "msr control, r0\n"
                     "isb\n"
                     "b start_on_process_stack"
                     :
                     : "r"(&main_stack_top)
                     : "r0", "memory");
    __builtin_unreachable();
}

void start_on_process_stack(void) {
    hal_init();
    (void)main();
    hal_panic(0);
}

uint32_t hal_stack_bytes(void) { return (uint32_t)((uintptr_t)&main_stack_top - (uintptr_t)&main_stack_bottom); }

uint32_t hal_stack_used(void) {
    const uint32_t *at = &main_stack_bottom;
    while (at < &main_stack_top && *at == STACK_PAINT) {
        at++;
    }
    return (uint32_t)((uintptr_t)&main_stack_top - (uintptr_t)at);
}

#define EXCEPTIONS 16u
#define INTERRUPTS 82u
/* The header in front of a slot keeps this aligned to 512 bytes, as 98 vectors need. */
__attribute__((section(".vectors"), used)) static const void *const vectors[EXCEPTIONS + INTERRUPTS] = {
    [0] = &exception_stack_top,
    [1] = reset,
    [2 ... 14] = fault_entry,
    [15] = timer_tick,
    [16 ... EXCEPTIONS + USART1_IRQ - 1] = fault_entry,
    [EXCEPTIONS + USART1_IRQ] = uart_interrupt,
    [EXCEPTIONS + USART2_IRQ] = sensors_interrupt,
    [EXCEPTIONS + USART2_IRQ + 1 ... EXCEPTIONS + INTERRUPTS - 1] = fault_entry,
};
