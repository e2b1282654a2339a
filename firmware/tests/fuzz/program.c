/* Programs for the fuzz target `exec`. Structure comes from the input's bytes; loops count down in locals that nothing else writes, calls go to functions
 * with a lower index, and computed floats are made canonical, so that every difference is a defect. */
#include "generate_internal.h"

const uint8_t type_code[4] = {0x7f, 0x7e, 0x7d, 0x7c};

struct source {
    const uint8_t *data;
    size_t length, at;
};

static struct source in;
struct generated *module;
struct writer *code;
uint32_t function, loop_depth, label_depth, small_pages;

void source_begin(const uint8_t *data, size_t length) { in = (struct source){data, length, 0}; }

uint8_t pick(uint32_t below) {
    return (uint8_t)(in.at < in.length ? in.data[in.at++] % below : 0);
}
static uint64_t raw(uint32_t bytes) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        value = value << 8 | pick(256);
    }
    return value;
}
void put(struct writer *w, uint32_t byte) {
    if (w->used < w->capacity) {
        w->bytes[w->used++] = (uint8_t)byte;
    }
}
void op(uint32_t byte) { put(code, byte); }
void leb(struct writer *w, uint64_t value) {
    do {
        const uint32_t byte = value & 0x7f;
        value >>= 7;
        put(w, byte | (value != 0 ? 0x80u : 0u));
    } while (value != 0);
}
static void sleb(struct writer *w, int64_t value) {
    for (;;) {
        const uint32_t byte = (uint32_t)value & 0x7f;
        value >>= 7;
        if ((value == 0 && (byte & 0x40) == 0) || (value == -1 && (byte & 0x40) != 0)) {
            put(w, byte);
            return;
        }
        put(w, byte | 0x80);
    }
}

void constant(uint8_t type) {
    static const int64_t interesting[] = {0, 1, -1, 2, 127, -128, 32767, -32768, 65535, 2147483647, -2147483648ll, 31, 32, 63};
    int64_t value = interesting[pick(14)];
    if (pick(3) == 0) {
        value = (int64_t)raw(8);
    }
    switch (type) {
    case I32: op(0x41); sleb(code, (int32_t)value); break;
    case I64: op(0x42); sleb(code, value); break;
    default: {
        static const uint64_t floats[] = {0, 0x3ff0000000000000, 0xbff8000000000000, 0x41dfffffffc00000, 0x7ff0000000000000,
                                          0x8000000000000000, 0x0000000000000001, 0x43e0000000000000, 0x7ff8000000000000};
        static const uint32_t singles[] = {0, 0x3f800000, 0xbfc00000, 0x4f000000, 0x7f800000, 0x80000000, 1, 0x5f000000, 0x7fc00000};
        const uint32_t which = pick(9);
        op(type == F32 ? 0x43 : 0x44);
        for (uint32_t i = 0; i < (type == F32 ? 4u : 8u); i++) {
            op((uint32_t)((type == F32 ? singles[which] : floats[which]) >> (8 * i)) & 0xff);
        }
    }
    }
}

/* First local of a type: parameters come before. */
static uint32_t local_of(uint8_t type) {
    const uint32_t params = module->type[function].params;
    if (params != 0 && pick(2) == 0) {
        const uint32_t index = pick(params);
        if (module->type[function].types[index] == type) {
            return index;
        }
    }
    return params + LOCALS_EACH * type + pick(LOCALS_EACH);
}
static uint32_t scratch_local(uint8_t type) { return module->type[function].params + LOCALS_EACH * 4 + LOOPS + type; }
static uint32_t loop_local(uint32_t depth) { return module->type[function].params + LOCALS_EACH * 4 + depth; }

/* A computed float may be any NaN: leaves one and the same. */
static void canonical(uint8_t type) {
    const uint32_t local = scratch_local(type);
    op(0x22); leb(code, local);
    op(type == F32 ? 0x43 : 0x44);
    if (type == F32) {
        op(0); op(0); op(0xc0); op(0x7f);
    } else {
        for (uint32_t i = 0; i < 6; i++) {
            op(0);
        }
        op(0xf8); op(0x7f);
    }
    op(0x20); leb(code, local);
    op(0x20); leb(code, local);
    op(type == F32 ? 0x5b : 0x61);
    op(0x1b);
}

static void address(uint32_t depth) {
    if (pick(8) != 0) {
        expression(I32, depth);
        op(0x41); sleb(code, small_pages != 0 ? 0xff : 0x3fff);
        op(0x71);
    } else {
        expression(I32, depth);
    }
}
static void memarg(uint32_t align) {
    static const uint32_t offsets[] = {0, 4, 8, 1, 40, 300, 65535, 65536, 0xfffffff0u};
    leb(code, pick(align + 1));
    leb(code, offsets[pick(pick(4) == 0 ? 9 : 5)]);
}

static void call(uint32_t callee, uint32_t depth, bool indirect) {
    for (uint32_t i = 0; i < module->type[callee].params; i++) {
        expression(module->type[callee].types[i], depth);
    }
    if (indirect) {
        op(0x41); sleb(code, pick(8) == 0 ? (int64_t)pick(8) : (int64_t)callee);
        op(0x11); leb(code, callee); op(0);
    } else {
        op(0x10); leb(code, callee);
    }
}

static void binary(uint8_t type, uint32_t depth) {
    static const uint8_t ops32[] = {0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x6d, 0x6e, 0x6f, 0x70};
    static const uint8_t floats[] = {0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98};
    expression(type, depth);
    expression(type, depth);
    switch (type) {
    case I32: op(ops32[pick(15)]); break;
    case I64: op((uint32_t)ops32[pick(15)] + 0x12); break;
    case F32: op(floats[pick(7)]); canonical(F32); break;
    default: op((uint32_t)floats[pick(7)] + 0x0e); canonical(F64); break;
    }
}

static void unary(uint8_t type, uint32_t depth) {
    const uint32_t which = pick(8);
    switch (type) {
    case I32:
        if (which < 3) {
            expression(I32, depth);
            op(which == 0 ? 0x45u : which == 1 ? 0x67u + pick(3) : 0xc0u + pick(2));
        } else if (which == 3) {
            expression(I64, depth);
            op(pick(2) == 0 ? 0xa7 : 0x50);
        } else if (which == 4) {
            expression(F32, depth);
            op(pick(2) == 0 ? 0xbcu : 0xa8u + pick(2));
        } else if (which == 5) {
            expression(F64, depth);
            op(0xaau + pick(2));
        } else {
            const uint32_t number = pick(4);
            expression(number < 2 ? F32 : F64, depth);
            op(0xfc); leb(code, number);
        }
        break;
    case I64:
        if (which < 3) {
            expression(I64, depth);
            op(which < 2 ? 0x79u + pick(3) : 0xc2u + pick(3));
        } else if (which < 5) {
            expression(I32, depth);
            op(0xacu + pick(2));
        } else if (which == 5) {
            expression(F64, depth);
            op(pick(2) == 0 ? 0xbdu : 0xb0u + pick(2));
        } else {
            const uint32_t number = 4 + pick(4);
            expression(number < 6 ? F32 : F64, depth);
            op(0xfc); leb(code, number);
        }
        break;
    case F32:
        if (which < 4) {
            expression(F32, depth);
            op(0x8bu + pick(7));
        } else if (which == 4) {
            expression(F64, depth);
            op(0xb6);
        } else {
            const uint8_t from = pick(2);
            expression(from, depth);
            op(from == I32 ? (pick(3) == 0 ? 0xbeu : 0xb2u + pick(2)) : 0xb4u + pick(2));
        }
        canonical(F32);
        break;
    default:
        if (which < 4) {
            expression(F64, depth);
            op(0x99u + pick(7));
        } else if (which == 4) {
            expression(F32, depth);
            op(0xbb);
        } else {
            const uint8_t from = pick(2);
            expression(from, depth);
            op(from == I32 ? 0xb7u + pick(2) : pick(3) == 0 ? 0xbfu : 0xb9u + pick(2));
        }
        canonical(F64);
        break;
    }
}

static void compare(uint32_t depth) {
    const uint8_t type = pick(4);
    expression(type, depth);
    expression(type, depth);
    op(type == I32 ? 0x46u + pick(10) : type == I64 ? 0x51u + pick(10) : type == F32 ? 0x5bu + pick(6) : 0x61u + pick(6));
}

static void load(uint8_t type, uint32_t depth) {
    address(depth);
    switch (type) {
    case I32: {
        static const uint8_t ops[] = {0x28, 0x2c, 0x2d, 0x2e, 0x2f};
        const uint32_t which = pick(5);
        op(ops[which]);
        memarg(which == 0 ? 2 : which < 3 ? 0 : 1);
        break;
    }
    case I64: {
        static const uint8_t ops[] = {0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35};
        const uint32_t which = pick(7);
        op(ops[which]);
        memarg(which == 0 ? 3 : which < 3 ? 0 : which < 5 ? 1 : 2);
        break;
    }
    default:
        op(type == F32 ? 0x2a : 0x2b);
        memarg(type == F32 ? 2 : 3);
        canonical(type);
        break;
    }
}

static void block(uint8_t type, uint32_t depth) {
    const uint32_t kind = pick(4);
    if (kind == 0) { /* if */
        expression(I32, depth);
        op(0x04); op(type_code[type]);
        label_depth++;
        expression(type, depth);
        op(0x05);
        if (pick(4) == 0) {
            expression(type, depth);
            op(0x0c); leb(code, 0); /* what follows is dead */
        }
        expression(type, depth);
    } else if (kind == 1) { /* a value carried out of a block, with operands below it */
        op(0x02); op(type_code[type]);
        label_depth++;
        expression(pick(4), depth);
        op(0x1a);
        expression(I64, depth);
        expression(type, depth);
        expression(I32, depth);
        op(0x0d); leb(code, 0);
        op(0x1a); op(0x1a);
        expression(type, depth);
    } else if (kind == 2) { /* br_table to two nested blocks */
        op(0x02); op(type_code[type]);
        op(0x02); op(type_code[type]);
        label_depth += 2;
        expression(F64, depth);
        expression(type, depth);
        expression(I32, depth);
        op(0x0e); leb(code, 3);
        for (uint32_t i = 0; i < 4; i++) {
            leb(code, pick(2));
        }
        op(0x0b);
        label_depth--;
        if (pick(2) == 0) {
            statement(depth);
        }
    } else {
        op(0x02); op(type_code[type]);
        label_depth++;
        statement(depth);
        expression(type, depth);
    }
    op(0x0b);
    label_depth--;
}

void expression(uint8_t type, uint32_t depth) {
    if (depth == 0 || code->used > BODY_MAX || in.at >= in.length) {
        if (pick(2) == 0) {
            constant(type);
        } else {
            op(0x20); leb(code, local_of(type));
        }
        return;
    }
    depth--;
    switch (pick(14)) {
    case 0: constant(type); break;
    case 1: op(0x23); leb(code, type); break;
    case 2: case 3: unary(type, depth); break;
    case 4: load(type, depth); break;
    case 5: block(type, depth); break;
    case 6:
        expression(type, depth);
        expression(type, depth);
        expression(I32, depth);
        op(0x1b);
        break;
    case 7:
        expression(type, depth);
        op(0x22); leb(code, local_of(type));
        break;
    case 8:
        if (function > 0) {
            const uint32_t callee = pick(function);
            if (module->type[callee].results == 1 && module->type[callee].types[module->type[callee].params] == type) {
                call(callee, depth, pick(2) == 0);
                break;
            }
        }
        op(0x20); leb(code, local_of(type));
        break;
    case 9:
        if (type == I32) {
            compare(depth);
            break;
        }
        binary(type, depth);
        break;
    case 10: op(0x20); leb(code, local_of(type)); break;
    default: binary(type, depth); break;
    }
}

static void bulk(uint32_t depth) {
    const uint32_t which = pick(6);
    static const uint8_t numbers[] = {10, 11, 8, 14, 12, 9};
    if (which == 5) {
        op(0xfc); leb(code, pick(2) == 0 ? 9 : 13); leb(code, 1);
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (which == 1 && i == 1) {
            expression(I32, depth);
        } else {
            op(0x41); sleb(code, pick(which >= 3 ? 6 : 40));
        }
    }
    op(0xfc); leb(code, numbers[which]);
    if (which == 2 || which == 4) {
        leb(code, pick(2)); op(0);
    } else {
        op(0);
        if (which != 1) {
            op(0);
        }
    }
}

void statement(uint32_t depth) {
    if (depth == 0 || code->used > BODY_MAX || in.at >= in.length) {
        return;
    }
    depth--;
    const uint8_t type = pick(4);
    switch (pick(12)) {
    case 0: case 1:
        expression(type, depth);
        op(0x21); leb(code, local_of(type));
        break;
    case 2:
        expression(type, depth);
        op(0x24); leb(code, type);
        break;
    case 3: case 4: {
        static const uint8_t ops[] = {0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e};
        static const uint8_t types[] = {I32, I64, F32, F64, I32, I32, I64, I64, I64};
        static const uint8_t aligns[] = {2, 3, 2, 3, 0, 1, 0, 1, 2};
        const uint32_t which = pick(9);
        address(depth);
        expression(types[which], depth);
        op(ops[which]);
        memarg(aligns[which]);
        break;
    }
    case 5:
        expression(I32, depth);
        op(0x04); op(0x40);
        label_depth++;
        statement(depth);
        if (pick(2) == 0) {
            op(0x05);
            statement(depth);
        }
        op(0x0b);
        label_depth--;
        break;
    case 6:
        if (loop_depth < LOOPS) {
            const uint32_t counter = loop_local(loop_depth++);
            op(0x41); sleb(code, 1 + pick(4));
            op(0x21); leb(code, counter);
            op(0x03); op(0x40);
            label_depth++;
            statement(depth);
            statement(depth);
            op(0x20); leb(code, counter);
            op(0x41); sleb(code, 1);
            op(0x6b);
            op(0x22); leb(code, counter);
            op(0x0d); leb(code, 0);
            op(0x0b);
            label_depth--;
            loop_depth--;
        }
        break;
    case 7:
        op(0x02); op(0x40);
        label_depth++;
        statement(depth);
        expression(I32, depth);
        op(0x0d); leb(code, 0);
        statement(depth);
        op(0x0b);
        label_depth--;
        break;
    case 8: bulk(depth); break;
    case 9:
        if (function > 0) {
            const uint32_t callee = pick(function);
            call(callee, depth, pick(2) == 0);
            for (uint32_t i = module->type[callee].results; i-- > 0;) {
                const uint8_t result = module->type[callee].types[module->type[callee].params + i];
                op(0x21); leb(code, local_of(result));
            }
        }
        break;
    case 10:
        expression(I32, depth);
        op(pick(2) == 0 ? 0x40 : 0x1a);
        if (code->bytes[code->used - 1] == 0x40) {
            op(0); op(0x1a);
        }
        break;
    default: /* a block with parameters: its type is a function's */
        {
            const uint32_t shape = pick(module->functions);
            for (uint32_t i = 0; i < module->type[shape].params; i++) {
                expression(module->type[shape].types[i], depth);
            }
            op(0x02); sleb(code, (int64_t)shape);
            label_depth++;
            for (uint32_t i = module->type[shape].params; i-- > 0;) {
                op(0x21); leb(code, local_of(module->type[shape].types[i]));
            }
            for (uint32_t i = 0; i < module->type[shape].results; i++) {
                expression(module->type[shape].types[module->type[shape].params + i], depth);
            }
            if (pick(2) == 0) {
                expression(I32, depth);
                op(0x0d); leb(code, 0);
            }
            op(0x0b);
            label_depth--;
            for (uint32_t i = 0; i < module->type[shape].results; i++) {
                op(0x1a);
            }
        }
        break;
    }
    statement(depth);
}

