/* Core-local interruptor (FE310-G000 manual chapter 9). */
#ifndef FE310_CLINT_H
#define FE310_CLINT_H
#include <stdint.h>

#define CLINT_MTIMECMP_LOW (*(volatile uint32_t *)0x02004000u)
#define CLINT_MTIMECMP_HIGH (*(volatile uint32_t *)0x02004004u)
#define CLINT_MTIME_LOW (*(volatile uint32_t *)0x0200bff8u)
#define CLINT_MTIME_HIGH (*(volatile uint32_t *)0x0200bffcu)

#endif
