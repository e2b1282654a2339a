#include "oracle.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Layouts and signatures of wasmtime's C interface, written from its documentation. */
struct func { uint64_t store; void *place; };
struct memory { uint64_t store; uint32_t a, b, c; };
struct global { uint64_t store; uint32_t a, b, c; };
struct external {
    uint8_t kind;
    union {
        struct func func;
        struct memory memory;
        struct global global;
        uint8_t room[24];
    } of;
};
struct val {
    uint8_t kind;
    union {
        uint32_t i32;
        uint64_t i64;
        struct { uint64_t store; uint32_t a, b; void *c; } reference;
    } of;
};
struct instance { uint64_t store; size_t place; };

#define FUNCTIONS(X) \
    X(void *, wasm_config_new, (void)) \
    X(void *, wasm_engine_new_with_config, (void *)) \
    X(void, wasmtime_config_wasm_reference_types_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_function_references_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_gc_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_component_model_async_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_component_model_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_simd_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_relaxed_simd_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_threads_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_tail_call_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_multi_memory_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_memory64_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_exceptions_set, (void *, bool)) \
    X(void, wasmtime_config_wasm_custom_page_sizes_set, (void *, bool)) \
    X(void, wasmtime_config_signals_based_traps_set, (void *, bool)) \
    X(void, wasmtime_config_cranelift_opt_level_set, (void *, uint8_t)) \
    X(void, wasmtime_config_memory_reservation_set, (void *, uint64_t)) \
    X(void, wasmtime_config_memory_guard_size_set, (void *, uint64_t)) \
    X(void, wasmtime_config_parallel_compilation_set, (void *, bool)) \
    X(void *, wasmtime_store_new, (void *, void *, void *)) \
    X(void *, wasmtime_store_context, (void *)) \
    X(void, wasmtime_store_delete, (void *)) \
    X(void *, wasmtime_module_new, (void *, const uint8_t *, size_t, void **)) \
    X(void *, wasmtime_module_validate, (void *, const uint8_t *, size_t)) \
    X(void, wasmtime_module_delete, (void *)) \
    X(void *, wasmtime_instance_new, (void *, const void *, const void *, size_t, struct instance *, void **)) \
    X(bool, wasmtime_instance_export_get, (void *, const struct instance *, const char *, size_t, struct external *)) \
    X(void *, wasmtime_func_call, (void *, const struct func *, const struct val *, size_t, struct val *, size_t, void **)) \
    X(bool, wasmtime_trap_code, (const void *, uint8_t *)) \
    X(void, wasm_trap_delete, (void *)) \
    X(void, wasmtime_error_delete, (void *)) \
    X(uint8_t *, wasmtime_memory_data, (void *, const struct memory *)) \
    X(size_t, wasmtime_memory_data_size, (void *, const struct memory *)) \
    X(void, wasmtime_global_get, (void *, const struct global *, struct val *))

#define DECLARE(type, name, arguments) static type(*name) arguments;
FUNCTIONS(DECLARE)

static void *engine, *wide_engine, *store, *context, *module;
static struct instance instance;

/* With reference types wasmtime accepts more than we do, without them less: element expressions are part of bulk
 * memory for us. */
static void *make_engine(bool references) {
    void *config = wasm_config_new();
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_wasm_relaxed_simd_set(config, false);
    wasmtime_config_wasm_simd_set(config, false);
    wasmtime_config_wasm_threads_set(config, false);
    wasmtime_config_wasm_tail_call_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, true);
    wasmtime_config_signals_based_traps_set(config, false);
    wasmtime_config_cranelift_opt_level_set(config, 0);
    wasmtime_config_memory_reservation_set(config, 0);
    wasmtime_config_memory_guard_size_set(config, 0);
    wasmtime_config_parallel_compilation_set(config, false);
    wasmtime_config_wasm_component_model_async_set(config, false);
    wasmtime_config_wasm_component_model_set(config, false);
    wasmtime_config_wasm_reference_types_set(config, references);
    return wasm_engine_new_with_config(config);
}

void oracle_init(void) {
    const char *path = getenv("WBI_WASMTIME_LIB");
    void *library = path != NULL ? dlopen(path, RTLD_NOW) : NULL;
    if (library == NULL) {
        fprintf(stderr, "WBI_WASMTIME_LIB must name wasmtime's library: %s\n", path != NULL ? dlerror() : "not set");
        exit(2);
    }
#define FIND(type, name, arguments) \
    *(void **)&name = dlsym(library, #name); \
    if (name == NULL) { fprintf(stderr, "no %s in wasmtime\n", #name); exit(2); }
    FUNCTIONS(FIND)
    engine = make_engine(false);
    wide_engine = make_engine(true);
}

bool oracle_validate(const uint8_t *wasm, size_t length, bool references) {
    void *error = wasmtime_module_validate(references ? wide_engine : engine, wasm, length);
    if (error != NULL) {
        wasmtime_error_delete(error);
    }
    return error == NULL;
}

bool oracle_start(const uint8_t *wasm, size_t length) {
    void *trap = NULL;
    store = wasmtime_store_new(engine, NULL, NULL);
    context = wasmtime_store_context(store);
    module = NULL;
    void *error = wasmtime_module_new(engine, wasm, length, &module);
    if (error == NULL) {
        error = wasmtime_instance_new(context, module, NULL, 0, &instance, &trap);
    }
    const bool good = error == NULL && trap == NULL;
    if (error != NULL) {
        wasmtime_error_delete(error);
    }
    if (trap != NULL) {
        wasm_trap_delete(trap);
    }
    return good;
}

void oracle_call(const char *name, const uint8_t *types, const uint64_t *arguments, uint32_t count, uint32_t results,
                 struct outcome *outcome) {
    struct external external;
    struct val in[16];
    struct val out[ORACLE_RESULTS];
    void *trap = NULL;
    uint8_t code = 255;
    memset(in, 0, sizeof in);
    memset(out, 0, sizeof out);
    memset(outcome, 0, sizeof *outcome);
    outcome->trap = -1;
    if (!wasmtime_instance_export_get(context, &instance, name, strlen(name), &external) || external.kind != 0) {
        abort();
    }
    for (uint32_t i = 0; i < count; i++) {
        in[i].kind = types[i];
        in[i].of.i64 = arguments[i];
    }
    void *error = wasmtime_func_call(context, &external.of.func, in, count, out, results, &trap);
    if (error != NULL) {
        wasmtime_error_delete(error);
        outcome->trap = 254;
    } else if (trap != NULL) {
        wasmtime_trap_code(trap, &code);
        wasm_trap_delete(trap);
        outcome->trap = code;
    }
    for (uint32_t i = 0; i < results; i++) {
        outcome->results[i] = (out[i].kind & 1) != 0 ? out[i].of.i64 : out[i].of.i32;
    }
}

const uint8_t *oracle_memory(size_t *bytes) {
    struct external external;
    if (!wasmtime_instance_export_get(context, &instance, "m", 1, &external) || external.kind != 3) {
        *bytes = 0;
        return NULL;
    }
    *bytes = wasmtime_memory_data_size(context, &external.of.memory);
    return wasmtime_memory_data(context, &external.of.memory);
}

bool oracle_global(const char *name, uint64_t *value) {
    struct external external;
    struct val val;
    memset(&val, 0, sizeof val);
    if (!wasmtime_instance_export_get(context, &instance, name, strlen(name), &external)) {
        return false;
    }
    wasmtime_global_get(context, &external.of.global, &val);
    *value = (val.kind & 1) != 0 ? val.of.i64 : val.of.i32;
    return true;
}

void oracle_stop(void) {
    if (module != NULL) {
        wasmtime_module_delete(module);
    }
    wasmtime_store_delete(store);
}
