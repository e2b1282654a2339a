/* The microcontrollers' interpreter as a library for tests: host functions are one callback into Python. */
#include <stdlib.h>
#include <string.h>

#include "wbi.h"

enum { FUNCTIONS = 64, FLASH = 1 << 18 };

typedef int (*desk_callback)(uint32_t function, uint32_t *cells);

struct desk {
    struct wbi_loader loader;
    struct wbi_instance instance;
    struct wbi_host_function host[FUNCTIONS];
    struct desk_function {
        struct desk *desk;
        uint32_t number;
    } functions[FUNCTIONS];
    uint32_t count;
    desk_callback callback;
    uint8_t *flash, *ram;
    uint32_t *stack, stack_bytes;
    uint32_t scratch[128]; /* what the boards give a load */
};

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    uint8_t *flash = (uint8_t *)context + offset;
    for (uint32_t i = 0; i < length; i++) {
        if ((flash[i] & data[i]) != data[i]) {
            return false;
        }
        flash[i] &= data[i];
    }
    return true;
}

static enum wbi_status dispatch(struct wbi_instance *instance, void *context, uint32_t *cells) {
    const struct desk_function *function = context;
    (void)instance;
    return (enum wbi_status)function->desk->callback(function->number, cells);
}

struct desk *desk_new(desk_callback callback) {
    struct desk *desk = calloc(1, sizeof *desk);
    desk->callback = callback;
    desk->flash = aligned_alloc(8, FLASH);
    return desk;
}

void desk_free(struct desk *desk) {
    free(desk->flash);
    free(desk->ram);
    free(desk->stack);
    free(desk);
}

/* The strings must live as long as the desk. */
int desk_define(struct desk *desk, const char *module, const char *name, const char *signature) {
    if (desk->count == FUNCTIONS) {
        return -1;
    }
    const uint32_t number = desk->count++;
    desk->functions[number] = (struct desk_function){desk, number};
    desk->host[number] = (struct wbi_host_function){module, name, signature, dispatch, &desk->functions[number]};
    return 0;
}

int desk_load(struct desk *desk, const uint8_t *module, uint32_t length, uint32_t flash_bytes) {
    static const uint8_t digest[WBI_DIGEST_BYTES];
    const struct wbi_load_limits limits = {0, 0, 0};
    const struct wbi_flash flash = {desk->flash, desk->flash, flash_bytes < FLASH ? flash_bytes : FLASH, program};
    memset(desk->flash, 0xff, FLASH);
    enum wbi_status status = wbi_load_begin(&desk->loader, &flash, desk->scratch, sizeof desk->scratch, &limits);
    for (uint32_t at = 0; status == WBI_OK && at < length; at += 200) {
        status = wbi_load_feed(&desk->loader, module + at, length - at < 200 ? length - at : 200);
    }
    return (int)(status == WBI_OK ? wbi_load_finish(&desk->loader, digest) : status);
}

int desk_start(struct desk *desk, uint32_t ram_bytes, uint32_t stack_bytes) {
    desk->ram = aligned_alloc(8, (ram_bytes + 7) & ~7u);
    desk->stack = aligned_alloc(8, (stack_bytes + 7) & ~7u);
    desk->stack_bytes = stack_bytes;
    memset(desk->ram, 0xee, ram_bytes);
    memset(desk->stack, 0xee, stack_bytes);
    const struct wbi_buffers buffers = {desk->ram, ram_bytes, desk->stack, stack_bytes};
    return (int)wbi_instantiate(&desk->instance, desk->flash, &buffers, desk->host, desk->count, NULL, 0);
}

/* Status of the call; -1 when the module has no such export. */
int desk_call(struct desk *desk, const char *name, const uint64_t *arguments, uint32_t count, uint32_t fuel,
              int32_t *result) {
    uint32_t function;
    if (!wbi_find_function(&desk->instance, name, (uint32_t)strlen(name), &function)) {
        return -1;
    }
    wbi_set_fuel(&desk->instance, fuel);
    const enum wbi_status status = wbi_invoke(&desk->instance, function, arguments, count);
    if (status == WBI_OK && wbi_function_type(desk->instance.object, function)[3] != 0) {
        *result = (int32_t)wbi_result(&desk->instance, function, 0);
    }
    return (int)status;
}

uint8_t *desk_guest(struct desk *desk, uint32_t address, uint32_t length) {
    return wbi_guest(&desk->instance, address, length);
}

const char *desk_error(const struct desk *desk, int loading) {
    return loading ? desk->loader.error.reason : desk->instance.error.reason;
}

uint32_t desk_fuel_left(const struct desk *desk) {
    return desk->instance.fuel;
}

uint32_t desk_flash_bytes(const struct desk *desk) {
    return wbi_load_bytes(&desk->loader);
}

uint32_t desk_ram_needed(const struct desk *desk) {
    return wbi_ram_bytes(desk->flash);
}

/* Bytes of the value and call stack that were ever used. */
uint32_t desk_stack_used(const struct desk *desk) {
    uint32_t used = desk->stack_bytes / 4;
    while (used != 0 && desk->stack[used - 1] == 0xeeeeeeeeu) {
        used--;
    }
    return 4 * used;
}
