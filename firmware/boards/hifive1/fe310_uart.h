/* Universal asynchronous receiver/transmitter (FE310-G000 manual chapter 18). */
#ifndef FE310_UART_H
#define FE310_UART_H
#include <stdint.h>

struct fe310_uart {
    volatile uint32_t txdata, rxdata, txctrl, rxctrl, ie, ip, div;
};
#define UART0 ((struct fe310_uart *)0x10013000u)
#define UART1 ((struct fe310_uart *)0x10023000u)
#define UART_TXDATA_FULL (1u << 31)
#define UART_RXDATA_EMPTY (1u << 31)
#define UART_TXCTRL_TXEN 1u
#define UART_TXCTRL_TXCNT(n) ((n) << 16)
#define UART_RXCTRL_RXEN 1u
#define UART_IE_TXWM 1u
#define UART_IE_RXWM 2u
#define UART0_IRQ 3u
#define UART1_IRQ 4u
_Static_assert(sizeof(struct fe310_uart) == 0x1c, "chapter 18, register map");

#endif
