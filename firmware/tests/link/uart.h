/* A polled serial port for tests on the boards' machines; on the host, standard input and output. */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stdint.h>

void uart_open(void);
bool uart_get(uint8_t *byte);
/* False while the port is busy. */
bool uart_put(uint8_t byte);
/* Milliseconds since the start. */
uint32_t uart_clock_ms(void);

#endif
