/* Only in the module: a loop with and without a call to the host. */
#include <stdint.h>

__attribute__((import_module("bench"), import_name("host_call"))) uint32_t host_call(uint32_t a, uint32_t b);

__attribute__((export_name("host_calls"))) uint32_t host_calls(uint32_t n) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum = host_call(sum, i);
    }
    return sum;
}

__attribute__((export_name("plain_loop"))) uint32_t plain_loop(uint32_t n) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += i;
        __asm__ volatile("" : "+r"(sum));
    }
    return sum;
}
