/* What start-up does, the clock tree, the watchdog, reset. */
#include "board.h"

#include "cortex_m4.h"
#include "hal.h"
#include "stm32_flash.h"
#include "stm32_gpio.h"
#include "stm32_iwdg.h"
#include "stm32_rcc.h"

void hal_init(void) {
    clock_init();
    crash_boot();
    mpu_init();
    timer_init();
    uart_init();
    hal_alive(0);
    watchdog_start();
    __asm__ volatile("cpsie i");
}

/* Waits until all bits of `mask` are set, WAIT_TURNS at most. */
static int wait_for(const volatile uint32_t *word, uint32_t mask) {
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        if ((*word & mask) == mask) {
            return 1;
        }
    }
    return 0;
}

/* 168 MHz from the crystal of 8 MHz; where the crystal or the PLL does not come, the reset clock stays and the baud rate is
 * wrong, which the gateway sees as a dead link. QEMU models no clock tree and needs none. */
void clock_init(void) {
#ifdef BOARD_PART
    RCC->CR |= RCC_CR_HSEON;
    if (!wait_for(&RCC->CR, RCC_CR_HSERDY)) {
        return;
    }
    FLASH->ACR = FLASH_ACR_LATENCY_5WS | FLASH_ACR_PRFTEN | FLASH_ACR_ICEN | FLASH_ACR_DCEN;
    RCC->PLLCFGR = RCC_PLLCFGR_PLLM(8u) | RCC_PLLCFGR_PLLN(336u) | RCC_PLLCFGR_PLLP_2 | RCC_PLLCFGR_PLLSRC_HSE | RCC_PLLCFGR_PLLQ(7u);
    RCC->CFGR = RCC_CFGR_PPRE1_DIV4 | RCC_CFGR_PPRE2_DIV2;
    RCC->CR |= RCC_CR_PLLON;
    if (!wait_for(&RCC->CR, RCC_CR_PLLRDY)) {
        return;
    }
    RCC->CFGR |= RCC_CFGR_SW_PLL;
    (void)wait_for(&RCC->CFGR, RCC_CFGR_SWS_PLL);
#else
    (void)wait_for;
#endif
    RCC->AHB1ENR |= RCC_AHB1ENR_GPIOAEN;
    RCC->APB1ENR |= RCC_APB1ENR_PWREN | RCC_APB1ENR_USART2EN;
    RCC->APB2ENR |= RCC_APB2ENR_USART1EN;
    /* USART1 on PA9 (TX) and PA10 (RX). */
    GPIOA->MODER = (GPIOA->MODER & ~(GPIO_MODER_MASK(9) | GPIO_MODER_MASK(10))) | GPIO_MODER_AF(9) | GPIO_MODER_AF(10);
    GPIOA->PUPDR |= GPIO_PUPDR_UP(10);
    GPIOA->AFRH = (GPIOA->AFRH & ~(GPIO_AFRH_MASK(9) | GPIO_AFRH_MASK(10))) | GPIO_AFRH_AF7(9) | GPIO_AFRH_AF7(10);
}

/* 32 kHz / 256 x 1024: 8 s, behind the supervision's 4. */
void watchdog_start(void) {
    IWDG->KR = IWDG_KR_ACCESS;
    IWDG->PR = IWDG_PR_DIV256;
    IWDG->RLR = 1024;
    for (uint32_t turn = 0; turn < WAIT_TURNS && IWDG->SR != 0; turn++) {
    }
    IWDG->KR = IWDG_KR_START;
}

void watchdog_feed(void) { IWDG->KR = IWDG_KR_RELOAD; }

void hal_reset(enum reset_reason reason) {
    __asm__ volatile("cpsid i");
    crash_note_reset(reason);
    __asm__ volatile("dsb");
    SCB->AIRCR = SCB_AIRCR_VECTKEY | SCB_AIRCR_SYSRESETREQ;
    __asm__ volatile("dsb");
    for (;;) {
    }
}

uint32_t hal_interrupts_off(void) {
    uint32_t state;
    __asm__ volatile("mrs %0, primask\ncpsid i" : "=r"(state)::"memory");
    return state;
}

void hal_interrupts_restore(uint32_t state) { __asm__ volatile("msr primask, %0" ::"r"(state) : "memory"); }

uint32_t hal_unique_id(uint8_t id[12]) {
#ifdef BOARD_PART
    for (uint32_t i = 0; i < 12; i++) {
        id[i] = (uint8_t)(UNIQUE_ID[i / 4] >> (8 * (i % 4)));
    }
    return 12;
#else
    (void)id; /* a read of it faults the bus under QEMU */
    return 0;
#endif
}
