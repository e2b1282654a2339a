/* The loop. Registers: where the code is, the frame, the accumulator, the end of the fuel, the memory.
 *
 * Fuel: `end` is the address at which fuel would run out if the code went straight on. A taken branch moves it by
 * as much as it moves the code pointer, so that what was passed over is charged exactly and straight code costs
 * nothing; whether anything is left is looked at after each transfer. */
#include "run.h"

#define CELL(n) (*(uint32_t *)(void *)(frame + at[n]))
#define WIDE(n) read_wide((const uint32_t *)(const void *)(frame + at[n]))
#define SET_WIDE(n, v) write_wide((uint32_t *)(void *)(frame + at[n]), (v))
#define IMM(n) ((uint32_t)(int32_t)(int16_t)at[n])
#ifdef WBI_PROFILE /* counts executed instructions, for bench/profile.c */
extern uint64_t wbi_profile[];
#define COUNT() wbi_profile[*at / 4]++
#else
#define COUNT() (void)0
#endif
#define DISPATCH() COUNT(); goto *(const void *)*(const void *const *)(const void *)((const char *)labels + *at * (sizeof(void *) / 4))
#define NEXT(n) do { at += (n); DISPATCH(); } while (0)
#define TRAP(s, n) do { status = (s); where = (n); goto trap; } while (0)
static inline uint64_t read_wide(const uint32_t *cell) { return cell[0] | (uint64_t)cell[1] << 32; }
static inline void write_wide(uint32_t *cell, uint64_t value) {
    cell[0] = (uint32_t)value;
    cell[1] = (uint32_t)(value >> 32);
}
static inline double as_double(uint64_t bits) {
    double value;
    __builtin_memcpy(&value, &bits, 8);
    return value;
}
static inline uint64_t double_bits(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, 8);
    return bits;
}
#if defined(__riscv) && !defined(__riscv_flen)
/* No library for single precision: 53 bits hold a result of 24 well enough to round it a second time. */
typedef double single;
static inline single as_float(uint32_t bits) { return as_double(float_promote(bits)); }
static inline uint32_t float_bits(single value) { return float_demote(double_bits(value)); }
#else
typedef float single;
static inline single as_float(uint32_t bits) {
    single value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t float_bits(single value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}
#endif

#define BIN32(N, E) \
    N##_SSS: { const uint32_t a = CELL(2), b = CELL(3); CELL(1) = (uint32_t)(E); NEXT(4); } \
    N##_SSI: { const uint32_t a = CELL(2), b = IMM(3); CELL(1) = (uint32_t)(E); NEXT(4); } \
    N##_SAS: { const uint32_t a = acc, b = CELL(2); CELL(1) = (uint32_t)(E); NEXT(3); } \
    N##_SAI: { const uint32_t a = acc, b = IMM(2); CELL(1) = (uint32_t)(E); NEXT(3); } \
    N##_SSA: { const uint32_t a = CELL(2), b = acc; CELL(1) = (uint32_t)(E); NEXT(3); } \
    N##_ASS: { const uint32_t a = CELL(1), b = CELL(2); acc = (uint32_t)(E); NEXT(3); } \
    N##_ASI: { const uint32_t a = CELL(1), b = IMM(2); acc = (uint32_t)(E); NEXT(3); } \
    N##_AAS: { const uint32_t a = acc, b = CELL(1); acc = (uint32_t)(E); NEXT(2); } \
    N##_AAI: { const uint32_t a = acc, b = IMM(1); acc = (uint32_t)(E); NEXT(2); } \
    N##_ASA: { const uint32_t a = CELL(1), b = acc; acc = (uint32_t)(E); NEXT(2); }

#define ACC32(N, E) \
    N##_SS: { const uint32_t a = CELL(1), b = CELL(2); acc = (uint32_t)(E); NEXT(3); } \
    N##_SI: { const uint32_t a = CELL(1), b = IMM(2); acc = (uint32_t)(E); NEXT(3); } \
    N##_AS: { const uint32_t a = acc, b = CELL(1); acc = (uint32_t)(E); NEXT(2); } \
    N##_AI: { const uint32_t a = acc, b = IMM(1); acc = (uint32_t)(E); NEXT(2); } \
    N##_SA: { const uint32_t a = CELL(1), b = acc; acc = (uint32_t)(E); NEXT(2); }

#define BRANCH32(N, E) \
    N##_SS: { const uint32_t a = CELL(3), b = CELL(4); if (E) goto taken; NEXT(5); } \
    N##_SI: { const uint32_t a = CELL(3), b = IMM(4); if (E) goto taken; NEXT(5); } \
    N##_AS: { const uint32_t a = acc, b = CELL(3); if (E) goto taken; NEXT(4); } \
    N##_AI: { const uint32_t a = acc, b = IMM(3); if (E) goto taken; NEXT(4); } \
    N##_SA: { const uint32_t a = CELL(3), b = acc; if (E) goto taken; NEXT(4); }

#define BIN64(N, E) \
    N##_SS: { const uint64_t a = WIDE(2), b = WIDE(3); SET_WIDE(1, (E)); NEXT(4); } \
    N##_SI: { const uint64_t a = WIDE(2), b = (uint64_t)(int64_t)(int16_t)at[3]; SET_WIDE(1, (E)); NEXT(4); }
#define PAIR64(N, E) N: { const uint64_t a = WIDE(2), b = WIDE(3); SET_WIDE(1, (E)); NEXT(4); }
#define CMP64(N, E) \
    N##_SS: { const uint64_t a = WIDE(1), b = WIDE(2); acc = (E); NEXT(3); } \
    N##_SI: { const uint64_t a = WIDE(1), b = (uint64_t)(int64_t)(int16_t)at[2]; acc = (E); NEXT(3); }
#define CMPF32(N, E) N: { const single a = as_float(CELL(1)), b = as_float(CELL(2)); acc = (E); NEXT(3); }
#define CMPF64(N, E) N: { const double a = as_double(WIDE(1)), b = as_double(WIDE(2)); acc = (E); NEXT(3); }
#define F32_OP(N, E) N: { const single a = as_float(CELL(2)), b = as_float(CELL(3)); CELL(1) = float_bits(E); NEXT(4); }
#define F64_OP(N, E) N: { const double a = as_double(WIDE(2)), b = as_double(WIDE(3)); SET_WIDE(1, double_bits(E)); NEXT(4); }

/* The translator only lets through accesses whose end fits the least memory, so the subtraction cannot wrap. */
#define GUEST(address, reach, w) \
    if (__builtin_expect((address) > bytes - (reach), 0)) goto trap_memory_##w
#define LOAD(N, WIDTH, E) \
    N##_SS: { const uint32_t a = CELL(2), reach = at[3]; GUEST(a, reach, 4); \
              const uint8_t *p = memory + a + reach - (WIDTH); CELL(1) = (uint32_t)(E); NEXT(5); } \
    N##_SA: { const uint32_t a = acc, reach = at[2]; GUEST(a, reach, 3); \
              const uint8_t *p = memory + a + reach - (WIDTH); CELL(1) = (uint32_t)(E); NEXT(4); } \
    N##_AS: { const uint32_t a = CELL(1), reach = at[2]; GUEST(a, reach, 3); \
              const uint8_t *p = memory + a + reach - (WIDTH); acc = (uint32_t)(E); NEXT(4); } \
    N##_AA: { const uint32_t a = acc, reach = at[1]; GUEST(a, reach, 2); \
              const uint8_t *p = memory + a + reach - (WIDTH); acc = (uint32_t)(E); NEXT(3); }
#define ACC_LOAD(N, WIDTH, E) \
    N##_S: { const uint32_t a = CELL(1), reach = at[2]; GUEST(a, reach, 3); \
             const uint8_t *p = memory + a + reach - (WIDTH); acc = (uint32_t)(E); NEXT(4); } \
    N##_A: { const uint32_t a = acc, reach = at[1]; GUEST(a, reach, 2); \
             const uint8_t *p = memory + a + reach - (WIDTH); acc = (uint32_t)(E); NEXT(3); }
#define STORE(N, WIDTH, E) \
    N##_SS: { const uint32_t a = CELL(1), v = CELL(2), reach = at[3]; GUEST(a, reach, 4); \
              uint8_t *p = memory + a + reach - (WIDTH); E; NEXT(5); } \
    N##_SA: { const uint32_t a = CELL(1), v = acc, reach = at[2]; GUEST(a, reach, 3); \
              uint8_t *p = memory + a + reach - (WIDTH); E; NEXT(4); } \
    N##_AS: { const uint32_t a = acc, v = CELL(1), reach = at[2]; GUEST(a, reach, 3); \
              uint8_t *p = memory + a + reach - (WIDTH); E; NEXT(4); }

static inline uint64_t rotate_left64(uint64_t a, uint32_t n) { return a << (n & 63) | a >> (-n & 63); }

/* The function whose code holds this address. */
__attribute__((noinline)) static uint32_t function_of(const uint8_t *object, const uint16_t *at) {
    const struct wbi_header *h = header_of(object);
    const uint32_t *code = (const uint32_t *)(const void *)(object + h->func_code);
    const uint32_t offset = (uint32_t)((const uint8_t *)at - object);
    uint32_t low = h->import_funcs;
    uint32_t high = h->func_count;
    while (low + 1 < high) {
        const uint32_t middle = (low + high) / 2;
        if (code[middle] <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

__attribute__((noinline)) static void note_trap(struct wbi_instance *in, enum wbi_status status, const uint16_t *at, int32_t where) {
    const struct wbi_header *h = header_of(in->object);
    const uint32_t function = function_of(in->object, at);
    const uint16_t *code = (const uint16_t *)(const void *)(
        in->object + ((const uint32_t *)(const void *)(in->object + h->func_code))[function]);
    in->error.status = (uint8_t)status;
    in->error.reason = wbi_status_name(status);
    in->error.function = function;
    in->error.offset = (code[WBI_CODE_BODY_LOW] | (uint32_t)code[WBI_CODE_BODY_HIGH] << 16) + at[where];
}

enum wbi_status run_code(struct wbi_instance *given) {
#define WBI_LABEL(N) &&N,
    static const void *const table[] = {WBI_OPS(WBI_LABEL)};
    const void *const *labels = table;
    /* In memory, for the registers are needed for what every instruction uses. */
    struct wbi_instance *volatile in = given;
#define object (in->object)
    const uint16_t *at = in->resume_at;
    uint8_t *frame = in->resume_frame;
#if defined(__arm__) && !defined(__clang__)
    register uint8_t *memory __asm__("r9"); /* else they land on the stack */
    register uint32_t bytes __asm__("r10");
#else
    uint8_t *memory;
    uint32_t bytes;
#endif
    uintptr_t end = (uintptr_t)at; /* the first piece is fetched at once */
    uint32_t acc = 0;
    enum wbi_status status;
    int32_t where;
    const uint16_t *code;
    uint32_t word;
    uint64_t wide;
    uint32_t operand[3];
    __asm__("" : "+r"(labels)); /* keep the table's address in a register */
    memory = in->memory->data;
    bytes = in->memory->bytes;
    goto refuel;

    BIN32(ADD, a + b)
    ACC32(SUB, a - b)
    ACC32(MUL, a * b)
    ACC32(AND, a & b)
    ACC32(OR, a | b)
    ACC32(XOR, a ^ b)
    ACC32(SHL, a << (b & 31))
    ACC32(SHR_S, (int32_t)a >> (b & 31))
    ACC32(SHR_U, a >> (b & 31))
    ACC32(ROTL, a << (b & 31) | a >> (-b & 31))
    ACC32(EQ, a == b)
    ACC32(NE, a != b)
    ACC32(LT_S, (int32_t)a < (int32_t)b)
    ACC32(GE_S, (int32_t)a >= (int32_t)b)
    ACC32(LT_U, a < b)
    ACC32(GE_U, a >= b)
    BRANCH32(BR_EQ, a == b)
    BRANCH32(BR_NE, a != b)
    BRANCH32(BR_LT_S, (int32_t)a < (int32_t)b)
    BRANCH32(BR_GE_S, (int32_t)a >= (int32_t)b)
    BRANCH32(BR_LT_U, a < b)
    BRANCH32(BR_GE_U, a >= b)
    LOAD(LOAD32, 4, get32(p))
    LOAD(LOAD8_U, 1, *p)
    ACC_LOAD(LOAD8_S, 1, (int32_t)(int8_t)*p)
    ACC_LOAD(LOAD16_U, 2, get16(p))
    ACC_LOAD(LOAD16_S, 2, (int32_t)(int16_t)get16(p))
    STORE(STORE32, 4, put32(p, v))
    STORE(STORE8, 1, *p = (uint8_t)v)
    STORE(STORE16, 2, put16(p, v))
    BIN64(ADD64, a + b)
    PAIR64(SUB64, a - b)
    PAIR64(MUL64, a * b)
    BIN64(AND64, a & b)
    PAIR64(OR64, a | b)
    PAIR64(XOR64, a ^ b)
    BIN64(SHL64, a << (b & 63))
    BIN64(SHR_S64, (uint64_t)((int64_t)a >> (b & 63)))
    BIN64(SHR_U64, a >> (b & 63))
    BIN64(ROTL64, rotate_left64(a, (uint32_t)b))
    CMP64(EQ64, a == b)
    CMP64(NE64, a != b)
    CMP64(LT_S64, (int64_t)a < (int64_t)b)
    CMP64(GE_S64, (int64_t)a >= (int64_t)b)
    CMP64(LT_U64, a < b)
    CMP64(GE_U64, a >= b)
    CMPF32(F32_EQ, a == b)
    CMPF32(F32_NE, a != b)
    CMPF32(F32_LT, a < b)
    CMPF32(F32_LE, a <= b)
    CMPF64(F64_EQ, a == b)
    CMPF64(F64_NE, a != b)
    CMPF64(F64_LT, a < b)
    CMPF64(F64_LE, a <= b)
    F32_OP(F32_ADD, a + b)
    F32_OP(F32_MUL, a * b)
    F32_OP(F32_DIV, a / b)
    F64_OP(F64_ADD, a + b)
    F64_OP(F64_MUL, a * b)
    F64_OP(F64_DIV, a / b)

PUT: CELL(1) = acc; NEXT(2);
BRNZ_S: if (CELL(3) != 0) goto taken; NEXT(4);
BRNZ_A: if (acc != 0) goto taken; NEXT(3);
BRZ_S: if (CELL(3) == 0) goto taken; NEXT(4);
BRZ_A: if (acc == 0) goto taken; NEXT(3);
taken:
BR: {
    const intptr_t distance = (intptr_t)(int16_t)at[1] * 2;
    at = (const uint16_t *)(const void *)((const uint8_t *)at + distance);
    end += (uintptr_t)distance - 6; /* the branch itself, so that no loop is free */
    if (__builtin_expect(end <= (uintptr_t)at, 0)) {
        goto refuel;
    }
    DISPATCH();
}
BR_TABLE: {
    const uint32_t count = at[2];
    const uint32_t index = CELL(1);
    const uint16_t *site = at + 3 + count + 1 + 2 * at[3 + (index < count ? index : count)];
    code = site - 1 + (int16_t)site[0];
    at += 3;
    goto jump;
}
CALL:
    code = (const uint16_t *)(const void *)(
        object + ((const uint32_t *)(const void *)(object + header_of(object)->func_code))[at[1]]);
    at += 4;
    goto enter;
CALL_NEAR:
    code = (const uint16_t *)(const void *)((const uint8_t *)at + (int32_t)(at[1] | (uint32_t)at[2] << 16));
    at += 5;
enter: {
    uint8_t *callee = frame + at[-1];
    if (__builtin_expect((uint32_t)((uint8_t *)in->stack_end - callee) < code[WBI_CODE_FRAME], 0)) {
        TRAP(WBI_TRAP_STACK, -2);
    }
    uint32_t *cell = (uint32_t *)(void *)(callee + code[WBI_CODE_LINK]);
    *cell = pack_return(object, at);
    for (uint32_t zero = code[WBI_CODE_ZERO]; zero != 0; zero -= 4) {
        *++cell = 0;
    }
    frame = callee;
    goto jump;
}
jump:
    end += (uintptr_t)code - (uintptr_t)at;
    at = code;
    if (__builtin_expect(end <= (uintptr_t)at, 0)) {
        goto refuel;
    }
    DISPATCH();
RET32_A:
    *(uint32_t *)(void *)frame = acc;
    goto back;
RET32_S:
    *(uint32_t *)(void *)frame = CELL(1);
    at++;
back:
RET:
    code = unpack_return(object, CELL(1));
    end += (uintptr_t)code - (uintptr_t)at;
    at = code;
    frame -= at[-1];
    DISPATCH();
CALL_HOST: {
    const struct wbi_host_function *host = in->imports[at[1]];
    in->host_cells = (uint32_t *)(void *)(frame + at[3]);
    in->host_type = at[1];
    status = host->call(in, host->context, in->host_cells);
    in->host_cells = NULL;
    if (status != WBI_OK) {
        TRAP(status, 2);
    }
    memory = in->memory->data;
    bytes = in->memory->bytes;
    NEXT(4);
}
CALL_INDIRECT: {
    const uint32_t index = CELL(2);
    if (index >= in->table->size) {
        TRAP(WBI_TRAP_TABLE, 3);
    }
    const uint32_t entry = in->table->entries[index];
    if (entry == WBI_NULL_REF) {
        TRAP(WBI_TRAP_NULL, 3);
    }
    const struct wbi_header *h = header_of(object);
    const uint32_t function = entry & 0xffff;
    const uint32_t *types = (const uint32_t *)(const void *)(object + h->types);
    if (entry >> 16 != in->number) {
        status = in->link->foreign(in->link->context, entry, object + types[at[1]], (uint32_t *)(void *)(frame + at[4]));
        goto called;
    }
    const uint32_t type = ((const uint16_t *)(const void *)(object + h->func_types))[function];
    if (*(const uint16_t *)(const void *)(object + types[type]) != at[1]) {
        TRAP(WBI_TRAP_SIGNATURE, 3);
    }
    if (function < h->import_funcs) {
        const struct wbi_host_function *host = in->imports[function];
        in->host_cells = (uint32_t *)(void *)(frame + at[4]);
        in->host_type = (uint16_t)function;
        status = host->call(in, host->context, in->host_cells);
        in->host_cells = NULL;
called:
        if (status != WBI_OK) {
            TRAP(status, 3);
        }
        memory = in->memory->data;
        bytes = in->memory->bytes;
        NEXT(5);
    }
    code = (const uint16_t *)(const void *)(
        object + ((const uint32_t *)(const void *)(object + h->func_code))[function]);
    at += 5;
    goto enter;
}
COPY32: CELL(1) = CELL(2); NEXT(3);
COPY64: {
    const uint64_t value = WIDE(2);
    SET_WIDE(1, value);
    NEXT(3);
}
CONST16_S: CELL(1) = IMM(2); NEXT(3);
CONST16_A: acc = IMM(1); NEXT(2);
CONST32_S: CELL(1) = at[2] | (uint32_t)at[3] << 16; NEXT(4);
CONST32_A: acc = at[1] | (uint32_t)at[2] << 16; NEXT(3);
CONST64_16: SET_WIDE(1, (uint64_t)(int64_t)(int16_t)at[2]); NEXT(3);
CONST64: {
    const uint32_t low = at[2] | (uint32_t)at[3] << 16;
    const uint32_t high = at[4] | (uint32_t)at[5] << 16;
    SET_WIDE(1, low | (uint64_t)high << 32);
    NEXT(6);
}
SELECT32_S: CELL(1) = CELL(4) != 0 ? CELL(2) : CELL(3); NEXT(5);
SELECT32_A: CELL(1) = acc != 0 ? CELL(2) : CELL(3); NEXT(4);
SELECT64_S: {
    const uint64_t value = CELL(4) != 0 ? WIDE(2) : WIDE(3);
    SET_WIDE(1, value);
    NEXT(5);
}
SELECT64_A: {
    const uint64_t value = acc != 0 ? WIDE(2) : WIDE(3);
    SET_WIDE(1, value);
    NEXT(4);
}
#define GLOBAL(n) ((uint32_t *)(void *)((uint8_t *)in->globals + at[n]))
GGET32: acc = *GLOBAL(1); NEXT(2);
GSET32_S: *GLOBAL(2) = CELL(1); NEXT(3);
GSET32_A: *GLOBAL(1) = acc; NEXT(2);
GGET64: SET_WIDE(1, read_wide(GLOBAL(2))); NEXT(3);
GSET64: write_wide(GLOBAL(2), WIDE(1)); NEXT(3);
IGGET: {
    const uint32_t *cell = in->imports[at[2]];
    if (at[3] != 0) {
        SET_WIDE(1, read_wide(cell));
    } else {
        CELL(1) = *cell;
    }
    NEXT(4);
}
IGSET: {
    uint32_t *cell = (uint32_t *)(uintptr_t)in->imports[at[2]];
    if (at[3] != 0) {
        write_wide(cell, WIDE(1));
    } else {
        *cell = CELL(1);
    }
    NEXT(4);
}
#define FAR_ADDRESS(n, a) \
    const uint64_t address = (uint64_t)(a) + (at[n] | (uint32_t)at[(n) + 1] << 16); \
    if (address + at[(n) + 2] > bytes) TRAP(WBI_TRAP_MEMORY, (n) + 3)
ADDRESS: {
    FAR_ADDRESS(2, CELL(1));
    acc = (uint32_t)address;
    NEXT(6);
}
LOAD64: {
    const uint32_t a = CELL(2), reach = at[3];
    GUEST(a, reach, 4);
    const uint8_t *p = memory + a + reach - 8;
    SET_WIDE(1, get32(p) | (uint64_t)get32(p + 4) << 32);
    NEXT(5);
}
LOAD64_NARROW: {
    const uint32_t a = CELL(2), reach = at[3], kind = at[4];
    GUEST(a, reach, 5);
    const uint8_t *p = memory + a + reach;
    uint32_t low;
    switch (kind) {
    case NARROW_8S: low = (uint32_t)(int32_t)(int8_t)p[-1]; break;
    case NARROW_8U: low = p[-1]; break;
    case NARROW_16S: low = (uint32_t)(int32_t)(int16_t)get16(p - 2); break;
    case NARROW_16U: low = get16(p - 2); break;
    default: low = get32(p - 4); break;
    }
    SET_WIDE(1, (kind & 1) != 0 ? low : (uint64_t)(int64_t)(int32_t)low);
    NEXT(6);
}
STORE64: {
    const uint32_t a = CELL(1), reach = at[3];
    const uint64_t v = WIDE(2);
    GUEST(a, reach, 4);
    uint8_t *p = memory + a + reach - 8;
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
    NEXT(5);
}
CLZ: { const uint32_t a = CELL(2); CELL(1) = a != 0 ? (uint32_t)__builtin_clz(a) : 32; NEXT(3); }
CTZ: { const uint32_t a = CELL(2); CELL(1) = a != 0 ? (uint32_t)__builtin_ctz(a) : 32; NEXT(3); }
POPCNT: CELL(1) = (uint32_t)integer_unary64(UN_POPCNT, CELL(2)); NEXT(3);
EXTEND8: CELL(1) = (uint32_t)(int32_t)(int8_t)CELL(2); NEXT(3);
EXTEND16: CELL(1) = (uint32_t)(int32_t)(int16_t)CELL(2); NEXT(3);
DIV32: {
    status = divide32(at[4], CELL(2), CELL(3), &word);
    if (status != WBI_OK) {
        TRAP(status, 5);
    }
    CELL(1) = word;
    NEXT(6);
}
DIV64: {
    status = divide64(at[4], WIDE(2), WIDE(3), &wide);
    if (status != WBI_OK) {
        TRAP(status, 5);
    }
    SET_WIDE(1, wide);
    NEXT(6);
}
UNARY64: SET_WIDE(1, integer_unary64(at[3], WIDE(2))); NEXT(4);
EXTEND_S: SET_WIDE(1, (uint64_t)(int64_t)(int32_t)CELL(2)); NEXT(3);
EXTEND_U: SET_WIDE(1, CELL(2)); NEXT(3);
F32_PAIR: CELL(1) = float32_pair(at[4], CELL(2), CELL(3)); NEXT(5);
F64_PAIR: SET_WIDE(1, float64_pair(at[4], WIDE(2), WIDE(3))); NEXT(5);
F32_UNARY: CELL(1) = float32_unary(at[3], CELL(2)); NEXT(4);
F64_UNARY: SET_WIDE(1, float64_unary(at[3], WIDE(2))); NEXT(4);
F32_FROM: CELL(1) = float32_from(at[3], at[3] >= FROM_I64_S ? WIDE(2) : CELL(2)); NEXT(4);
F64_FROM: SET_WIDE(1, float64_from(at[3], at[3] >= FROM_I64_S ? WIDE(2) : CELL(2))); NEXT(4);
F32_SUB: { const single a = as_float(CELL(2)), b = as_float(CELL(3) ^ 0x80000000u); CELL(1) = float_bits(a + b); NEXT(4); }
F64_SUB: { const double a = as_double(WIDE(2)), b = as_double(WIDE(3) ^ UINT64_C(1) << 63); SET_WIDE(1, double_bits(a + b)); NEXT(4); }
DEMOTE: CELL(1) = float_demote(WIDE(2)); NEXT(3);
PROMOTE: SET_WIDE(1, float_promote(CELL(2))); NEXT(3);
TRUNC32:
TRUNC64: {
    const uint32_t kind = at[3];
    status = float_truncate(kind, (kind & TRUNC_FROM64) != 0 ? WIDE(2) : CELL(2), &wide);
    if (status != WBI_OK) {
        TRAP(status, 4);
    }
    if ((kind & TRUNC_TO64) != 0) {
        SET_WIDE(1, wide);
    } else {
        CELL(1) = (uint32_t)wide;
    }
    NEXT(5);
}
MEMORY_SIZE: CELL(1) = in->memory->pages; NEXT(2);
MEMORY_GROW:
    CELL(1) = memory_grow(in->memory, CELL(2));
    bytes = in->memory->bytes;
    NEXT(3);
MEMORY_BULK:
TABLE_BULK: {
    operand[0] = CELL(1);
    operand[1] = CELL(2);
    operand[2] = CELL(3);
    const int64_t left = (int64_t)in->fuel + (intptr_t)(end - (uintptr_t)at) - operand[2];
    if (left <= 0 && operand[2] <= (*at == OP_MEMORY_BULK * 4 ? bytes : in->table->size)) {
        status = in->expired ? WBI_TIMED_OUT : WBI_OUT_OF_FUEL;
        goto leave; /* before it did anything */
    }
    if (left > 0) {
        in->fuel = (uint32_t)left;
        end = (uintptr_t)at;
    }
    status = *at == OP_MEMORY_BULK * 4 ? memory_bulk(in, at[4], at[5], operand) : table_bulk(in, at[4], at[5], operand);
    if (status != WBI_OK) {
        TRAP(status, 6);
    }
    NEXT(7);
}
DROP_SEGMENT: segment_drop(in, at[1]); NEXT(2);
UNREACHABLE: TRAP(WBI_TRAP_UNREACHABLE, 1);

EXIT:
    status = WBI_OK;
    goto leave;

refuel: { /* `at` is a place to go on from; at - end is what the last run took beyond its piece */
    __asm__("" : "+r"(at)); /* no second copy of it in another register */
    const uint32_t debt = in->debt + (uint32_t)((uintptr_t)at - end);
    const uint32_t total = in->fuel;
    if (__builtin_expect(!in->expired && total > debt, 1)) {
        const uint32_t piece = total - debt > WBI_FUEL_PIECE ? WBI_FUEL_PIECE : total - debt;
        in->fuel = total - debt - piece;
        in->debt = 0;
        end = (uintptr_t)at + piece;
        DISPATCH();
    }
    status = in->expired ? WBI_TIMED_OUT : WBI_OUT_OF_FUEL;
    goto leave;
}

trap_memory_5: where = 5; goto trap_memory;
trap_memory_4: where = 4; goto trap_memory;
trap_memory_3: where = 3; goto trap_memory;
trap_memory_2: where = 2;
trap_memory:
    status = WBI_TRAP_MEMORY;
trap:
    note_trap(in, status, at, where);
leave:
    __asm__("" : "+r"(at));
    if (end > (uintptr_t)at) {
        in->fuel += in->expired ? 0 : (uint32_t)(end - (uintptr_t)at);
    } else {
        const uint32_t debt = in->debt + (uint32_t)((uintptr_t)at - end);
        const uint32_t paid = in->fuel < debt ? in->fuel : debt;
        in->fuel -= paid;
        in->debt = debt - paid;
    }
    in->resume_at = at;
    in->resume_frame = frame;
    return status;
}
#undef object
