/* Generated programs here and in wasmtime: results, traps, globals and memory must agree; and running in small
 * pieces of fuel must give what running at once gives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"
#include "oracle.h"
#include "wbi.h"

enum { FLASH = 1 << 20, RAM = 1 << 18, STACK = 1 << 14 };
static uint8_t flash_memory[FLASH] __attribute__((aligned(8)));
static uint8_t ram[2][RAM] __attribute__((aligned(8)));
static uint32_t stack[2][STACK / 4];
static uint32_t scratch[8192];
static struct wbi_loader loader;
static struct wbi_instance instance[2];
static struct generated module;

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    uint8_t *to = (uint8_t *)context + offset;
    for (uint32_t i = 0; i < length; i++) {
        if ((to[i] & data[i]) != data[i]) {
            abort();
        }
        to[i] &= data[i];
    }
    return true;
}

static void keep_module(void) {
    const char *path = getenv("WBI_FUZZ_MODULE");
    FILE *file = path != NULL ? fopen(path, "wb") : NULL;
    if (file != NULL) {
        fwrite(module.wasm, 1, module.length, file);
        fclose(file);
    }
}

#define DIFFERENCE(...) do { fprintf(stderr, __VA_ARGS__); keep_module(); abort(); } while (0)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    oracle_init();
    return 0;
}

/* wasmtime's trap code of a status. */
static int trap_code(enum wbi_status status) {
    switch (status) {
    case WBI_OK: return -1;
    case WBI_TRAP_STACK: return 0;
    case WBI_TRAP_MEMORY: return 1;
    case WBI_TRAP_TABLE: return 3;
    case WBI_TRAP_NULL: return 4;
    case WBI_TRAP_SIGNATURE: return 5;
    case WBI_TRAP_OVERFLOW: return 6;
    case WBI_TRAP_DIVIDE: return 7;
    case WBI_TRAP_CONVERSION: return 8;
    case WBI_TRAP_UNREACHABLE: return 9;
    default: return 1000;
    }
}

static bool same_value(uint8_t type, uint64_t a, uint64_t b) {
    if (type == 2 && (a & 0x7fffffffu) > 0x7f800000u) {
        return (b & 0x7fffffffu) > 0x7f800000u;
    }
    return a == b;
}

static void compare_call(uint32_t function) {
    const char name[3] = {'f', (char)('0' + function), '\0'};
    uint64_t arguments[GEN_PARAMS];
    struct outcome outcome;
    const uint32_t params = module.type[function].params;
    const uint32_t results = module.type[function].results;
    for (uint32_t i = 0; i < params; i++) {
        arguments[i] = UINT64_C(0x4023000040490fdb) * (i + function * 3 + 1);
        if ((module.type[function].types[i] & 1) == 0) {
            arguments[i] = (uint32_t)arguments[i];
        }
    }
    wbi_set_fuel(&instance[0], 0xffffffffu);
    const enum wbi_status status = wbi_invoke(&instance[0], function, arguments, params);
    wbi_set_fuel(&instance[1], 1);
    enum wbi_status pieces = wbi_invoke(&instance[1], function, arguments, params);
    for (uint32_t more = 7; pieces == WBI_OUT_OF_FUEL; more = more * 5 % 3001 + 1) {
        wbi_set_fuel(&instance[1], more);
        pieces = wbi_resume(&instance[1]);
    }
    oracle_call(name, module.type[function].types, arguments, params, results, &outcome);
    if (pieces != status) {
        DIFFERENCE("%s: %s at once, %s in pieces\n", name, wbi_status_name(status), wbi_status_name(pieces));
    }
    if (trap_code(status) != outcome.trap) {
        DIFFERENCE("%s: %s here, trap %d in wasmtime\n", name, wbi_status_name(status), outcome.trap);
    }
    for (uint32_t i = 0; status == WBI_OK && i < results; i++) {
        const uint64_t value = wbi_result(&instance[0], function, i);
        if (!same_value(module.type[function].types[params + i], value, outcome.results[i])) {
            DIFFERENCE("%s: result %u is %llx here, %llx in wasmtime\n", name, i, (unsigned long long)value,
                       (unsigned long long)outcome.results[i]);
        }
        if (wbi_result(&instance[1], function, i) != value) {
            DIFFERENCE("%s: result %u differs in pieces\n", name, i);
        }
    }
}

static void compare_state(void) {
    size_t bytes;
    const uint8_t *memory = oracle_memory(&bytes);
    for (uint32_t i = 0; i < 2; i++) {
        if (bytes != instance[i].memory->bytes || memcmp(memory, instance[i].memory->data, bytes) != 0) {
            DIFFERENCE("memory differs\n");
        }
    }
    for (uint32_t g = 0; g < 4; g++) {
        const char name[3] = {'g', (char)('0' + g), '\0'};
        const uint32_t *cells = wbi_global_cells(&instance[0], g);
        uint64_t value;
        if (!oracle_global(name, &value) ||
            !same_value((uint8_t)g, (g & 1) != 0 ? cells[0] | (uint64_t)cells[1] << 32 : cells[0], value)) {
            DIFFERENCE("global %s differs\n", name);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
    static const uint8_t digest[WBI_DIGEST_BYTES];
    generate(&module, data, length);
    memset(flash_memory, 0xff, FLASH);
    const struct wbi_flash flash = {flash_memory, flash_memory, FLASH, program};
    enum wbi_status status = wbi_load_begin(&loader, &flash, scratch, sizeof scratch, NULL);
    if (status == WBI_OK) {
        status = wbi_load_feed(&loader, module.wasm, module.length);
    }
    if (status == WBI_OK) {
        status = wbi_load_finish(&loader, digest);
    }
    if (status == WBI_LIMIT) {
        return 0;
    }
    if (status != WBI_OK) {
        DIFFERENCE("refused: %s at %u\n", loader.error.reason, loader.error.offset);
    }
    for (uint32_t i = 0; i < 2; i++) {
        const struct wbi_buffers buffers = {ram[i], RAM, stack[i], STACK};
        if (wbi_instantiate(&instance[i], flash_memory, &buffers, NULL, 0, NULL, 0) != WBI_OK) {
            DIFFERENCE("cannot be started: %s\n", instance[i].error.reason);
        }
    }
    if (!oracle_start(module.wasm, module.length)) {
        DIFFERENCE("wasmtime refuses the module\n");
    }
    for (uint32_t f = 0; f < module.functions; f++) {
        compare_call(f);
        compare_state();
    }
    oracle_stop();
    return 0;
}
