/* Reset and clock control (RM0090 chapter 7). QEMU reads it as zero. */
#ifndef STM32_RCC_H
#define STM32_RCC_H
#include <stdint.h>

struct stm32_rcc {
    volatile uint32_t CR, PLLCFGR, CFGR, CIR, AHB1RSTR, AHB2RSTR, AHB3RSTR, reserved0, APB1RSTR, APB2RSTR, reserved1[2];
    volatile uint32_t AHB1ENR, AHB2ENR, AHB3ENR, reserved2, APB1ENR, APB2ENR, reserved3[2];
    volatile uint32_t AHB1LPENR, AHB2LPENR, AHB3LPENR, reserved4, APB1LPENR, APB2LPENR, reserved5[2];
    volatile uint32_t BDCR, CSR, reserved6[2], SSCGR, PLLI2SCFGR;
};
#define RCC ((struct stm32_rcc *)0x40023800u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR_PLLM(m) (m)
#define RCC_PLLCFGR_PLLN(n) ((n) << 6)
#define RCC_PLLCFGR_PLLP_2 0u
#define RCC_PLLCFGR_PLLSRC_HSE (1u << 22)
#define RCC_PLLCFGR_PLLQ(q) ((q) << 24)
#define RCC_CFGR_SW_PLL 2u
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_CFGR_PPRE1_DIV4 (5u << 10)
#define RCC_CFGR_PPRE2_DIV2 (4u << 13)
#define RCC_AHB1ENR_GPIOAEN 1u
#define RCC_APB1ENR_USART2EN (1u << 17)
#define RCC_APB1ENR_PWREN (1u << 28)
#define RCC_APB2ENR_USART1EN (1u << 4)
#define RCC_CSR_RMVF (1u << 24)
#define RCC_CSR_IWDGRSTF (1u << 29)
#define RCC_CSR_PORRSTF (1u << 27)
_Static_assert(sizeof(struct stm32_rcc) == 0x88, "RM0090 7.3.28");

#endif
