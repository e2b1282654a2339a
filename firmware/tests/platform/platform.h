/* What a test program needs of the machine under it: the host, or QEMU with semihosting. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdint.h>

/* Opens a file for reading; a negative number when it cannot be. */
int platform_open(const char *path);
/* Reads up to `length` bytes; the number read, 0 at the end. */
uint32_t platform_read(int file, void *data, uint32_t length);
void platform_write(const char *text, uint32_t length);
/* Ends the program; 0 is success. */
void platform_exit(int code) __attribute__((noreturn));
/* Executed instructions since the first call, in counts of `platform_instructions_scale` per 1000. */
uint32_t platform_ticks(void);
uint64_t platform_instructions(uint32_t ticks);
/* A large piece of RAM for what is tested. */
uint8_t *platform_memory(uint32_t *bytes);

/* printf of %s, %u, %x, %d and %c. */
void say(const char *format, ...);

#endif
