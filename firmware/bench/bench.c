/* Counts instructions: native against interpreted, loads, calls. Prints `figure value` lines for bench.py. */
#include "../tests/platform/platform.h"
#include "kernels.h"
#include "wbi.h"

extern const uint8_t module_bytes[];
extern const uint32_t module_length;

static struct wbi_loader loader;
static struct wbi_instance instance;
static uint32_t scratch[256], stack[2048];
static uint32_t empty_cost;

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        ((uint8_t *)context)[offset + i] &= data[i];
    }
    return true;
}

static enum wbi_status nothing(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    cells[0] += cells[1];
    return WBI_OK;
}
static const struct wbi_host_function host[] = {{"bench", "host_call", "ii:i", nothing, 0}};

static void line(const char *name, const char *suffix, uint64_t value) {
    say("%s%s %u\n", name, suffix, (uint32_t)value);
}

static uint32_t call(const char *name, uint32_t argument, uint64_t *cost) {
    uint32_t function = 0;
    uint32_t length = 0;
    while (name[length] != '\0') {
        length++;
    }
    const uint64_t arguments[1] = {argument};
    if (!wbi_find_function(&instance, name, length, &function)) {
        say("no function %s\n", name);
        platform_exit(1);
    }
    wbi_set_fuel(&instance, 0xffffffffu);
    const uint32_t start = platform_ticks();
    const enum wbi_status status = wbi_invoke(&instance, function, arguments, 1);
    *cost = platform_instructions(platform_ticks() - start - empty_cost);
    if (status != WBI_OK) {
        say("%s: %s\n", name, wbi_status_name(status));
        platform_exit(1);
    }
    return (uint32_t)wbi_result(&instance, function, 0);
}

#define MEASURE(name, argument, memory) \
    do { \
        volatile uint32_t n = argument; \
        uint32_t before = platform_ticks(); \
        const uint32_t native = name(n); \
        const uint64_t native_cost = platform_instructions(platform_ticks() - before - empty_cost); \
        uint64_t cost; \
        const uint32_t result = call(#name, n, &cost); \
        if (result != native) { \
            say("%s differs: %x natively, %x interpreted\n", #name, native, result); \
            platform_exit(1); \
        } \
        line("native_", #name, native_cost); \
        line("interp_", #name, cost); \
    } while (0);

int main(int argc, char **argv) {
    static const uint8_t digest[WBI_DIGEST_BYTES];
    uint32_t memory_bytes;
    uint8_t *memory = platform_memory(&memory_bytes);
    uint64_t cost;
    (void)argc;
    (void)argv;
    uint32_t start = platform_ticks();
    empty_cost = platform_ticks() - start;
    const uint32_t capacity = 256 * 1024;
    for (uint32_t i = 0; i < capacity; i++) {
        memory[i] = 0xff;
    }
    const struct wbi_flash flash = {memory, memory, capacity, program};
    start = platform_ticks();
    enum wbi_status status = wbi_load_begin(&loader, &flash, scratch, sizeof scratch, 0);
    if (status == WBI_OK) {
        status = wbi_load_feed(&loader, module_bytes, module_length);
    }
    if (status == WBI_OK) {
        status = wbi_load_finish(&loader, digest);
    }
    line("load", "", platform_instructions(platform_ticks() - start));
    line("load_bytes", "", module_length);
    line("sizeof_instance", "", sizeof instance);
    line("sizeof_loader", "", sizeof loader);
    line("object_bytes", "", wbi_load_bytes(&loader));
    if (status != WBI_OK) {
        say("load: %s\n", loader.error.reason);
        return 1;
    }
    start = platform_ticks();
    status = wbi_object_check(memory, capacity);
    line("check", "", platform_instructions(platform_ticks() - start));
    const struct wbi_buffers buffers = {memory + capacity, memory_bytes - capacity, stack, sizeof stack};
    status = wbi_instantiate(&instance, memory, &buffers, host, 1, 0, 0);
    if (status != WBI_OK) {
        say("start: %s\n", instance.error.reason);
        return 1;
    }
    KERNELS(MEASURE)
    call("fib", 24, &cost);
    line("fib24", "", cost);
    uint64_t with;
    uint64_t without;
    call("host_calls", 1000, &with);
    call("plain_loop", 1000, &without);
    line("host_call_x1000", "", with - without);
    return 0;
}
