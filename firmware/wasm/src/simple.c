/* Numeric instructions and memory accesses: their types, and what they become. */
#include "internal.h"

enum rule_class {
    C_NONE, C_BIN32, C_SWAP32, C_EQZ32, C_BIN64, C_PAIR64, C_CMP64, C_SWAP64, C_EQZ64, C_ONE, C_TWO, C_ONE_KIND, C_TWO_KIND,
    C_TRAP_ONE, C_TRAP_TWO, C_CMPF, C_SWAPF, C_SAME, C_WRAP
};

struct rule {
    uint8_t cls;
    uint8_t types; /* first | second << 2 | result << 4 */
    uint16_t op;   /* operation | kind << 10 */
};
#define TYPES(a, b, out) (uint8_t)((a) | (b) << 2 | (out) << 4)
#define I T_I32
#define L T_I64
#define F T_F32
#define D T_F64
#define R(cls, a, b, out, op, kind) {cls, TYPES(a, b, out), (uint16_t)((op) | (kind) << 10)}

static const struct rule rules[128] = {
    /* 45 */ R(C_EQZ32, I, I, I, OP_EQ_SS, 0),
    R(C_BIN32, I, I, I, OP_EQ_SS, 0), R(C_BIN32, I, I, I, OP_NE_SS, 0),
    R(C_BIN32, I, I, I, OP_LT_S_SS, 0), R(C_BIN32, I, I, I, OP_LT_U_SS, 0),
    R(C_SWAP32, I, I, I, OP_LT_S_SS, 0), R(C_SWAP32, I, I, I, OP_LT_U_SS, 0),
    R(C_SWAP32, I, I, I, OP_GE_S_SS, 0), R(C_SWAP32, I, I, I, OP_GE_U_SS, 0),
    R(C_BIN32, I, I, I, OP_GE_S_SS, 0), R(C_BIN32, I, I, I, OP_GE_U_SS, 0),
    /* 50 */ R(C_EQZ64, L, L, I, OP_EQ64_SS, 0),
    R(C_CMP64, L, L, I, OP_EQ64_SS, 0), R(C_CMP64, L, L, I, OP_NE64_SS, 0),
    R(C_CMP64, L, L, I, OP_LT_S64_SS, 0), R(C_CMP64, L, L, I, OP_LT_U64_SS, 0),
    R(C_SWAP64, L, L, I, OP_LT_S64_SS, 0), R(C_SWAP64, L, L, I, OP_LT_U64_SS, 0),
    R(C_SWAP64, L, L, I, OP_GE_S64_SS, 0), R(C_SWAP64, L, L, I, OP_GE_U64_SS, 0),
    R(C_CMP64, L, L, I, OP_GE_S64_SS, 0), R(C_CMP64, L, L, I, OP_GE_U64_SS, 0),
    /* 5b */ R(C_CMPF, F, F, I, OP_F32_EQ, 0), R(C_CMPF, F, F, I, OP_F32_NE, 0),
    R(C_CMPF, F, F, I, OP_F32_LT, 0), R(C_SWAPF, F, F, I, OP_F32_LT, 0),
    R(C_CMPF, F, F, I, OP_F32_LE, 0), R(C_SWAPF, F, F, I, OP_F32_LE, 0),
    /* 61 */ R(C_CMPF, D, D, I, OP_F64_EQ, 0), R(C_CMPF, D, D, I, OP_F64_NE, 0),
    R(C_CMPF, D, D, I, OP_F64_LT, 0), R(C_SWAPF, D, D, I, OP_F64_LT, 0),
    R(C_CMPF, D, D, I, OP_F64_LE, 0), R(C_SWAPF, D, D, I, OP_F64_LE, 0),
    /* 67 */ R(C_ONE, I, I, I, OP_CLZ, 0), R(C_ONE, I, I, I, OP_CTZ, 0), R(C_ONE, I, I, I, OP_POPCNT, 0),
    /* 6a */ R(C_BIN32, I, I, I, OP_ADD_SSS, 0), R(C_BIN32, I, I, I, OP_SUB_SS, 0), R(C_BIN32, I, I, I, OP_MUL_SS, 0),
    R(C_TRAP_TWO, I, I, I, OP_DIV32, DIV_S), R(C_TRAP_TWO, I, I, I, OP_DIV32, DIV_U),
    R(C_TRAP_TWO, I, I, I, OP_DIV32, REM_S), R(C_TRAP_TWO, I, I, I, OP_DIV32, REM_U),
    /* 71 */ R(C_BIN32, I, I, I, OP_AND_SS, 0), R(C_BIN32, I, I, I, OP_OR_SS, 0), R(C_BIN32, I, I, I, OP_XOR_SS, 0),
    R(C_BIN32, I, I, I, OP_SHL_SS, 0), R(C_BIN32, I, I, I, OP_SHR_S_SS, 0), R(C_BIN32, I, I, I, OP_SHR_U_SS, 0),
    R(C_BIN32, I, I, I, OP_ROTL_SS, 0), R(C_TRAP_TWO, I, I, I, OP_DIV32, ROTR),
    /* 79 */ R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_CLZ), R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_CTZ),
    R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_POPCNT),
    /* 7c */ R(C_BIN64, L, L, L, OP_ADD64_SS, 0), R(C_PAIR64, L, L, L, OP_SUB64, 0), R(C_PAIR64, L, L, L, OP_MUL64, 0),
    R(C_TRAP_TWO, L, L, L, OP_DIV64, DIV_S), R(C_TRAP_TWO, L, L, L, OP_DIV64, DIV_U),
    R(C_TRAP_TWO, L, L, L, OP_DIV64, REM_S), R(C_TRAP_TWO, L, L, L, OP_DIV64, REM_U),
    /* 83 */ R(C_BIN64, L, L, L, OP_AND64_SS, 0), R(C_PAIR64, L, L, L, OP_OR64, 0), R(C_PAIR64, L, L, L, OP_XOR64, 0),
    R(C_BIN64, L, L, L, OP_SHL64_SS, 0), R(C_BIN64, L, L, L, OP_SHR_S64_SS, 0), R(C_BIN64, L, L, L, OP_SHR_U64_SS, 0),
    R(C_BIN64, L, L, L, OP_ROTL64_SS, 0), R(C_TRAP_TWO, L, L, L, OP_DIV64, ROTR),
    /* 8b */ R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_ABS), R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_NEG),
    R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_CEIL), R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_FLOOR),
    R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_TRUNC), R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_NEAREST),
    R(C_ONE_KIND, F, F, F, OP_F32_UNARY, FLOAT_SQRT),
    R(C_TWO, F, F, F, OP_F32_ADD, 0), R(C_TWO, F, F, F, OP_F32_SUB, 0),
    R(C_TWO, F, F, F, OP_F32_MUL, 0), R(C_TWO, F, F, F, OP_F32_DIV, 0),
    R(C_TWO_KIND, F, F, F, OP_F32_PAIR, FLOAT_MIN), R(C_TWO_KIND, F, F, F, OP_F32_PAIR, FLOAT_MAX),
    R(C_TWO_KIND, F, F, F, OP_F32_PAIR, FLOAT_COPYSIGN),
    /* 99 */ R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_ABS), R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_NEG),
    R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_CEIL), R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_FLOOR),
    R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_TRUNC), R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_NEAREST),
    R(C_ONE_KIND, D, D, D, OP_F64_UNARY, FLOAT_SQRT),
    R(C_TWO, D, D, D, OP_F64_ADD, 0), R(C_TWO, D, D, D, OP_F64_SUB, 0),
    R(C_TWO, D, D, D, OP_F64_MUL, 0), R(C_TWO, D, D, D, OP_F64_DIV, 0),
    R(C_TWO_KIND, D, D, D, OP_F64_PAIR, FLOAT_MIN), R(C_TWO_KIND, D, D, D, OP_F64_PAIR, FLOAT_MAX),
    R(C_TWO_KIND, D, D, D, OP_F64_PAIR, FLOAT_COPYSIGN),
    /* a7 */ R(C_WRAP, L, L, I, 0, 0),
    R(C_TRAP_ONE, F, F, I, OP_TRUNC32, 0), R(C_TRAP_ONE, F, F, I, OP_TRUNC32, TRUNC_UNSIGNED),
    R(C_TRAP_ONE, D, D, I, OP_TRUNC32, TRUNC_FROM64), R(C_TRAP_ONE, D, D, I, OP_TRUNC32, TRUNC_FROM64 | TRUNC_UNSIGNED),
    /* ac */ R(C_ONE, I, I, L, OP_EXTEND_S, 0), R(C_ONE, I, I, L, OP_EXTEND_U, 0),
    R(C_TRAP_ONE, F, F, L, OP_TRUNC64, TRUNC_TO64), R(C_TRAP_ONE, F, F, L, OP_TRUNC64, TRUNC_TO64 | TRUNC_UNSIGNED),
    R(C_TRAP_ONE, D, D, L, OP_TRUNC64, TRUNC_TO64 | TRUNC_FROM64),
    R(C_TRAP_ONE, D, D, L, OP_TRUNC64, TRUNC_TO64 | TRUNC_FROM64 | TRUNC_UNSIGNED),
    /* b2 */ R(C_ONE_KIND, I, I, F, OP_F32_FROM, FROM_I32_S), R(C_ONE_KIND, I, I, F, OP_F32_FROM, FROM_I32_U),
    R(C_ONE_KIND, L, L, F, OP_F32_FROM, FROM_I64_S), R(C_ONE_KIND, L, L, F, OP_F32_FROM, FROM_I64_U),
    R(C_ONE, D, D, F, OP_DEMOTE, 0),
    /* b7 */ R(C_ONE_KIND, I, I, D, OP_F64_FROM, FROM_I32_S), R(C_ONE_KIND, I, I, D, OP_F64_FROM, FROM_I32_U),
    R(C_ONE_KIND, L, L, D, OP_F64_FROM, FROM_I64_S), R(C_ONE_KIND, L, L, D, OP_F64_FROM, FROM_I64_U),
    R(C_ONE, F, F, D, OP_PROMOTE, 0),
    /* bc */ R(C_SAME, F, F, I, 0, 0), R(C_SAME, D, D, L, 0, 0), R(C_SAME, I, I, F, 0, 0), R(C_SAME, L, L, D, 0, 0),
    /* c0 */ R(C_ONE, I, I, I, OP_EXTEND8, 0), R(C_ONE, I, I, I, OP_EXTEND16, 0),
    R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_EXTEND8), R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_EXTEND16),
    R(C_ONE_KIND, L, L, L, OP_UNARY64, UN_EXTEND32),
};

/* Puts a constant to the right where the operation allows it. `number` counts the comparisons from EQ. */
static bool constant_right(struct value *a, struct value *b, uint32_t *number, bool compare, bool commutes) {
    if (a->op.where != IN_CONST || b->op.where == IN_CONST) {
        return false;
    }
    const int32_t next = (int16_t)a->op.value + 1;
    if (!commutes) {
        if (!compare || next > 32767 || (*number >= 4 && next == 0)) {
            return false;
        }
        *number ^= 1;
        a->op.value = (uint16_t)next;
    }
    const struct value swapped = *a;
    *a = *b;
    *b = swapped;
    return true;
}

static void binary32(struct wbi_loader *l, uint32_t op, struct value *a, struct value *b) {
    const bool compare = op >= OP_EQ_SS;
    uint32_t number = compare ? (op - OP_EQ_SS) / 5 : 0;
    const bool commutes = (compare && number < 2) || op == OP_ADD_SSS || op == OP_MUL_SS || op == OP_AND_SS ||
                          op == OP_OR_SS || op == OP_XOR_SS;
    const uint16_t dst = top_cell(l);
    uint16_t left = 0;
    uint16_t right = 0;
    uint32_t form;
    if (op == OP_SUB_SS && b->op.where == IN_CONST && b->op.value != 0x8000) {
        b->op.value = (uint16_t)(0 - b->op.value);
        op = OP_ADD_SSS;
    }
    constant_right(a, b, &number, compare, commutes);
    if (compare) {
        op = OP_EQ_SS + 5 * number;
    }
    if (a->op.where == IN_CONST) {
        left = to_cell(l, a);
    }
    if (b->op.where == IN_CONST) {
        form = in_acc(l, a) ? FORM_AI : FORM_SI;
        right = b->op.value;
    } else {
        form = in_acc(l, b) ? FORM_SA : in_acc(l, a) ? FORM_AS : FORM_SS;
    }
    if (form != FORM_SS && form != FORM_SI) {
        keep_in_acc(l);
    }
    if (form != FORM_AS && form != FORM_AI) {
        left = to_cell(l, a);
    }
    if ((form == FORM_SS || form == FORM_AS)) {
        right = to_cell(l, b);
    }
    emit(l, op + form);
    emit_dst(l, dst, op >= OP_AND_SS ? ACC_ONLY : 5);
    if (form != FORM_AS && form != FORM_AI) {
        emit_field(l, left);
    }
    if (form != FORM_SA) {
        emit_field(l, right);
    }
    push(l, T_I32);
}

static void binary64(struct wbi_loader *l, uint32_t op, struct value *a, struct value *b, uint8_t result) {
    const bool compare = op >= OP_EQ64_SS;
    uint32_t number = compare ? (op - OP_EQ64_SS) / 2 : 0;
    const bool commutes = (compare && number < 2) || op == OP_ADD64_SS || op == OP_AND64_SS;
    const uint16_t dst = top_cell(l);
    uint16_t left = 0;
    uint16_t right = b->op.value;
    constant_right(a, b, &number, compare, commutes);
    const bool immediate = b->op.where == IN_CONST;
    if (compare) {
        op = OP_EQ64_SS + 2 * number;
    }
    if (immediate) {
        right = b->op.value;
    }
    left = to_cell(l, a);
    if (!immediate) {
        right = to_cell(l, b);
    }
    emit(l, op + (immediate ? 1 : 0));
    emit_dst(l, dst, compare ? ACC_ONLY : 0);
    emit_field(l, left);
    emit_field(l, right);
    push(l, result);
}

static void general(struct wbi_loader *l, const struct rule *rule, struct value *a, struct value *b, uint8_t result) {
    const bool two = b != NULL;
    const uint16_t dst = top_cell(l);
    uint16_t left = 0;
    uint16_t right = 0;
    left = to_cell(l, a);
    if (two) {
        right = to_cell(l, b);
    }
    emit(l, rule->op & 0x3ffu);
    emit_dst(l, dst, rule->cls == C_CMPF ? ACC_ONLY : 0);
    emit_field(l, left);
    if (two) {
        emit_field(l, right);
    }
    if (rule->cls == C_ONE_KIND || rule->cls == C_TWO_KIND || rule->cls == C_TRAP_ONE || rule->cls == C_TRAP_TWO) {
        emit_field(l, (uint32_t)rule->op >> 10);
    }
    if (rule->cls == C_TRAP_ONE || rule->cls == C_TRAP_TWO) {
        emit_where(l);
    }
    push(l, result);
}

static void apply(struct wbi_loader *l, const struct rule *found) {
    struct rule rule = *found;
    const uint8_t result = (rule.types >> 4) & 3;
    const uint32_t op = rule.op & 0x3ffu;
    struct value a;
    struct value b = {{T_I32, IN_CONST, 0}, 0};
    const bool two = rule.cls == C_BIN32 || rule.cls == C_SWAP32 || rule.cls == C_BIN64 || rule.cls == C_PAIR64 || rule.cls == C_CMP64 ||
                     rule.cls == C_SWAP64 || rule.cls == C_TWO || rule.cls == C_TWO_KIND || rule.cls == C_TRAP_TWO ||
                     rule.cls == C_CMPF || rule.cls == C_SWAPF;
    if (two) {
        pop(l, (rule.types >> 2) & 3, &b);
    }
    pop(l, rule.types & 3, &a);
    switch (rule.cls) {
    case C_BIN32:
    case C_EQZ32: binary32(l, op, &a, &b); return;
    case C_SWAP32: binary32(l, op, &b, &a); return;
    case C_BIN64:
    case C_CMP64:
    case C_EQZ64: binary64(l, op, &a, &b, result); return;
    case C_SWAP64: binary64(l, op, &b, &a, result); return;
    case C_SWAPF:
        rule.cls = C_CMPF;
        general(l, &rule, &b, &a, result);
        return;
    case C_SAME: push_in(l, result, a.op.where, a.op.value); return;
    case C_WRAP: /* the low word lies first */
        emit_flush(l);
        push_in(l, result, a.op.where, a.op.value);
        return;
    default: general(l, &rule, &a, two ? &b : NULL, result); return;
    }
}

void simple_instruction(struct wbi_loader *l, uint8_t opcode) { apply(l, &rules[opcode - 0x45]); }

struct access {
    uint8_t type, bytes_log2;
    uint16_t op; /* operation | kind << 10 */
};
static const struct access accesses[] = {
    {I, 2, OP_LOAD32_SS}, {L, 3, OP_LOAD64}, {F, 2, OP_LOAD32_SS}, {D, 3, OP_LOAD64},
    {I, 0, OP_LOAD8_S_S}, {I, 0, OP_LOAD8_U_SS}, {I, 1, OP_LOAD16_S_S}, {I, 1, OP_LOAD16_U_S},
    {L, 0, OP_LOAD64_NARROW | NARROW_8S << 10}, {L, 0, OP_LOAD64_NARROW | NARROW_8U << 10},
    {L, 1, OP_LOAD64_NARROW | NARROW_16S << 10}, {L, 1, OP_LOAD64_NARROW | NARROW_16U << 10},
    {L, 2, OP_LOAD64_NARROW | NARROW_32S << 10}, {L, 2, OP_LOAD64_NARROW | NARROW_32U << 10},
    {I, 2, OP_STORE32_SS}, {L, 3, OP_STORE64}, {F, 2, OP_STORE32_SS}, {D, 3, OP_STORE64},
    {I, 0, OP_STORE8_SS}, {I, 1, OP_STORE16_SS},
    {L, 0, OP_STORE8_SS}, {L, 1, OP_STORE16_SS}, {L, 2, OP_STORE32_SS},
};

/* Makes sure that offset plus width fit the memory's least size, which the loop relies on; else computes the address. */
static void near_address(struct wbi_loader *l, struct value *address, uint32_t offset, uint32_t bytes, uint32_t *end) {
    const uint64_t least = (uint64_t)l->header.memory_min << l->header.page_log2;
    uint16_t cell;
    *end = bytes;
    if ((uint64_t)offset + bytes <= least && offset + bytes <= 0xffff) {
        *end = offset + bytes;
        return;
    }
    cell = to_cell(l, address);
    emit(l, OP_ADDRESS);
    emit_dst(l, address->own, ACC_ONLY);
    emit_field(l, cell);
    emit_field(l, offset);
    emit_field(l, offset >> 16);
    emit_field(l, bytes);
    emit_where(l);
    address->op.where = IN_CELL;
}

static void load(struct wbi_loader *l, const struct access *access, uint32_t offset) {
    const uint32_t op = access->op & 0x3ffu;
    struct value address;
    uint32_t end;
    uint16_t cell = 0;
    pop(l, T_I32, &address);
    near_address(l, &address, offset, 1u << access->bytes_log2, &end);
    const uint16_t dst = top_cell(l);
    const bool short_result = op < OP_STORE32_SS;
    if (address.op.where == IN_CONST) {
        cell = to_cell(l, &address);
    }
    const bool acc = short_result && in_acc(l, &address);
    if (acc) {
        keep_in_acc(l);
    } else {
        cell = to_cell(l, &address);
    }
    emit(l, op + (acc ? 1 : 0));
    emit_dst(l, dst, op >= OP_LOAD8_S_S && short_result ? ACC_ONLY : short_result ? 2 : 0);
    if (!acc) {
        emit_field(l, cell);
    }
    emit_field(l, end);
    if (op == OP_LOAD64_NARROW) {
        emit_field(l, (uint32_t)access->op >> 10);
    }
    emit_where(l);
    push(l, access->type);
}

static void store(struct wbi_loader *l, const struct access *access, uint32_t offset) {
    struct value address;
    struct value data;
    uint32_t end;
    uint16_t address_cell = 0;
    uint16_t data_cell = 0;
    uint32_t form = 0;
    pop(l, access->type, &data);
    pop(l, T_I32, &address);
    near_address(l, &address, offset, 1u << access->bytes_log2, &end);
    if (address.op.where == IN_CONST) {
        address_cell = to_cell(l, &address);
    }
    const bool narrow = access->op != OP_STORE64;
    if (narrow && in_acc(l, &address) && data.op.where != IN_CONST) {
        form = 2;
        keep_in_acc(l);
    } else {
        address_cell = to_cell(l, &address);
    }
    if (form == 0 && data.op.where == IN_CONST) {
        data_cell = to_cell(l, &data);
    }
    if (form == 0 && narrow && in_acc(l, &data)) {
        form = 1;
        keep_in_acc(l);
    } else {
        data_cell = to_cell(l, &data);
    }
    emit(l, access->op + form);
    if (form != 2) {
        emit_field(l, address_cell);
    }
    if (form != 1) {
        emit_field(l, data_cell);
    }
    emit_field(l, end);
    emit_where(l);
}

void memory_access(struct wbi_loader *l, uint8_t opcode) {
    const struct access *access = &accesses[opcode - 0x28];
    const uint32_t align = read_u32(l);
    const uint32_t offset = read_u32(l);
    if (align >= 32) {
        malformed(l, "malformed alignment");
    }
    if ((l->header.flags & WBI_HAS_MEMORY) == 0) {
        invalid(l, "unknown memory");
    }
    if (align > access->bytes_log2) {
        invalid(l, "alignment too large");
    }
    if (opcode < 0x36) {
        load(l, access, offset);
    } else {
        store(l, access, offset);
    }
}

static void truncate_saturating(struct wbi_loader *l, uint32_t number) {
    const uint8_t from = (number & 2) != 0 ? T_F64 : T_F32;
    const bool wide = (number & 4) != 0;
    const uint32_t kind = number | TRUNC_SATURATE;
    const struct rule rule = R(C_TRAP_ONE, from, from, wide ? T_I64 : T_I32, wide ? OP_TRUNC64 : OP_TRUNC32, kind);
    apply(l, &rule);
}

static void bulk(struct wbi_loader *l, uint32_t op, uint32_t kind, uint32_t segment) {
    struct value v[3];
    uint16_t cell[3];
    for (uint32_t i = 3; i-- > 0;) {
        pop(l, T_I32, &v[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cell[i] = to_cell(l, &v[i]);
    }
    emit(l, op);
    for (uint32_t i = 0; i < 3; i++) {
        emit_field(l, cell[i]);
    }
    emit_field(l, kind);
    emit_field(l, segment);
    emit_where(l);
}

void prefixed_instruction(struct wbi_loader *l) {
    const struct wbi_header *h = &l->header;
    const uint32_t number = read_u32(l);
    uint32_t first = 0;
    uint32_t second = 0;
    if (number < 8) {
        truncate_saturating(l, number);
        return;
    }
    if (number > 14) {
        number <= 17 ? refuse(l, WBI_UNSUPPORTED, "reference types") : malformed(l, "illegal opcode");
    }
    first = number == 10 ? read_u8(l) : number == 11 ? read_u8(l) : read_u32(l);
    if (number == 8 || number == 10) {
        second = read_u8(l);
    } else if (number == 12 || number == 14) {
        second = read_u32(l);
    }
    const bool on_memory = number == 8 || number == 10 || number == 11;
    const bool on_table = number == 12 || number == 14;
    const bool indices = number == 8 ? second != 0 : number == 12 ? second != 0 : number == 9 || number == 13 ? false
                                                                                  : (first | second) != 0;
    if ((on_memory && ((h->flags & WBI_HAS_MEMORY) == 0 || indices))) {
        invalid(l, "unknown memory");
    }
    if (on_table && ((h->flags & WBI_HAS_TABLE) == 0 || indices)) {
        invalid(l, "unknown table");
    }
    if (number == 8 || number == 9) {
        if (!l->has_data_count) {
            malformed(l, "data count required");
        }
        if (first >= l->data_count) {
            invalid(l, "unknown segment");
        }
    }
    if ((number == 12 || number == 13) && first >= h->element_count) {
        invalid(l, "unknown segment");
    }
    switch (number) {
    case 8: bulk(l, OP_MEMORY_BULK, BULK_INIT, first); return;
    case 10: bulk(l, OP_MEMORY_BULK, BULK_COPY, 0); return;
    case 11: bulk(l, OP_MEMORY_BULK, BULK_FILL, 0); return;
    case 12: bulk(l, OP_TABLE_BULK, BULK_INIT, first); return;
    case 14: bulk(l, OP_TABLE_BULK, BULK_COPY, 0); return;
    default:
        emit(l, OP_DROP_SEGMENT);
        emit_field(l, number == 9 ? h->element_count + first : first);
        return;
    }
}
