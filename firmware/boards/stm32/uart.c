/* USART1, the link: bytes come and go by interrupt through rings. USART2 takes samples of simulated sensors. */
#include "board.h"
#include "cortex_m4.h"
#include "hal.h"
#include "ring.h"
#include "sensor_port.h"
#include "stm32_usart.h"

static uint8_t rx_bytes[1024], tx_bytes[512];
static struct ring rx = RING(rx_bytes), tx = RING(tx_bytes);
static struct hal_uart_statistics statistics;

void uart_init(void) {
    USART1->BRR = (APB2_HZ + BAUD / 2) / BAUD;
    USART1->CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE | USART_CR1_RXNEIE;
    USART2->BRR = (APB1_HZ + BAUD / 2) / BAUD;
    USART2->CR1 = USART_CR1_UE | USART_CR1_RE | USART_CR1_RXNEIE;
    NVIC_ISER[USART1_IRQ / 32] = 1u << (USART1_IRQ % 32);
    NVIC_ISER[USART2_IRQ / 32] = 1u << (USART2_IRQ % 32);
}

void sensors_interrupt(void) {
    while ((USART2->SR & (USART_SR_RXNE | USART_SR_ORE)) != 0) {
        sensor_port_byte((uint8_t)USART2->DR);
    }
}

static void send_some(void) {
    uint8_t byte;
    while ((USART1->SR & USART_SR_TXE) != 0 && ring_get(&tx, &byte)) {
        USART1->DR = byte;
        statistics.sent++;
    }
    if (ring_used(&tx) == 0) {
        USART1->CR1 &= ~USART_CR1_TXEIE;
    }
}

void uart_interrupt(void) {
    for (;;) {
        const uint32_t status = USART1->SR;
        if ((status & (USART_SR_RXNE | USART_SR_ORE)) == 0) {
            break;
        }
        const uint8_t byte = (uint8_t)USART1->DR; /* clears the errors too */
        if ((status & (USART_SR_FE | USART_SR_NF | USART_SR_ORE)) != 0) {
            statistics.errors++;
        }
        if ((status & USART_SR_RXNE) != 0) {
            statistics.received++;
            if (!ring_put(&rx, byte)) {
                statistics.lost++;
            }
        }
    }
    send_some();
}

int uart_waiting(void) { return ring_used(&rx) != 0 || sensor_port_waiting(); }

uint32_t hal_uart_read(uint8_t *data, uint32_t capacity) {
    uint32_t count = 0;
    while (count < capacity && ring_get(&rx, data + count)) {
        count++;
    }
    return count;
}

uint32_t hal_uart_write(const uint8_t *data, uint32_t length) {
    uint32_t count = 0;
    while (count < length && ring_put(&tx, data[count])) {
        count++;
    }
    if (count != 0) {
        /* QEMU 7.2 gives no interrupt for an empty transmitter: the first bytes go from here on both. */
        const uint32_t state = hal_interrupts_off();
        USART1->CR1 |= USART_CR1_TXEIE;
        send_some();
        hal_interrupts_restore(state);
    }
    return count;
}

uint32_t hal_uart_room(void) { return ring_room(&tx); }
const struct hal_uart_statistics *hal_uart_statistics(void) { return &statistics; }
