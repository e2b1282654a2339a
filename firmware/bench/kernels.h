#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

/* X(name, argument, memory-heavy) */
#define KERNELS(X) \
    X(fib, 16, 0) X(crc32, 200, 0) X(sieve, 64, 1) X(matrix, 3, 1) X(sort, 200, 1) X(list, 1500, 1) X(sha256, 2, 1) \
    X(parse, 10, 1) X(hash64, 300, 0) X(fir, 60, 1) X(strings, 4, 1) X(pid, 60, 0)

#define KERNEL_DECLARATION(name, argument, memory) uint32_t name(uint32_t n);
KERNELS(KERNEL_DECLARATION)

#endif
