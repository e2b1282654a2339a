/* Makes a valid module that ends by itself out of any bytes. */
#ifndef GENERATE_H
#define GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GEN_FUNCTIONS = 4, GEN_PARAMS = 4, GEN_RESULTS = 3 };

struct generated {
    uint8_t wasm[65536];
    size_t length;
    uint32_t functions;
    struct {
        uint8_t params, results;
        uint8_t types[GEN_PARAMS + GEN_RESULTS];
    } type[GEN_FUNCTIONS];
};

/* The functions are exported as f0.., the memory as m, a global of each type as g0..g3. */
void generate(struct generated *out, const uint8_t *data, size_t length);

#endif
