/* A flat interface to the interpreter for the tests in Python; one module, one instance. */
#include <string.h>

#include "wbi.h"

enum { FLASH = 1 << 20, RAM = 1 << 20, STACK = 1 << 16 };
static uint8_t flash_memory[FLASH] __attribute__((aligned(8)));
static uint8_t ram[RAM] __attribute__((aligned(8)));
static uint32_t stack[STACK / 4];
static uint32_t scratch[2048];
static struct wbi_loader loader;
static struct wbi_instance instance;
static uint32_t refuse_after, program_calls, violations, expire_on_call, host_calls;

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    (void)context;
    if (refuse_after != 0 && ++program_calls > refuse_after) {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        violations += (flash_memory[offset + i] & data[i]) != data[i];
        flash_memory[offset + i] &= data[i];
    }
    return true;
}

static enum wbi_status add(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)context;
    host_calls++;
    if (expire_on_call != 0 && host_calls == expire_on_call) {
        wbi_expire(in); /* what a timer interrupt does */
    }
    cells[0] += cells[1];
    return WBI_OK;
}
static enum wbi_status fail(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    (void)cells;
    return WBI_TRAP_HOST;
}
/* Calls the exported function "inner" of the instance it was called from. */
static enum wbi_status nested(struct wbi_instance *in, void *context, uint32_t *cells) {
    uint32_t function;
    const uint64_t argument = cells[0];
    (void)context;
    if (!wbi_find_function(in, "inner", 5, &function)) {
        return WBI_TRAP_HOST;
    }
    const enum wbi_status status = wbi_invoke(in, function, &argument, 1);
    if (status == WBI_OK) {
        cells[0] = (uint32_t)wbi_result(in, function, 0);
    }
    return status;
}
static enum wbi_status wide(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    const uint64_t value = (cells[0] | (uint64_t)cells[1] << 32) + cells[2];
    cells[0] = (uint32_t)value;
    cells[1] = (uint32_t)(value >> 32);
    return WBI_OK;
}
static const struct wbi_host_function host[] = {
    {"host", "add", "ii:i", add, 0},
    {"host", "fail", ":", fail, 0},
    {"host", "nested", "i:i", nested, 0},
    {"host", "wide", "Ii:I", wide, 0},
};

int shim_load(const uint8_t *data, uint32_t length, uint32_t piece, uint32_t scratch_bytes, uint32_t flash_bytes,
              uint32_t function_bytes, uint32_t memory_bytes, uint32_t stack_bytes);
int shim_load(const uint8_t *data, uint32_t length, uint32_t piece, uint32_t scratch_bytes, uint32_t flash_bytes,
              uint32_t function_bytes, uint32_t memory_bytes, uint32_t stack_bytes) {
    uint8_t digest[WBI_DIGEST_BYTES];
    const struct wbi_load_limits limits = {function_bytes, memory_bytes, stack_bytes};
    const struct wbi_flash flash = {0, flash_memory, flash_bytes, program};
    memset(flash_memory, 0xff, sizeof flash_memory);
    memset(digest, 0x5a, sizeof digest);
    program_calls = 0;
    enum wbi_status status = wbi_load_begin(&loader, &flash, scratch, scratch_bytes, &limits);
    for (uint32_t at = 0; status == WBI_OK && at < length; at += piece) {
        status = wbi_load_feed(&loader, data + at, piece < length - at ? piece : length - at);
    }
    return (int)(status == WBI_OK ? wbi_load_finish(&loader, digest) : status);
}

void shim_refuse_program_after(uint32_t calls);
void shim_refuse_program_after(uint32_t calls) { refuse_after = calls; }
uint32_t shim_violations(void);
uint32_t shim_violations(void) { return violations; }
uint32_t shim_object_bytes(void);
uint32_t shim_object_bytes(void) { return wbi_load_bytes(&loader); }
uint8_t *shim_object(void);
uint8_t *shim_object(void) { return flash_memory; }
int shim_check(uint32_t capacity);
int shim_check(uint32_t capacity) { return (int)wbi_object_check(flash_memory, capacity); }

int shim_start(uint32_t ram_bytes, uint32_t stack_bytes);
int shim_start(uint32_t ram_bytes, uint32_t stack_bytes) {
    const struct wbi_buffers buffers = {ram, ram_bytes, stack, stack_bytes};
    memset(ram, 0xee, sizeof ram);
    memset(stack, 0xee, sizeof stack);
    host_calls = 0;
    const enum wbi_status status = wbi_instantiate(&instance, flash_memory, &buffers, host, 4, 0, 0);
    wbi_set_fuel(&instance, 1000000);
    return (int)(status == WBI_OK ? wbi_start(&instance) : status);
}

int shim_call(const char *name, const uint64_t *arguments, uint32_t count, uint32_t fuel);
int shim_call(const char *name, const uint64_t *arguments, uint32_t count, uint32_t fuel) {
    uint32_t function;
    if (!wbi_find_function(&instance, name, (uint32_t)strlen(name), &function)) {
        return -1;
    }
    wbi_set_fuel(&instance, fuel);
    return (int)wbi_invoke(&instance, function, arguments, count);
}
int shim_resume(uint32_t fuel);
int shim_resume(uint32_t fuel) {
    wbi_set_fuel(&instance, fuel);
    return (int)wbi_resume(&instance);
}
uint64_t shim_result(const char *name, uint32_t index);
uint64_t shim_result(const char *name, uint32_t index) {
    uint32_t function = 0;
    wbi_find_function(&instance, name, (uint32_t)strlen(name), &function);
    return wbi_result(&instance, function, index);
}
uint32_t shim_fuel(void);
uint32_t shim_fuel(void) { return instance.fuel; }
uint32_t shim_debt(void);
uint32_t shim_debt(void) { return instance.debt; }
void shim_expire_on_call(uint32_t call);
void shim_expire_on_call(uint32_t call) { expire_on_call = call; }
uint32_t shim_host_calls(void);
uint32_t shim_host_calls(void) { return host_calls; }
uint8_t *shim_memory(uint32_t *bytes);
uint8_t *shim_memory(uint32_t *bytes) {
    *bytes = instance.memory->bytes;
    return instance.memory->data;
}
/* Of the load (0) or of the instance (1). */
const char *shim_error(int which, uint32_t *status, uint32_t *function, uint32_t *offset);
const char *shim_error(int which, uint32_t *status, uint32_t *function, uint32_t *offset) {
    const struct wbi_error *error = which == 0 ? &loader.error : &instance.error;
    *status = error->status;
    *function = error->function;
    *offset = error->offset;
    return error->reason;
}
/* Bytes of the stack buffer that were touched, counted from its start. */
uint32_t shim_stack_used(void);
uint32_t shim_stack_used(void) {
    uint32_t used = STACK / 4;
    while (used != 0 && stack[used - 1] == 0xeeeeeeeeu) {
        used--;
    }
    return 4 * used;
}
