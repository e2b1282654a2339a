/* Shared by the parts of the generator: the input's bytes, and the code being written. */
#ifndef GENERATE_INTERNAL_H
#define GENERATE_INTERNAL_H

#include "generate.h"

enum { I32, I64, F32, F64 };
enum { LOCALS_EACH = 2, LOOPS = 3, MAX_DEPTH = 6, BODY_MAX = 8000 };

struct writer {
    uint8_t *bytes;
    size_t used, capacity;
};

extern const uint8_t type_code[4];
/* The module and function being made, where its code goes, and whether its pages are of one byte. */
extern struct generated *module;
extern struct writer *code;
extern uint32_t function, loop_depth, label_depth, small_pages;

void source_begin(const uint8_t *data, size_t length);
/* The next choice, 0 once the input is used up. */
uint8_t pick(uint32_t below);
void put(struct writer *w, uint32_t byte);
void op(uint32_t byte);
void leb(struct writer *w, uint64_t value);
void constant(uint8_t type);
void expression(uint8_t type, uint32_t depth);
void statement(uint32_t depth);

#endif
