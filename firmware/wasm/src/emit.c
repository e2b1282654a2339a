/* Emitting translated code: one instruction is held back, so that what follows can give it another destination,
 * keep its result in the accumulator, or melt with it. */
#include <string.h>

#include "internal.h"

uint32_t code_at(const struct wbi_loader *l) { return (l->out - l->body.code) / 2; }

static void put(struct wbi_loader *l, const uint16_t *halves, uint32_t count) {
    if (l->out - l->body.code + 2 * count > l->limits.function_bytes) {
        refuse(l, WBI_LIMIT, "function too large");
    }
    out_bytes(l, halves, 2 * count);
}

void emit_flush(struct wbi_loader *l) {
    struct wbi_instruction *p = &l->body.pending;
    uint16_t halves[10];
    uint32_t count = 0;
    if (!p->valid) {
        return;
    }
    p->valid = false;
    halves[count++] = (uint16_t)(p->op * 4u);
    const bool put_after = p->has_dst && p->acc_delta == ACC_ONLY;
    if (p->has_dst && !put_after) {
        halves[count++] = p->dst;
    }
    for (uint32_t i = 0; i < p->fields; i++) {
        halves[count++] = p->field[i];
    }
    if (put_after) {
        halves[count++] = OP_PUT * 4;
        halves[count++] = p->dst;
    }
    put(l, halves, count);
}

void emit(struct wbi_loader *l, uint32_t op) {
    struct wbi_instruction *p = &l->body.pending;
    emit_flush(l);
    p->op = (uint16_t)op;
    p->fields = 0;
    p->acc_delta = 0;
    p->has_dst = false;
    p->valid = !l->body.dead;
}

void emit_dst(struct wbi_loader *l, uint16_t dst, uint32_t acc_delta) {
    l->body.pending.dst = dst;
    l->body.pending.has_dst = true;
    l->body.pending.acc_delta = (uint8_t)acc_delta;
}

void emit_field(struct wbi_loader *l, uint32_t field) {
    l->body.pending.field[l->body.pending.fields++] = (uint16_t)field;
}

void emit_where(struct wbi_loader *l) {
    const uint32_t offset = l->pos - l->body.start;
    emit_field(l, offset < 0xffff ? offset : 0xffff);
}

static bool fits16(uint64_t bits, uint8_t type) {
    const int64_t value = (type & 1) != 0 ? (int64_t)bits : (int32_t)(uint32_t)bits;
    return value >= -32768 && value <= 32767;
}

void emit_const(struct wbi_loader *l, uint16_t dst, uint8_t type, uint64_t bits) {
    const bool wide = (type & 1) != 0;
    const bool is_short = fits16(bits, type);
    emit(l, wide ? (is_short ? OP_CONST64_16 : OP_CONST64) : (is_short ? OP_CONST16_S : OP_CONST32_S));
    emit_dst(l, dst, wide ? 0 : 1);
    for (uint32_t i = 0; i < (is_short ? 1u : wide ? 4u : 2u); i++) {
        emit_field(l, (uint32_t)(bits >> (16 * i)) & 0xffff);
    }
}

void emit_copy(struct wbi_loader *l, uint16_t dst, uint16_t src, uint8_t type) {
    if (dst == src) {
        return;
    }
    emit(l, (type & 1) != 0 ? OP_COPY64 : OP_COPY32);
    emit_dst(l, dst, 0);
    emit_field(l, src);
}

bool in_acc(const struct wbi_loader *l, const struct value *v) {
    const struct wbi_instruction *p = &l->body.pending;
    return p->valid && p->has_dst && p->acc_delta != 0 && v->op.where == IN_CELL && p->dst == v->own;
}

void keep_in_acc(struct wbi_loader *l) {
    struct wbi_instruction *p = &l->body.pending;
    p->op = (uint16_t)(p->op + (p->acc_delta == ACC_ONLY ? 0 : p->acc_delta));
    p->has_dst = false;
    p->acc_delta = 0;
}

static uint64_t const_bits(const struct operand *op) { return (uint64_t)(int64_t)(int16_t)op->value; }

uint16_t to_cell(struct wbi_loader *l, struct value *v) {
    if (v->op.where == IN_CONST) {
        v->op.where = IN_CELL;
        emit_const(l, v->own, v->op.type, const_bits(&v->op));
    }
    return v->op.where == IN_LOCAL ? v->op.value : v->own;
}

void spill(struct wbi_loader *l, uint32_t from, bool locals_only) {
    uint32_t cell = (uint32_t)l->body.link / 4 + 1 + l->body.zero_cells;
    if (l->body.dead) {
        return;
    }
    for (uint32_t i = 0; i < l->body.operands; i++) {
        struct operand *op = operand_at(l, i);
        const uint16_t own = (uint16_t)(cell * 4);
        cell += cells_of(op->type);
        if (i < from || op->where == IN_CELL || (op->where == IN_CONST && locals_only)) {
            continue;
        }
        if (op->where == IN_LOCAL) {
            emit_copy(l, own, op->value, op->type);
        } else {
            emit_const(l, own, op->type, const_bits(op));
        }
        op->where = IN_CELL;
    }
}

/* Saves operands that still stand for a local which is about to change. */
static void save_local(struct wbi_loader *l, uint16_t local) {
    for (uint32_t i = 0; i < l->body.operands; i++) {
        const struct operand *op = operand_at(l, i);
        if (op->where == IN_LOCAL && op->value == local) {
            spill(l, i, true);
            return;
        }
    }
}

void move_to(struct wbi_loader *l, struct value *v, uint16_t dst, bool is_local) {
    struct wbi_instruction *p = &l->body.pending;
    if (is_local && !l->body.dead) {
        save_local(l, dst);
    }
    if (v->op.where == IN_CELL && p->valid && p->has_dst && p->dst == v->own) {
        p->dst = dst;
        return;
    }
    if (v->op.where == IN_CONST) {
        emit_const(l, dst, v->op.type, const_bits(&v->op));
        return;
    }
    emit_copy(l, dst, v->op.where == IN_LOCAL ? v->op.value : v->own, v->op.type);
}

void branch_to(struct wbi_loader *l, struct label *label) {
    struct wbi_instruction *p = &l->body.pending;
    if (!p->valid) {
        return;
    }
    const uint32_t here = code_at(l);
    if (label->kind == LABEL_LOOP) {
        p->field[0] = (uint16_t)(label->other - here);
    } else {
        p->field[1] = (uint16_t)(label->chain == 0 ? 0 : here + 1 - label->chain);
        label->chain = (uint16_t)(here + 1);
    }
    emit_flush(l);
}

static uint16_t code_half(const struct wbi_loader *l, uint32_t half) {
    const uint32_t offset = l->body.code + 2 * half;
    return object_u16(offset >= l->flushed ? l->page + (offset - l->flushed) : l->flash.base + offset);
}

void branch_resolve(struct wbi_loader *l, uint32_t chain) {
    emit_flush(l);
    while (chain != 0) {
        const uint32_t link = code_half(l, chain + 1);
        out_patch_u16(l, l->body.code + 2 * chain, code_at(l) - (chain - 1));
        chain = link == 0 ? 0 : chain - link;
    }
}

/* A branch when the condition is true (or false); a comparison that was just made becomes part of it. */
void compare_branch(struct wbi_loader *l, struct value *condition, bool when) {
    struct wbi_instruction *p = &l->body.pending;
    uint16_t cell = 0;
    if (in_acc(l, condition) && p->op >= OP_EQ_SS && p->op < OP_GE_U_SS + 5) {
        const uint32_t number = (p->op - OP_EQ_SS) / 5u ^ (when ? 0u : 1u);
        const uint32_t form = (p->op - OP_EQ_SS) % 5u;
        const struct wbi_instruction compare = *p;
        p->valid = false;
        if (number < 2 && (form == FORM_SI || form == FORM_AI) && compare.field[compare.fields - 1] == 0) {
            const uint32_t zero = number == 0 ? OP_BRZ_S : OP_BRNZ_S;
            emit(l, zero + (form == FORM_AI ? 1 : 0));
            p->fields = 2;
            if (form == FORM_SI) {
                emit_field(l, compare.field[0]);
            }
        } else {
            emit(l, OP_BR_EQ_SS + 5 * number + form);
            p->fields = 2;
            for (uint32_t i = 0; i < compare.fields; i++) {
                emit_field(l, compare.field[i]);
            }
        }
    } else if (in_acc(l, condition)) {
        keep_in_acc(l);
        emit(l, when ? OP_BRNZ_A : OP_BRZ_A);
        p->fields = 2;
    } else {
        cell = to_cell(l, condition);
        emit(l, when ? OP_BRNZ_S : OP_BRZ_S);
        p->fields = 2;
        emit_field(l, cell);
    }
    p->field[0] = 0xffff;
    p->field[1] = 0;
}
