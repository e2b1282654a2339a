/* Universal synchronous asynchronous receiver transmitter (RM0090 chapter 30). */
#ifndef STM32_USART_H
#define STM32_USART_H
#include <stdint.h>

struct stm32_usart {
    volatile uint32_t SR, DR, BRR, CR1, CR2, CR3, GTPR;
};
#define USART1 ((struct stm32_usart *)0x40011000u)
#define USART2 ((struct stm32_usart *)0x40004400u)
#define USART_SR_PE 1u
#define USART_SR_FE (1u << 1)
#define USART_SR_NF (1u << 2)
#define USART_SR_ORE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TC (1u << 6)
#define USART_SR_TXE (1u << 7)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_RXNEIE (1u << 5)
#define USART_CR1_TXEIE (1u << 7)
#define USART_CR1_UE (1u << 13)
#define USART1_IRQ 37u
#define USART2_IRQ 38u
_Static_assert(sizeof(struct stm32_usart) == 0x1c, "RM0090 30.6.8");

#endif
