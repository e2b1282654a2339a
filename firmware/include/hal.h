/* What a board gives its program. One thread of execution (the main loop) and interrupts below it; nothing here is
 * called from an interrupt but what says so. */
#ifndef HAL_H
#define HAL_H

#include <stdbool.h>
#include <stdint.h>

#include "crash.h"

extern const char hal_board_name[]; /* "stm32", "hifive1" */

/* Clocks, UART, timer, memory protection, supervision; the program's main runs after it. */
void hal_init(void);

/* Microseconds since the start, never going back. Also from interrupts. */
uint64_t hal_now_us(void);
/* Sleeps until an interrupt, or at the latest until `until_us`; returns at once when input waits. */
void hal_idle(uint64_t until_us);

/* The main loop's sign of life: HAL_SUPERVISION_US without one leaves a crash record and resets the board.
 * place: what comes next, any number; it is in the record. */
#define HAL_SUPERVISION_US 4000000u
void hal_alive(uint16_t place);

/* The serial port of the link, 115,200 Bd 8N1. */
uint32_t hal_uart_read(uint8_t *data, uint32_t capacity);
/* Takes as many bytes as there is room for; their number. */
uint32_t hal_uart_write(const uint8_t *data, uint32_t length);
uint32_t hal_uart_room(void);
struct hal_uart_statistics {
    uint32_t received, sent;
    uint32_t lost;   /* the ring was full */
    uint32_t errors; /* framing, noise, overrun of the part */
};
const struct hal_uart_statistics *hal_uart_statistics(void);

_Noreturn void hal_reset(enum reset_reason reason);
/* A defect: crash record with this number as its cause, then reset. */
_Noreturn void hal_panic(uint32_t number);

uint32_t hal_interrupts_off(void);
void hal_interrupts_restore(uint32_t state);

/* Deepest use of the main stack since the start, and its size, in bytes. */
uint32_t hal_stack_used(void);
uint32_t hal_stack_bytes(void);

/* Writes the part's own number, up to 12 bytes; its length, 0 where the part has none. */
uint32_t hal_unique_id(uint8_t id[12]);

#endif
