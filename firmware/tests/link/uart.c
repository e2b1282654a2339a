/* STM32F405 reference manual (RM0090) 30.6 and FE310-G000 manual chapter 17. */
#include "uart.h"

#define AT(address) (*(volatile uint32_t *)(address))

#if defined(__arm__)
#define USART1_SR AT(0x40011000u)
#define USART1_DR AT(0x40011004u)
#define USART1_CR1 AT(0x4001100cu)
#define SYST_CSR AT(0xe000e010u)
#define SYST_RVR AT(0xe000e014u)
#define SYST_CVR AT(0xe000e018u)
static volatile uint32_t ticks;
void systick_handler(void);
void systick_handler(void) { ticks++; }

void uart_open(void) {
    USART1_CR1 = 0x200c; /* enable, transmit, receive */
    SYST_RVR = 168000 - 1;
    SYST_CVR = 0;
    SYST_CSR = 7;
}
bool uart_get(uint8_t *byte) {
    if ((USART1_SR & 0x20) == 0) {
        return false;
    }
    *byte = (uint8_t)USART1_DR;
    return true;
}
bool uart_put(uint8_t byte) {
    if ((USART1_SR & 0x80) == 0) {
        return false;
    }
    USART1_DR = byte;
    return true;
}
uint32_t uart_clock_ms(void) { return ticks; }
#else
#define UART0_TXDATA AT(0x10013000u)
#define UART0_RXDATA AT(0x10013004u)
#define UART0_TXCTRL AT(0x10013008u)
#define UART0_RXCTRL AT(0x1001300cu)
#define MTIME_LOW AT(0x0200bff8u)
#define MTIME_HIGH AT(0x0200bffcu)
void uart_open(void) {
    UART0_TXCTRL = 1;
    UART0_RXCTRL = 1;
}
bool uart_get(uint8_t *byte) {
    const uint32_t data = UART0_RXDATA;
    *byte = (uint8_t)data;
    return (data & 0x80000000u) == 0;
}
bool uart_put(uint8_t byte) {
    if ((UART0_TXDATA & 0x80000000u) != 0) {
        return false;
    }
    UART0_TXDATA = byte;
    return true;
}
uint32_t uart_clock_ms(void) {
    uint32_t high;
    uint32_t low;
    do {
        high = MTIME_HIGH;
        low = MTIME_LOW;
    } while (high != MTIME_HIGH);
    /* QEMU's timer of this machine runs at 10 MHz. */
    return (uint32_t)(((uint64_t)high << 32 | low) / 10000);
}
#endif
