/* The interpreter as a program: what a device would do with a module, on a developer's desk.
 *
 *   wasmbed-interp info  MODULE                        one line of JSON: flash, RAM, imports, exports
 *   wasmbed-interp run   MODULE [--seconds N] [--env NAME=VALUE]... [limits]
 *                        wasmbed_init, the events of its timers in N seconds (which pass at once), wasmbed_stop
 *   wasmbed-interp call  MODULE FUNCTION [NUMBER...] [limits]
 *   limits: --fuel N --stack BYTES --ram BYTES --flash BYTES
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "world.h"

#define MODULE_MOST (16u << 20)
#define SCRATCH_MOST 16384u

static uint8_t *flash_memory;
static struct {
    uint32_t fuel, stack, ram, flash, seconds;
} limits = {100000000u, 8192, 1u << 20, 4u << 20, 10};
static struct world world;

/* NOR: a programmed place is not programmed again. */
static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    uint8_t *to = (uint8_t *)context + offset;
    for (uint32_t i = 0; i < length; i++) {
        if ((to[i] & data[i]) != data[i]) {
            return false;
        }
        to[i] = (uint8_t)(to[i] & data[i]);
    }
    return true;
}

/* ---- loading ---------------------------------------------------------------------------------------------- */

static void show_error(const struct wbi_error *error) {
    fprintf(stderr, "%s: %s", wbi_status_name((enum wbi_status)error->status), error->reason);
    if (error->function != WBI_NO_FUNCTION) {
        fprintf(stderr, " in function %" PRIu32, error->function);
    }
    fprintf(stderr, " at byte %" PRIu32 "\n", error->offset);
}

static uint8_t module[MODULE_MOST];
static size_t module_bytes;

static void read_module(const char *path) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    module_bytes = fread(module, 1, sizeof module, file);
    if (file != stdin) {
        fclose(file);
    }
    if (module_bytes == sizeof module) {
        fprintf(stderr, "%s is not smaller than %zu bytes\n", path, sizeof module);
        exit(2);
    }
}

static enum wbi_status load(struct wbi_loader *loader, uint32_t scratch_bytes) {
    static uint32_t scratch[SCRATCH_MOST / 4];
    static const uint8_t digest[WBI_DIGEST_BYTES];
    memset(flash_memory, 0xff, limits.flash);
    const struct wbi_flash flash = {flash_memory, flash_memory, limits.flash, program};
    enum wbi_status status = wbi_load_begin(loader, &flash, scratch, scratch_bytes, NULL);
    if (status == WBI_OK) {
        status = wbi_load_feed(loader, module, module_bytes);
    }
    return status == WBI_OK ? wbi_load_finish(loader, digest) : status;
}

/* The least scratch that the module is loaded with. */
static uint32_t least_scratch(void) {
    static struct wbi_loader loader;
    uint32_t least = 0;
    for (uint32_t most = SCRATCH_MOST / 4; least < most;) {
        const uint32_t middle = (least + most) / 2;
        if (load(&loader, 4 * middle) == WBI_OK) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    return 4 * least;
}

static void print_text(const uint8_t *text, uint32_t length) {
    putchar('"');
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] < 0x20 || text[i] == '"' || text[i] == '\\') {
            printf("\\u%04x", text[i]);
        } else {
            putchar(text[i]);
        }
    }
    putchar('"');
}

static int info(const struct wbi_loader *loader, uint32_t scratch_bytes) {
    const struct wbi_header *h = (const struct wbi_header *)(const void *)flash_memory;
    const uint32_t *code = (const uint32_t *)(const void *)(flash_memory + h->func_code);
    struct wbi_import import;
    uint32_t frame = 0;
    for (uint32_t i = h->import_funcs; i < h->func_count; i++) {
        const uint16_t *at = (const uint16_t *)(const void *)(flash_memory + code[i]);
        frame = at[WBI_CODE_FRAME] > frame ? at[WBI_CODE_FRAME] : frame;
    }
    /* As on a 32-bit board, where a pointer to each imported function has 4 bytes. */
    const uint32_t table = (h->flags & WBI_HAS_TABLE) != 0 && (h->flags & WBI_TABLE_IMPORTED) == 0 ? h->table_min : 0;
    const uint64_t beside = (uint64_t)4 * h->import_count + h->global_bytes + (uint64_t)4 * table +
                            ((uint32_t)h->element_count + h->data_count + 7) / 8;
    const bool own = (h->flags & WBI_HAS_MEMORY) != 0 && (h->flags & WBI_MEMORY_IMPORTED) == 0;
    const uint64_t ram = ((beside + 7) & ~(uint64_t)7) + (own ? (uint64_t)h->memory_min << h->page_log2 : 0);
    printf("{\"ram_bytes\": %" PRIu64 ", \"scratch_bytes\": %" PRIu32 ", ", ram, scratch_bytes);
    printf("\"module_bytes\": %" PRIu32 ", \"flash_bytes\": %" PRIu32 ", \"memory_bytes\": %" PRIu64
           ", \"page_bytes\": %u, \"table_entries\": %" PRIu32 ", \"globals_bytes\": %u, \"functions\": %u, "
           "\"largest_frame_bytes\": %" PRIu32 ", \"imports\": [",
           loader->pos, wbi_load_bytes(loader), (uint64_t)h->memory_min << h->page_log2, 1u << h->page_log2, h->table_min,
           h->global_bytes, h->func_count, frame);
    for (uint32_t i = 0; wbi_import_at(flash_memory, i, &import); i++) {
        printf("%s[", i != 0 ? ", " : "");
        print_text(import.module, import.module_bytes);
        printf(", ");
        print_text(import.name, import.name_bytes);
        printf("]");
    }
    printf("]}\n");
    return 0;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static int ended(struct wbi_instance *in, enum wbi_status status) {
    fflush(stdout);
    if (status == WBI_UNKNOWN_IMPORT || status == WBI_IMPORT_TYPE) {
        struct wbi_import import;
        if (wbi_import_at(in->object, in->error.offset, &import)) {
            fprintf(stderr, "%s: %.*s.%.*s\n", in->error.reason, import.module_bytes, (const char *)import.module,
                    import.name_bytes, (const char *)import.name);
            return 1;
        }
    }
    if (status == WBI_OUT_OF_FUEL) {
        fprintf(stderr, "out of fuel after %" PRIu32 " units\n", limits.fuel);
    } else {
        show_error(&in->error);
    }
    return 1;
}

static bool invoke(struct wbi_instance *in, const char *name, const uint64_t *arguments, uint32_t count, bool needed,
                   int *code) {
    uint32_t function;
    if (!wbi_find_function(in, name, (uint32_t)strlen(name), &function)) {
        if (needed) {
            fprintf(stderr, "the module exports no function %s\n", name);
            *code = 1;
        }
        return false;
    }
    wbi_set_fuel(in, limits.fuel);
    const enum wbi_status status = wbi_invoke(in, function, arguments, count);
    if (status != WBI_OK) {
        *code = ended(in, status);
        return false;
    }
    const uint8_t *type = wbi_function_type(in->object, function);
    for (uint32_t i = 0; i < type[3]; i++) {
        const uint64_t value = wbi_result(in, function, i);
        if (needed) {
            printf("%" PRId64 "\n", (type[4 + type[2] + i] & 1) != 0 ? (int64_t)value : (int32_t)(uint32_t)value);
        } else if ((int32_t)(uint32_t)value < 0 || (value != 0 && strcmp(name, "wasmbed_init") == 0)) {
            fprintf(stderr, "%s gave %d\n", name, (int32_t)(uint32_t)value);
            *code = 1;
            return false;
        }
    }
    return true;
}

/* wasmbed_init, events and wasmbed_stop, each if the module has it. */
static int live(struct wbi_instance *in) {
    static const uint8_t missed[4];
    uint32_t function;
    int code = 0;
    world.logs_time = true;
    world.end_ns = (int64_t)limits.seconds * 1000000000;
    invoke(in, "wasmbed_init", NULL, 0, false, &code);
    for (int32_t timer; code == 0 && (timer = world_next(&world)) >= 0;) {
        const uint64_t event[3] = {WORLD_TIMER_EVENT, (uint64_t)timer, sizeof missed};
        world.event = missed;
        world.event_bytes = sizeof missed;
        if (!wbi_find_function(in, "wasmbed_event", 13, &function)) {
            break;
        }
        invoke(in, "wasmbed_event", event, 3, false, &code);
        world.event = NULL;
    }
    if (code == 0) {
        world.now_ns = world.end_ns;
        invoke(in, "wasmbed_stop", NULL, 0, false, &code);
    }
    return code;
}

static int run(const struct wbi_buffers *buffers, int count, char **arguments, bool living) {
    struct wbi_instance in;
    uint64_t numbers[16];
    uint32_t functions;
    int code = 0;
    const struct wbi_host_function *host = world_functions(&world, &functions);
    enum wbi_status status = wbi_instantiate(&in, flash_memory, buffers, host, functions, NULL, 0);
    if (status == WBI_OK) {
        wbi_set_fuel(&in, limits.fuel);
        status = wbi_start(&in);
    }
    if (status != WBI_OK) {
        return ended(&in, status);
    }
    if (living) {
        return live(&in);
    }
    for (int i = 1; i < count && i <= 16; i++) {
        numbers[i - 1] = strtoull(arguments[i], NULL, 0);
    }
    invoke(&in, arguments[0], numbers, (uint32_t)count - 1, true, &code);
    return code;
}

static int usage(void) {
    fprintf(stderr, "usage: wasmbed-interp info MODULE | run MODULE [--seconds N] [--env NAME=VALUE]... |\n"
                    "       call MODULE FUNCTION [NUMBER...]\n"
                    "       [--fuel N] [--stack BYTES] [--ram BYTES] [--flash BYTES]\n");
    return 2;
}

int main(int argc, char **argv) {
    static struct wbi_loader loader;
    static const struct {
        const char *name;
        uint32_t *value;
    } options[] = {{"--fuel", &limits.fuel},
                   {"--stack", &limits.stack},
                   {"--ram", &limits.ram},
                   {"--flash", &limits.flash},
                   {"--seconds", &limits.seconds}};
    char *rest[32];
    int count = 0;
    for (int i = 1; i < argc; i++) {
        uint32_t *value = NULL;
        for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
            value = strcmp(argv[i], options[k].name) == 0 ? options[k].value : value;
        }
        if (value != NULL && i + 1 < argc) {
            *value = (uint32_t)strtoul(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--env") == 0 && i + 1 < argc && world.env_count < WORLD_ENV) {
            world.env[world.env_count++] = argv[++i];
        } else if (count < 31) {
            rest[count++] = argv[i];
        }
    }
    if (count < 2 || (strcmp(rest[0], "call") == 0 && count < 3)) {
        return usage();
    }
    flash_memory = malloc(limits.flash);
    const struct wbi_buffers buffers = {malloc(limits.ram), limits.ram, malloc(limits.stack), limits.stack};
    int code = 2;
    if (flash_memory == NULL || buffers.ram == NULL || buffers.stack == NULL) {
        fprintf(stderr, "no memory for these limits\n");
        return code;
    }
    read_module(rest[1]);
    const uint32_t scratch_bytes = strcmp(rest[0], "info") == 0 ? least_scratch() : 0;
    if (load(&loader, SCRATCH_MOST) != WBI_OK) {
        show_error(&loader.error);
        code = 1;
    } else if (strcmp(rest[0], "info") == 0) {
        code = info(&loader, scratch_bytes);
    } else if (strcmp(rest[0], "run") == 0 || strcmp(rest[0], "call") == 0) {
        code = run(&buffers, count - 2, rest + 2, strcmp(rest[0], "run") == 0);
    } else {
        code = usage();
    }
    free(flash_memory);
    free(buffers.ram);
    free(buffers.stack);
    return code;
}
