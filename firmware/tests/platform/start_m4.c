/* Reset of mps2-an386: vectors, FPU on, data and bss, main. */
#include <stdint.h>

#include "platform.h"

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
extern int main(int argc, char **argv);
void systick_handler(void);
static void fault(void) { platform_exit(99); }

static void reset(void) {
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
    __asm__ volatile("dsb\nisb");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    platform_exit(main(0, 0));
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, systick_handler,
};
