/* QEMU: files, output and the end of the program by semihosting; instructions by the core's counter. */
#include "platform.h"

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18, SYS_EXIT_EXTENDED = 0x20 };

#if !defined(__arm__)
/* In start_rv32.S: the sequence must be uncompressed and may not cross a page. */
uint32_t semihost_trap(uint32_t number, const void *block);
#endif

static uint32_t semihost(uint32_t number, const void *block) {
#if defined(__arm__)
    register uint32_t r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#else
    return semihost_trap(number, block);
#endif
}

int platform_open(const char *path) {
    uint32_t length = 0;
    while (path[length] != '\0') {
        length++;
    }
    const uintptr_t block[3] = {(uintptr_t)path, 1, length};
    return (int)semihost(SYS_OPEN, block);
}

uint32_t platform_read(int file, void *data, uint32_t length) {
    const uintptr_t block[3] = {(uintptr_t)file, (uintptr_t)data, length};
    return length - semihost(SYS_READ, block);
}

void platform_write(const char *text, uint32_t length) {
    static int out = -1;
    if (out < 0) {
        static const char console[] = ":tt";
        const uintptr_t block[3] = {(uintptr_t)console, 4, 3};
        out = (int)semihost(SYS_OPEN, block);
    }
    const uintptr_t block[3] = {(uintptr_t)out, (uintptr_t)text, length};
    semihost(SYS_WRITE, block);
}

void platform_exit(int code) {
    const uintptr_t block[2] = {0x20026, (uintptr_t)code};
    semihost(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

#if defined(__arm__)
#define SYST_CSR (*(volatile uint32_t *)0xe000e010u)
#define SYST_RVR (*(volatile uint32_t *)0xe000e014u)
#define SYST_CVR (*(volatile uint32_t *)0xe000e018u)
static volatile uint32_t overflows;
void systick_handler(void);
void systick_handler(void) { overflows++; }

/* SysTick at the core's clock: under -icount shift=0 an instruction takes 1 ns. */
uint32_t platform_ticks(void) {
    if ((SYST_CSR & 1) == 0) {
        SYST_RVR = 0xffffff;
        SYST_CVR = 0;
        SYST_CSR = 7;
    }
    uint32_t high;
    uint32_t low;
    do {
        high = overflows;
        low = 0xffffff - SYST_CVR;
    } while (high != overflows);
    return high * 0x1000000u + low;
}
#ifndef CORE_MHZ
#define CORE_MHZ 25
#endif
uint64_t platform_instructions(uint32_t ticks) { return (uint64_t)ticks * 1000 / CORE_MHZ; }
#else
uint32_t platform_ticks(void) {
    uint32_t value;
    __asm__ volatile("csrr %0, minstret" : "=r"(value));
    return value;
}
uint64_t platform_instructions(uint32_t ticks) { return ticks; }
#endif

extern uint8_t memory_start[];
extern uint8_t memory_end[];
uint8_t *platform_memory(uint32_t *bytes) {
    *bytes = (uint32_t)(memory_end - memory_start);
    return memory_start;
}
