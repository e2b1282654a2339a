/* Independent watchdog (RM0090 chapter 21). Not modelled by QEMU. */
#ifndef STM32_IWDG_H
#define STM32_IWDG_H
#include <stdint.h>

struct stm32_iwdg {
    volatile uint32_t KR, PR, RLR, SR;
};
#define IWDG ((struct stm32_iwdg *)0x40003000u)
#define IWDG_KR_RELOAD 0xaaaau
#define IWDG_KR_ACCESS 0x5555u
#define IWDG_KR_START 0xccccu
#define IWDG_PR_DIV256 6u
_Static_assert(sizeof(struct stm32_iwdg) == 0x10, "RM0090 21.4.5");

#endif
