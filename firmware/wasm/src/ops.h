/* The instructions of the translated code.
 *
 * An instruction is a sequence of halfwords: four times its number, then its fields. A field that names a value is
 * the byte offset of its cell in the frame. Forms: S a cell, A the accumulator, I a 16-bit signed immediate; the
 * first letter is where the result goes. The accumulator carries a result to the instruction that uses it up.
 */
#ifndef WBI_OPS_H
#define WBI_OPS_H

/* Ten forms; X(name) in the order that form_* below counts. */
#define WBI_FORMS10(X, N) X(N##_SSS) X(N##_SSI) X(N##_SAS) X(N##_SAI) X(N##_SSA) \
    X(N##_ASS) X(N##_ASI) X(N##_AAS) X(N##_AAI) X(N##_ASA)
#define WBI_FORMS5(X, N) X(N##_SS) X(N##_SI) X(N##_AS) X(N##_AI) X(N##_SA)
#define WBI_FORMS_ONE(X, N) X(N)
#define WBI_FORMS_AB(X, N) X(N##_S) X(N##_A)
#define WBI_FORMS_LOAD(X, N) X(N##_SS) X(N##_SA) X(N##_AS) X(N##_AA)
#define WBI_FORMS_STORE(X, N) X(N##_SS) X(N##_SA) X(N##_AS)
#define WBI_FORMS_SI(X, N) X(N##_SS) X(N##_SI)

enum wbi_form { FORM_SS, FORM_SI, FORM_AS, FORM_AI, FORM_SA };

#define WBI_BIN32(X, F) \
    F(X, ADD)
/* From here on results go to the accumulator only; PUT follows where that is not where they are used. */
#define WBI_ACC32(X, F) \
    F(X, AND) F(X, SHR_U) F(X, SUB) F(X, XOR) F(X, SHL) F(X, MUL) F(X, OR) F(X, SHR_S) F(X, ROTL) F(X, EQ) F(X, NE) F(X, LT_S) F(X, GE_S) F(X, LT_U) F(X, GE_U)
#define WBI_CMP32(X, F) F(X, BR_EQ) F(X, BR_NE) F(X, BR_LT_S) F(X, BR_GE_S) F(X, BR_LT_U) F(X, BR_GE_U)
#define WBI_BIN64(X, F) \
    F(X, ADD64) F(X, AND64) F(X, SHL64) F(X, SHR_S64) F(X, SHR_U64) F(X, ROTL64)
#define WBI_PAIR64(X, F) F(X, SUB64) F(X, MUL64) F(X, OR64) F(X, XOR64)
#define WBI_CMP64(X, F) F(X, EQ64) F(X, NE64) F(X, LT_S64) F(X, GE_S64) F(X, LT_U64) F(X, GE_U64)
#define WBI_CMPF(X, F) \
    F(X, F32_EQ) F(X, F32_NE) F(X, F32_LT) F(X, F32_LE) F(X, F64_EQ) F(X, F64_NE) F(X, F64_LT) F(X, F64_LE)
#define WBI_LOADS(X, F) F(X, LOAD32) F(X, LOAD8_U)
#define WBI_ACC_LOADS(X, F) F(X, LOAD8_S) F(X, LOAD16_U) F(X, LOAD16_S)
#define WBI_STORES(X, F) F(X, STORE32) F(X, STORE8) F(X, STORE16)

#define WBI_OPS(X) \
    X(EXIT) \
    X(PUT) \
    WBI_BIN32(X, WBI_FORMS10) \
    WBI_ACC32(X, WBI_FORMS5) \
    WBI_CMP32(X, WBI_FORMS5) \
    WBI_LOADS(X, WBI_FORMS_LOAD) \
    WBI_ACC_LOADS(X, WBI_FORMS_AB) \
    WBI_STORES(X, WBI_FORMS_STORE) \
    WBI_BIN64(X, WBI_FORMS_SI) \
    WBI_PAIR64(X, WBI_FORMS_ONE) \
    WBI_CMP64(X, WBI_FORMS_SI) \
    WBI_CMPF(X, WBI_FORMS_ONE) \
    X(BRNZ_S) X(BRNZ_A) X(BRZ_S) X(BRZ_A) X(BR) X(BR_TABLE) \
    X(CALL) X(CALL_NEAR) X(CALL_HOST) X(CALL_INDIRECT) X(RET) X(RET32_S) X(RET32_A) \
    X(COPY32) X(COPY64) X(CONST16_S) X(CONST16_A) X(CONST32_S) X(CONST32_A) X(CONST64_16) X(CONST64) \
    X(SELECT32_S) X(SELECT32_A) X(SELECT64_S) X(SELECT64_A) \
    X(GGET32) X(GSET32_S) X(GSET32_A) X(GGET64) X(GSET64) X(IGGET) X(IGSET) \
    X(ADDRESS) X(LOAD64) X(LOAD64_NARROW) X(STORE64) \
    X(CLZ) X(CTZ) X(POPCNT) X(EXTEND8) X(EXTEND16) X(DIV32) X(DIV64) X(UNARY64) X(EXTEND_S) X(EXTEND_U) \
    X(F32_ADD) X(F32_SUB) X(F32_MUL) X(F32_DIV) X(F64_ADD) X(F64_SUB) X(F64_MUL) X(F64_DIV) \
    X(F32_PAIR) X(F64_PAIR) X(F32_UNARY) X(F64_UNARY) X(F32_FROM) X(F64_FROM) X(DEMOTE) X(PROMOTE) \
    X(TRUNC32) X(TRUNC64) \
    X(MEMORY_SIZE) X(MEMORY_GROW) X(MEMORY_BULK) X(TABLE_BULK) X(DROP_SEGMENT) X(UNREACHABLE)

#define WBI_OP_ENUM(N) OP_##N,
enum wbi_op { WBI_OPS(WBI_OP_ENUM) OP_COUNT };

/* Kinds of the instructions that carry a kind. */
enum { DIV_S, DIV_U, REM_S, REM_U, ROTR };
enum { UN_CLZ, UN_CTZ, UN_POPCNT, UN_EXTEND8, UN_EXTEND16, UN_EXTEND32 };
enum { FLOAT_ABS, FLOAT_NEG, FLOAT_CEIL, FLOAT_FLOOR, FLOAT_TRUNC, FLOAT_NEAREST, FLOAT_SQRT };
enum { FLOAT_MIN, FLOAT_MAX, FLOAT_COPYSIGN };
enum { FROM_I32_S, FROM_I32_U, FROM_I64_S, FROM_I64_U };
enum { TRUNC_UNSIGNED = 1, TRUNC_FROM64 = 2, TRUNC_TO64 = 4, TRUNC_SATURATE = 8 };
enum { BULK_COPY, BULK_FILL, BULK_INIT };
enum { NARROW_8S, NARROW_8U, NARROW_16S, NARROW_16U, NARROW_32S, NARROW_32U };

#endif
