/* The way out to the host of a QEMU board. A board's image uses it for its flash file alone. */
#ifndef SEMIHOST_H
#define SEMIHOST_H

#include <stdint.h>

enum { SEMIHOST_OPEN = 1, SEMIHOST_WRITE = 5, SEMIHOST_READ = 6, SEMIHOST_SEEK = 10, SEMIHOST_CMDLINE = 0x15,
       SEMIHOST_EXIT = 0x18, SEMIHOST_EXIT_EXTENDED = 0x20 };

uint32_t semihost(uint32_t number, const void *block);

#endif
