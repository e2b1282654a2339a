/* The host: standard input and output. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform.h"

int main(int argc, char **argv);
const char *platform_input = "spec.bin";

int platform_open(const char *path) { return open(path, O_RDONLY); }

uint32_t platform_read(int file, void *data, uint32_t length) {
    const ssize_t got = read(file, data, length);
    return got > 0 ? (uint32_t)got : 0;
}

void platform_write(const char *text, uint32_t length) {
    while (length != 0) {
        const ssize_t put = write(1, text, length);
        if (put <= 0) {
            exit(3);
        }
        text += put;
        length -= (uint32_t)put;
    }
}

void platform_exit(int code) { exit(code); }
uint32_t platform_ticks(void) { return 0; }
uint64_t platform_instructions(uint32_t ticks) { return ticks; }

uint8_t *platform_memory(uint32_t *bytes) {
    *bytes = 256u << 20;
    void *memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}
