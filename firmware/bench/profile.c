/* Counts the translated instructions that the kernels execute. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "ops.h"
#include "wbi.h"

uint64_t wbi_profile[OP_COUNT];
#define NAME(N) #N,
static const char *const names[] = {WBI_OPS(NAME)};
static uint8_t flash_memory[1 << 20] __attribute__((aligned(8)));
static uint8_t ram[1 << 20] __attribute__((aligned(8)));
static uint32_t stack[4096], scratch[1024];

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    memcpy((uint8_t *)context + offset, data, length);
    return true;
}

static int by_count(const void *a, const void *b) {
    const uint64_t left = wbi_profile[*(const uint32_t *)a];
    const uint64_t right = wbi_profile[*(const uint32_t *)b];
    return left < right ? 1 : left > right ? -1 : 0;
}

int main(int argc, char **argv) {
    static struct wbi_loader loader;
    static struct wbi_instance instance;
    static const uint8_t digest[WBI_DIGEST_BYTES];
    static uint8_t module[65536];
    uint32_t order[OP_COUNT];
    uint64_t all = 0;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL) {
        return 2;
    }
    const size_t length = fread(module, 1, sizeof module, file);
    fclose(file);
    const struct wbi_flash flash = {flash_memory, flash_memory, sizeof flash_memory, program};
    const struct wbi_buffers buffers = {ram, sizeof ram, stack, sizeof stack};
    wbi_load_begin(&loader, &flash, scratch, sizeof scratch, NULL);
    wbi_load_feed(&loader, module, length);
    if (wbi_load_finish(&loader, digest) != WBI_OK ||
        wbi_instantiate(&instance, flash_memory, &buffers, NULL, 0, NULL, 0) != WBI_OK) {
        fprintf(stderr, "%s\n", loader.error.reason);
        return 1;
    }
#define RUN(name, argument, memory) { \
        const uint64_t number = argument; \
        uint32_t function; \
        if (wbi_find_function(&instance, #name, sizeof #name - 1, &function)) { \
            wbi_set_fuel(&instance, 0xffffffffu); \
            wbi_invoke(&instance, function, &number, 1); \
        } \
    }
    KERNELS(RUN)
    for (uint32_t i = 0; i < OP_COUNT; i++) {
        order[i] = i;
        all += wbi_profile[i];
    }
    qsort(order, OP_COUNT, sizeof order[0], by_count);
    printf("%" PRIu64 " instructions\n", all);
    for (uint32_t i = 0; i < 24; i++) {
        printf("%-14s %5.1f %%\n", names[order[i]], 100.0 * (double)wbi_profile[order[i]] / (double)all);
    }
    return 0;
}
