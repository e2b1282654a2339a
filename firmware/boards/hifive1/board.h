/* The clocks and the pieces of this board, for its own files. */
#ifndef HIFIVE1_BOARD_H
#define HIFIVE1_BOARD_H
#include <stdint.h>

#define CORE_HZ 16000000u /* the crystal itself: the serial flash needs no divider for it */
#define BAUD 115200u
/* The chip counts mtime at 32,768 Hz; QEMU at 10 MHz. */
#ifdef BOARD_PART
#define MTIME_HZ 32768u
#else
#define MTIME_HZ 10000000u
#endif
/* Turns of any wait for the hardware: about 1 s. */
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
/* True when the supervision's time is over. */
int timer_interrupt(void);
void pmp_init(void);

#endif
