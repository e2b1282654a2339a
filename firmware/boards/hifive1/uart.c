/* UART0, the link: bytes come and go by interrupt through rings. UART1 takes samples of simulated sensors. */
#include "board.h"
#include "fe310_plic.h"
#include "fe310_uart.h"
#include "hal.h"
#include "ring.h"
#include "sensor_port.h"

static uint8_t rx_bytes[256], tx_bytes[128];
static struct ring rx = RING(rx_bytes), tx = RING(tx_bytes);
static struct hal_uart_statistics statistics;

void uart_init(void) {
    UART0->div = CORE_HZ / BAUD - 1;
    UART0->ie = UART_IE_RXWM;
    UART0->txctrl = UART_TXCTRL_TXEN | UART_TXCTRL_TXCNT(1u);
    UART0->rxctrl = UART_RXCTRL_RXEN; /* interrupt from the first byte on */
    UART1->div = CORE_HZ / BAUD - 1;
    UART1->ie = UART_IE_RXWM;
    UART1->rxctrl = UART_RXCTRL_RXEN;
    PLIC_PRIORITY[UART0_IRQ] = 1;
    PLIC_PRIORITY[UART1_IRQ] = 1;
    PLIC_ENABLE[0] = 1u << UART0_IRQ | 1u << UART1_IRQ;
    PLIC_ENABLE[1] = 0;
    PLIC_THRESHOLD = 0;
    __asm__ volatile("csrs mie, %0" ::"r"(1u << 11));
}

void sensors_interrupt(void) {
    uint32_t data;
    while (((data = UART1->rxdata) & UART_RXDATA_EMPTY) == 0) {
        sensor_port_byte((uint8_t)data);
    }
}

static void send_some(void) {
    uint8_t byte;
    while (ring_used(&tx) != 0 && (UART0->txdata & UART_TXDATA_FULL) == 0 && ring_get(&tx, &byte)) {
        UART0->txdata = byte;
        statistics.sent++;
    }
    UART0->ie = ring_used(&tx) != 0 ? UART_IE_RXWM | UART_IE_TXWM : UART_IE_RXWM;
}

void uart_interrupt(void) {
    uint32_t data;
    while (((data = UART0->rxdata) & UART_RXDATA_EMPTY) == 0) {
        statistics.received++;
        if (!ring_put(&rx, (uint8_t)data)) {
            statistics.lost++;
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
        const uint32_t state = hal_interrupts_off();
        send_some();
        hal_interrupts_restore(state);
    }
    return count;
}

uint32_t hal_uart_room(void) { return ring_room(&tx); }
const struct hal_uart_statistics *hal_uart_statistics(void) { return &statistics; }
