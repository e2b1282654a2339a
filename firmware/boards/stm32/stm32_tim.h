/* General-purpose timer TIM2, 32 bits (RM0090 chapter 18). */
#ifndef STM32_TIM_H
#define STM32_TIM_H
#include <stdint.h>

struct stm32_tim {
    volatile uint32_t CR1, CR2, SMCR, DIER, SR, EGR, CCMR1, CCMR2, CCER, CNT, PSC, ARR, reserved0;
    volatile uint32_t CCR1, CCR2, CCR3, CCR4, reserved1, DCR, DMAR, OR;
};
#define TIM2 ((struct stm32_tim *)0x40000000u)
#define TIM_CR1_CEN 1u
#define TIM_CR1_URS (1u << 2)
#define TIM_CR1_OPM (1u << 3)
#define TIM_DIER_UIE 1u
#define TIM_SR_UIF 1u
#define TIM_EGR_UG 1u
#define TIM2_IRQ 28u
_Static_assert(sizeof(struct stm32_tim) == 0x54, "RM0090 18.4.21");

#endif
