/* wasmtime as the second opinion: its C interface out of the Python wheel's library ($WBI_WASMTIME_LIB). */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORACLE_RESULTS = 8, ORACLE_GLOBALS = 4 };

/* What a call did; the types of arguments and results are 0 i32, 1 i64, 2 f32, 3 f64. */
struct outcome {
    int trap; /* -1 none, else wasmtime's trap code */
    uint64_t results[ORACLE_RESULTS];
};

void oracle_init(void);
bool oracle_validate(const uint8_t *wasm, size_t length, bool references);
/* Instantiates; false when that traps or fails. */
bool oracle_start(const uint8_t *wasm, size_t length);
void oracle_call(const char *name, const uint8_t *types, const uint64_t *arguments, uint32_t count, uint32_t results,
                 struct outcome *outcome);
const uint8_t *oracle_memory(size_t *bytes);
bool oracle_global(const char *name, uint64_t *value);
void oracle_stop(void);

#endif
