/* The clocks and the pieces of this board, for its own files. */
#ifndef STM32_BOARD_H
#define STM32_BOARD_H
#include <stdint.h>

#define CORE_HZ 168000000u
#define APB2_HZ 84000000u
#define APB1_HZ 42000000u
#define BAUD 115200u
/* Turns of any wait for the hardware: about 100 ms at 168 MHz. */
#define WAIT_TURNS 4000000u

void clock_init(void);
void watchdog_start(void);
void watchdog_feed(void);
void uart_init(void);
void uart_interrupt(void);
void sensors_interrupt(void);
/* True while received bytes wait. */
int uart_waiting(void);
void timer_init(void);
void timer_tick(void);
void mpu_init(void);
#ifdef BOARD_PART
/* For the flash controller: stores to the flash start an operation. */
void mpu_flash_writable(int writable);
#endif

#endif
