/* Platform-level interrupt controller (FE310-G000 manual chapter 10). */
#ifndef FE310_PLIC_H
#define FE310_PLIC_H
#include <stdint.h>

#define PLIC_PRIORITY ((volatile uint32_t *)0x0c000000u)
#define PLIC_ENABLE ((volatile uint32_t *)0x0c002000u)
#define PLIC_THRESHOLD (*(volatile uint32_t *)0x0c200000u)
#define PLIC_CLAIM (*(volatile uint32_t *)0x0c200004u)
#define PLIC_SOURCES 52u

#endif
