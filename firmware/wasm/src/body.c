/* Function bodies: checks types as the core specification's appendix does, and translates on the way. */
#include <string.h>

#include "body.h"

const char type_mismatch[] = "type mismatch";
static const char frame_limit[] = "frame too large";

/* Locals of one type in a row. */
struct run {
    uint32_t end; /* index after the last */
    uint16_t cell;
    uint8_t type;
};

static struct run *run_at(struct wbi_loader *l, uint32_t index) {
    return (struct run *)(void *)l->scratch + index;
}

struct operand *operand_at(struct wbi_loader *l, uint32_t index) {
    return (struct operand *)(void *)(l->scratch + l->body.runs * sizeof(struct run)) + index;
}

static struct label *label_number(struct wbi_loader *l, uint32_t index) {
    return (struct label *)(void *)(l->scratch + l->scratch_bytes) - (index + 1);
}

struct label *label_at(struct wbi_loader *l, uint32_t depth) {
    return label_number(l, l->body.labels - 1u - depth);
}

static void room(struct wbi_loader *l, uint32_t more) {
    const uint32_t used = (uint32_t)(l->body.runs * sizeof(struct run) + l->body.operands * sizeof(struct operand) +
                                     l->body.labels * sizeof(struct label));
    if (used + more > l->scratch_bytes) {
        refuse(l, WBI_LIMIT, "function too deep for the scratch");
    }
}

/* ---- operands --------------------------------------------------------------------------------------------- */

void push_in(struct wbi_loader *l, uint8_t type, uint8_t where, uint32_t value) {
    room(l, sizeof(struct operand));
    struct operand *op = operand_at(l, l->body.operands);
    op->type = type;
    op->where = where;
    op->value = (uint16_t)value;
    l->body.operands++;
    l->body.cells = (uint16_t)(l->body.cells + cells_of(type));
    if (l->body.cells > l->body.max_cells) {
        l->body.max_cells = l->body.cells;
    }
    if (l->body.cells * 4u > l->limits.stack_bytes) {
        refuse(l, WBI_LIMIT, frame_limit);
    }
}

void push(struct wbi_loader *l, uint8_t type) { push_in(l, type, IN_CELL, 0); }

void pop(struct wbi_loader *l, uint8_t type, struct value *v) {
    const struct label *label = label_at(l, 0);
    if (l->body.operands == label->height) {
        v->op.type = type;
        v->op.where = IN_CELL;
        v->op.value = 0;
        v->own = top_cell(l);
        if (!label->dead) {
            invalid(l, type_mismatch);
        }
        return;
    }
    v->op = *operand_at(l, --l->body.operands);
    l->body.cells = (uint16_t)(l->body.cells - cells_of(v->op.type));
    v->own = top_cell(l);
    if (v->op.type == T_ANY) {
        v->op.type = type;
    }
    if (type != T_ANY && v->op.type != type) {
        invalid(l, type_mismatch);
    }
}

void pop_types(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    struct value v;
    for (uint32_t i = count; i-- > 0;) {
        pop(l, types[i], &v);
    }
}

void push_types(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        push(l, types[i]);
    }
}

/* Puts the topmost operands into their own cells and checks their types; they stay. */
void settle(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    const uint32_t from = l->body.operands > count ? l->body.operands - count : 0;
    spill(l, from, false);
    pop_types(l, types, count);
    push_types(l, types, count);
}

/* ---- labels ----------------------------------------------------------------------------------------------- */

static const uint8_t single[4] = {T_I32, T_I64, T_F32, T_F64};

uint32_t label_types(struct wbi_loader *l, const struct label *label, bool results, const uint8_t **types) {
    if (label->type < 0) {
        *types = single + (label->type == -1 ? 0 : -2 - label->type);
        return results && label->type != -1 ? 1 : 0;
    }
    const uint8_t *type = object_type(l->flash.base, &l->header, (uint32_t)label->type);
    *types = type + 4 + (results ? type[2] : 0);
    return results ? type[3] : type[2];
}

uint32_t branch_types(struct wbi_loader *l, const struct label *label, const uint8_t **types) {
    return label_types(l, label, label->kind != LABEL_LOOP, types);
}

void begin_label(struct wbi_loader *l, uint8_t kind, int32_t type) {
    room(l, sizeof(struct label));
    struct label *label = label_number(l, l->body.labels++);
    memset(label, 0, sizeof *label);
    label->kind = kind;
    label->type = type;
    label->height = l->body.operands;
    label->cells = l->body.cells;
    label->dead_before = l->body.dead;
}

void unreachable(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    emit_flush(l);
    label->dead = true;
    l->body.dead = true;
    l->body.operands = label->height;
    l->body.cells = label->cells;
}

/* Copies the topmost operands, all in their own cells, down to where a label wants them. */
void move_results(struct wbi_loader *l, uint32_t count, uint32_t to_cell_number) {
    uint32_t from = l->body.cells;
    for (uint32_t i = 0; i < count; i++) {
        from -= cells_of(operand_at(l, l->body.operands - 1u - i)->type);
    }
    for (uint32_t i = l->body.operands - count; i < l->body.operands; i++) {
        const uint8_t type = operand_at(l, i)->type;
        emit_copy(l, (uint16_t)(to_cell_number * 4), (uint16_t)(from * 4), type);
        from += cells_of(type);
        to_cell_number += cells_of(type);
    }
}

bool needs_moves(const struct wbi_loader *l, const struct label *label, uint32_t count) {
    return count != 0 && l->body.operands != label->height + count;
}

void emit_branch(struct wbi_loader *l, struct label *label) {
    emit(l, OP_BR);
    emit_field(l, 0xffff);
    emit_field(l, 0);
    branch_to(l, label);
}

/* Results to the start of the frame, then back to the caller. */
void emit_return(struct wbi_loader *l) {
    const uint8_t *type = l->body.type;
    const uint8_t *results = type + 4 + type[2];
    struct value v;
    uint16_t cell = 0;
    if (l->body.dead) {
        pop_types(l, results, type[3]);
        return;
    }
    if (type[3] == 1) {
        pop(l, results[0], &v);
        if ((results[0] & 1) == 0) {
            if (v.op.where == IN_CONST) {
                cell = to_cell(l, &v);
            }
            const bool acc = in_acc(l, &v);
            if (acc) {
                keep_in_acc(l);
            } else {
                cell = to_cell(l, &v);
            }
            emit(l, acc ? OP_RET32_A : OP_RET32_S);
            if (!acc) {
                emit_field(l, cell);
            }
            emit_field(l, l->body.link);
            emit_flush(l);
            return;
        }
        move_to(l, &v, 0, false);
    } else {
        settle(l, results, type[3]);
        move_results(l, type[3], 0);
        pop_types(l, results, type[3]);
    }
    emit(l, OP_RET);
    emit_field(l, l->body.link);
    emit_flush(l);
}

/* ---- the function ----------------------------------------------------------------------------------------- */

static void add_locals(struct wbi_loader *l, uint32_t count, uint8_t type, uint32_t cell) {
    struct wbi_body *b = &l->body;
    if (count > 0xffffffffu - b->locals) {
        malformed(l, "too many locals");
    }
    if (count > 0x4000 || cell + count * cells_of(type) > 0x3fff) {
        refuse(l, WBI_LIMIT, frame_limit);
    }
    b->locals += count;
    if (count == 0) {
        return;
    }
    if (b->runs != 0 && run_at(l, b->runs - 1u)->type == type && cell != b->link / 4u + 1u) {
        run_at(l, b->runs - 1u)->end = b->locals;
        return;
    }
    room(l, sizeof(struct run));
    struct run *run = run_at(l, b->runs++);
    run->end = b->locals;
    run->type = type;
    run->cell = (uint16_t)cell;
}

void body_begin(struct wbi_loader *l, uint32_t size) {
    struct wbi_body *b = &l->body;
    const struct wbi_header *h = &l->header;
    const uint32_t start = b->start;
    const uint32_t end = b->end;
    uint32_t cells = 0;
    uint32_t results = 0;
    (void)size;
    memset(b, 0, sizeof *b);
    b->start = start;
    b->end = end;
    b->index = h->import_funcs + l->bodies;
    b->type = object_type(l->flash.base, h, object_u16(l->flash.base + h->func_types + 2 * b->index));
    b->link = 0xfffc; /* parameters are never right after it */
    for (uint32_t i = 0; i < b->type[2]; i++) {
        add_locals(l, 1, b->type[4 + i], cells);
        cells += cells_of(b->type[4 + i]);
    }
    for (uint32_t i = 0; i < b->type[3]; i++) {
        results += cells_of(b->type[4 + b->type[2] + i]);
    }
    b->link = (uint16_t)(4 * (cells > results ? cells : results));
}

void body_locals(struct wbi_loader *l, uint32_t count, uint8_t type) {
    struct wbi_body *b = &l->body;
    add_locals(l, count, type, b->link / 4u + 1u + b->zero_cells);
    b->zero_cells = (uint16_t)(b->zero_cells + count * cells_of(type));
}

void body_start(struct wbi_loader *l) {
    struct wbi_body *b = &l->body;
    b->cells = (uint16_t)(b->link / 4u + 1u + b->zero_cells);
    b->max_cells = b->cells;
    if (b->cells * 4u > l->limits.stack_bytes) {
        refuse(l, WBI_LIMIT, frame_limit);
    }
    out_align(l, 2);
    out_reserve(l, WBI_CODE_HEADER);
    b->code = l->out;
    l->state = ST_CODE;
    const uint16_t type = object_u16(l->flash.base + l->header.func_types + 2 * b->index);
    begin_label(l, LABEL_FUNCTION, type);
    out_patch_u32(l, l->header.func_code + 4 * b->index, b->code);
}

void end_function(struct wbi_loader *l) {
    const struct wbi_body *b = &l->body;
    const uint16_t header[5] = {(uint16_t)b->start, (uint16_t)(b->start >> 16), (uint16_t)(b->max_cells * 4u),
                                (uint16_t)(b->zero_cells * 4u), b->link};
    out_patch(l, b->code - WBI_CODE_HEADER, header, sizeof header);
}

static void find_local(struct wbi_loader *l, uint32_t index, uint8_t *type, uint16_t *cell) {
    uint32_t first = 0;
    if (index >= l->body.locals) {
        invalid(l, "unknown local");
    }
    for (const struct run *run = run_at(l, 0);; run++) {
        if (index < run->end) {
            *type = run->type;
            *cell = (uint16_t)(4 * (run->cell + (index - first) * cells_of(run->type)));
            return;
        }
        first = run->end;
    }
}

/* ---- instructions ----------------------------------------------------------------------------------------- */

static void call(struct wbi_loader *l, uint32_t function) {
    const struct wbi_header *h = &l->header;
    if (function >= h->func_count) {
        invalid(l, "unknown function");
    }
    const uint8_t *type = object_type(l->flash.base, h, object_u16(l->flash.base + h->func_types + 2 * function));
    settle(l, type + 4, type[2]);
    pop_types(l, type + 4, type[2]);
    const bool host = function < h->import_funcs;
    const bool back = function <= l->body.index;
    emit(l, host ? OP_CALL_HOST : back ? OP_CALL_NEAR : OP_CALL);
    if (back && !host) {
        const uint32_t code = function == l->body.index ? l->body.code
                                                        : object_u32(l->flash.base + h->func_code + 4 * function);
        const uint32_t distance = code - l->out;
        emit_field(l, distance);
        emit_field(l, distance >> 16);
    } else {
        emit_field(l, function);
    }
    emit_where(l);
    emit_field(l, top_cell(l));
    push_types(l, type + 4 + type[2], type[3]);
}

static void call_indirect(struct wbi_loader *l, uint32_t index, uint8_t table) {
    const struct wbi_header *h = &l->header;
    struct value entry;
    uint16_t cell;
    if ((h->flags & WBI_HAS_TABLE) == 0) {
        invalid(l, "unknown table");
    }
    if (table != 0) {
        malformed(l, "zero byte expected");
    }
    if (index >= h->type_count) {
        invalid(l, "unknown type");
    }
    const uint8_t *type = object_type(l->flash.base, h, index);
    pop(l, T_I32, &entry);
    cell = to_cell(l, &entry);
    settle(l, type + 4, type[2]);
    pop_types(l, type + 4, type[2]);
    emit(l, OP_CALL_INDIRECT);
    emit_field(l, object_u16(type));
    emit_field(l, cell);
    emit_where(l);
    emit_field(l, top_cell(l));
    push_types(l, type + 4 + type[2], type[3]);
}

static void select_value(struct wbi_loader *l) {
    struct value v[3];
    uint16_t cell[3] = {0, 0, 0};
    pop(l, T_I32, &v[2]);
    pop(l, T_ANY, &v[1]);
    pop(l, v[1].op.type, &v[0]);
    const uint8_t type = v[0].op.type;
    cell[0] = to_cell(l, &v[0]);
    cell[1] = to_cell(l, &v[1]);
    const uint16_t dst = top_cell(l);
    const bool acc = in_acc(l, &v[2]);
    if (acc) {
        keep_in_acc(l);
    } else {
        cell[2] = to_cell(l, &v[2]);
    }
    emit(l, ((type & 1) != 0 ? (uint32_t)OP_SELECT64_S : (uint32_t)OP_SELECT32_S) + (acc ? 1u : 0u));
    emit_dst(l, dst, 0);
    emit_field(l, cell[0]);
    emit_field(l, cell[1]);
    if (!acc) {
        emit_field(l, cell[2]);
    }
    push(l, type);
}

static void local(struct wbi_loader *l, uint8_t opcode, uint32_t index) {
    struct value v;
    uint8_t type = T_I32;
    uint16_t cell = 0;
    find_local(l, index, &type, &cell);
    if (opcode == 0x20) {
        push_in(l, type, IN_LOCAL, cell);
        return;
    }
    pop(l, type, &v);
    move_to(l, &v, cell, true);
    if (opcode == 0x22) {
        push_in(l, type, IN_LOCAL, cell);
    }
}

static void global(struct wbi_loader *l, uint8_t opcode, uint32_t index) {
    struct value v;
    uint16_t cell = 0;
    if (index >= l->header.global_count) {
        invalid(l, "unknown global");
    }
    const struct wbi_global *g =
        (const struct wbi_global *)(const void *)(l->flash.base + l->header.globals) + index;
    const uint8_t type = g->type & 3;
    const bool wide = (type & 1) != 0;
    const bool imported = g->init == WBI_INIT_IMPORTED;
    if (opcode == 0x23) {
        const uint16_t dst = top_cell(l);
        emit(l, imported ? OP_IGGET : wide ? OP_GGET64 : OP_GGET32);
        emit_dst(l, dst, imported || wide ? 0 : ACC_ONLY);
    } else {
        if ((g->type & 0x80) == 0) {
            invalid(l, "global is immutable");
        }
        pop(l, type, &v);
        if (v.op.where == IN_CONST) {
            cell = to_cell(l, &v);
        }
        const bool acc = !imported && !wide && in_acc(l, &v);
        if (acc) {
            keep_in_acc(l);
        } else {
            cell = to_cell(l, &v);
        }
        emit(l, imported ? OP_IGSET : wide ? OP_GSET64 : acc ? OP_GSET32_A : OP_GSET32_S);
        if (!acc) {
            emit_field(l, cell);
        }
    }
    emit_field(l, g->place);
    if (imported) {
        emit_field(l, wide ? 1 : 0);
    }
    if (opcode == 0x23) {
        push(l, type);
    }
}

static void constant(struct wbi_loader *l, uint8_t type, uint64_t bits) {
    const int64_t value = type == T_I32 ? (int32_t)(uint32_t)bits : (int64_t)bits;
    if (type < T_F32 && value >= -32768 && value <= 32767) {
        push_in(l, type, IN_CONST, (uint32_t)value);
        return;
    }
    emit_const(l, top_cell(l), type, bits);
    push(l, type);
}

static void memory_size(struct wbi_loader *l, uint8_t opcode, uint8_t memory) {
    struct value v;
    uint16_t cell = 0;
    if (memory != 0) {
        malformed(l, "zero byte expected");
    }
    if ((l->header.flags & WBI_HAS_MEMORY) == 0) {
        invalid(l, "unknown memory");
    }
    if (opcode == 0x40) {
        pop(l, T_I32, &v);
        cell = to_cell(l, &v);
    }
    const uint16_t dst = top_cell(l);
    emit(l, opcode == 0x40 ? OP_MEMORY_GROW : OP_MEMORY_SIZE);
    emit_dst(l, dst, 0);
    if (opcode == 0x40) {
        emit_field(l, cell);
    }
    push(l, T_I32);
}

void body_instruction(struct wbi_loader *l) {
    const uint8_t opcode = read_u8(l);
    struct value v;
    uint64_t number = 0;
    uint8_t byte = 0;
    if (opcode >= 0x28 && opcode <= 0x3e) {
        memory_access(l, opcode);
        return;
    }
    if (opcode >= 0x45 && opcode <= 0xc4) {
        simple_instruction(l, opcode);
        return;
    }
    switch (opcode) { /* immediates first, so that a split item has no effect */
    case 0x02: case 0x03: case 0x04: number = (uint64_t)read_s33(l); break;
    case 0x0c: case 0x0d: case 0x0e: case 0x10: case 0x20: case 0x21: case 0x22: case 0x23: case 0x24:
        number = read_u32(l);
        break;
    case 0x11: number = read_u32(l); byte = read_u8(l); break;
    case 0x3f: case 0x40: byte = read_u8(l); break;
    case 0x41: number = (uint32_t)read_s32(l); break;
    case 0x42: number = (uint64_t)read_s64(l); break;
    case 0x43: number = read_f32(l); break;
    case 0x44: number = read_f64(l); break;
    default: break;
    }
    const uint32_t index = (uint32_t)number;
    switch (opcode) {
    case 0x00:
        emit(l, OP_UNREACHABLE);
        emit_where(l);
        unreachable(l);
        return;
    case 0x01: return;
    case 0x02: begin_block(l, LABEL_BLOCK, (int64_t)number); return;
    case 0x03: begin_block(l, LABEL_LOOP, (int64_t)number); return;
    case 0x04: begin_block(l, LABEL_IF, (int64_t)number); return;
    case 0x05: begin_else(l); return;
    case 0x0b: end_block(l); return;
    case 0x0c: branch(l, index); return;
    case 0x0d: branch_if(l, index); return;
    case 0x0e: begin_table(l, index); return;
    case 0x0f: emit_return(l); unreachable(l); return;
    case 0x10: call(l, index); return;
    case 0x11: call_indirect(l, index, byte); return;
    case 0x1a: pop(l, T_ANY, &v); return;
    case 0x1b: select_value(l); return;
    case 0x20: case 0x21: case 0x22: local(l, opcode, index); return;
    case 0x23: case 0x24: global(l, opcode, index); return;
    case 0x3f: case 0x40: memory_size(l, opcode, byte); return;
    case 0x41: constant(l, T_I32, number); return;
    case 0x42: constant(l, T_I64, number); return;
    case 0x43: constant(l, T_F32, number); return;
    case 0x44: constant(l, T_F64, number); return;
    case 0xfc: prefixed_instruction(l); return;
    case 0x1c: case 0x25: case 0x26: case 0xd0: case 0xd1: case 0xd2: refuse(l, WBI_UNSUPPORTED, "reference types");
    case 0xfd: refuse(l, WBI_UNSUPPORTED, "vectors");
    case 0xfe: refuse(l, WBI_UNSUPPORTED, "atomics");
    case 0x12: case 0x13: refuse(l, WBI_UNSUPPORTED, "tail calls");
    default: malformed(l, "illegal opcode");
    }
}
