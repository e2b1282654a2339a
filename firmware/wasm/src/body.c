/* Function bodies: checks types as the core specification's appendix does, and translates on the way. */
#include <string.h>

#include "internal.h"

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

static bool room(struct wbi_loader *l, uint32_t more) {
    const uint32_t used = (uint32_t)(l->body.runs * sizeof(struct run) + l->body.operands * sizeof(struct operand) +
                                     l->body.labels * sizeof(struct label));
    return used + more <= l->scratch_bytes || refuse(l, WBI_LIMIT, "function too deep for the loader's scratch");
}

/* ---- operands --------------------------------------------------------------------------------------------- */

bool push_in(struct wbi_loader *l, uint8_t type, uint8_t where, uint32_t value) {
    if (!room(l, sizeof(struct operand))) {
        return false;
    }
    struct operand *op = operand_at(l, l->body.operands);
    op->type = type;
    op->where = where;
    op->value = (uint16_t)value;
    l->body.operands++;
    l->body.cells = (uint16_t)(l->body.cells + cells_of(type));
    if (l->body.cells > l->body.max_cells) {
        l->body.max_cells = l->body.cells;
    }
    return l->body.cells * 4u <= l->limits.stack_bytes || refuse(l, WBI_LIMIT, "frame larger than the stack limit");
}

bool push(struct wbi_loader *l, uint8_t type) { return push_in(l, type, IN_CELL, 0); }

bool pop(struct wbi_loader *l, uint8_t type, struct value *v) {
    const struct label *label = label_at(l, 0);
    if (l->body.operands == label->height) {
        v->op.type = type;
        v->op.where = IN_CELL;
        v->op.value = 0;
        v->own = top_cell(l);
        return label->dead || invalid(l, "type mismatch");
    }
    v->op = *operand_at(l, --l->body.operands);
    l->body.cells = (uint16_t)(l->body.cells - cells_of(v->op.type));
    v->own = top_cell(l);
    if (v->op.type == T_ANY) {
        v->op.type = type;
    }
    return type == T_ANY || v->op.type == type || invalid(l, "type mismatch");
}

static bool pop_types(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    struct value v;
    for (uint32_t i = count; i-- > 0;) {
        if (!pop(l, types[i], &v)) {
            return false;
        }
    }
    return true;
}

static bool push_types(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!push(l, types[i])) {
            return false;
        }
    }
    return true;
}

/* Puts the topmost operands into their own cells and checks their types; they stay. */
static bool settle(struct wbi_loader *l, const uint8_t *types, uint32_t count) {
    const uint32_t from = l->body.operands > count ? l->body.operands - count : 0;
    return spill(l, from, false) && pop_types(l, types, count) && push_types(l, types, count);
}

/* ---- labels ----------------------------------------------------------------------------------------------- */

static const uint8_t single[4] = {T_I32, T_I64, T_F32, T_F64};

static uint32_t label_types(struct wbi_loader *l, const struct label *label, bool results, const uint8_t **types) {
    if (label->type < 0) {
        *types = single + (label->type == -1 ? 0 : -2 - label->type);
        return results && label->type != -1 ? 1 : 0;
    }
    const uint8_t *type = object_type(l->flash.base, &l->header, (uint32_t)label->type);
    *types = type + 4 + (results ? type[2] : 0);
    return results ? type[3] : type[2];
}

static uint32_t branch_types(struct wbi_loader *l, const struct label *label, const uint8_t **types) {
    return label_types(l, label, label->kind != LABEL_LOOP, types);
}

static bool begin_label(struct wbi_loader *l, uint8_t kind, int32_t type) {
    if (!room(l, sizeof(struct label))) {
        return false;
    }
    struct label *label = label_number(l, l->body.labels++);
    memset(label, 0, sizeof *label);
    label->kind = kind;
    label->type = type;
    label->height = l->body.operands;
    label->cells = l->body.cells;
    label->dead_before = l->body.dead;
    return true;
}

static bool unreachable(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    if (!emit_flush(l)) {
        return false;
    }
    label->dead = true;
    l->body.dead = true;
    l->body.operands = label->height;
    l->body.cells = label->cells;
    return true;
}

/* Copies the topmost operands, all in their own cells, down to where a label wants them. */
static bool move_results(struct wbi_loader *l, uint32_t count, uint32_t to_cell_number) {
    uint32_t from = l->body.cells;
    for (uint32_t i = 0; i < count; i++) {
        from -= cells_of(operand_at(l, l->body.operands - 1u - i)->type);
    }
    for (uint32_t i = l->body.operands - count; i < l->body.operands; i++) {
        const uint8_t type = operand_at(l, i)->type;
        if (!emit_copy(l, (uint16_t)(to_cell_number * 4), (uint16_t)(from * 4), type)) {
            return false;
        }
        from += cells_of(type);
        to_cell_number += cells_of(type);
    }
    return true;
}

static bool needs_moves(const struct wbi_loader *l, const struct label *label, uint32_t count) {
    return count != 0 && l->body.operands != label->height + count;
}

static bool emit_branch(struct wbi_loader *l, struct label *label) {
    if (!emit(l, OP_BR)) {
        return false;
    }
    emit_field(l, 0xffff);
    emit_field(l, 0);
    return branch_to(l, label);
}

/* Results to the start of the frame, then back to the caller. */
static bool emit_return(struct wbi_loader *l) {
    const uint8_t *type = l->body.type;
    const uint8_t *results = type + 4 + type[2];
    struct value v;
    uint16_t cell = 0;
    if (l->body.dead) {
        return pop_types(l, results, type[3]);
    }
    if (type[3] == 1) {
        if (!pop(l, results[0], &v)) {
            return false;
        }
        if ((results[0] & 1) == 0) {
            if (v.op.where == IN_CONST && !to_cell(l, &v, &cell)) {
                return false;
            }
            const bool acc = in_acc(l, &v);
            if (acc) {
                keep_in_acc(l);
            } else if (!to_cell(l, &v, &cell)) {
                return false;
            }
            if (!emit(l, acc ? OP_RET32_A : OP_RET32_S)) {
                return false;
            }
            if (!acc) {
                emit_field(l, cell);
            }
            emit_field(l, l->body.link);
            return emit_flush(l);
        }
        if (!move_to(l, &v, 0, false)) {
            return false;
        }
    } else if (!settle(l, results, type[3]) || !move_results(l, type[3], 0) || !pop_types(l, results, type[3])) {
        return false;
    }
    if (!emit(l, OP_RET)) {
        return false;
    }
    emit_field(l, l->body.link);
    return emit_flush(l);
}

/* ---- the function ----------------------------------------------------------------------------------------- */

static bool add_locals(struct wbi_loader *l, uint32_t count, uint8_t type, uint32_t cell) {
    struct wbi_body *b = &l->body;
    if (count > 0xffffffffu - b->locals) {
        return malformed(l, "too many locals");
    }
    if (count > 0x4000 || cell + count * cells_of(type) > 0x3fff) {
        return refuse(l, WBI_LIMIT, "frame larger than the stack limit");
    }
    b->locals += count;
    if (count == 0) {
        return true;
    }
    if (b->runs != 0 && run_at(l, b->runs - 1u)->type == type && cell != b->link / 4u + 1u) {
        run_at(l, b->runs - 1u)->end = b->locals;
        return true;
    }
    if (!room(l, sizeof(struct run))) {
        return false;
    }
    struct run *run = run_at(l, b->runs++);
    run->end = b->locals;
    run->type = type;
    run->cell = (uint16_t)cell;
    return true;
}

bool body_begin(struct wbi_loader *l, uint32_t size) {
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
        if (!add_locals(l, 1, b->type[4 + i], cells)) {
            return false;
        }
        cells += cells_of(b->type[4 + i]);
    }
    for (uint32_t i = 0; i < b->type[3]; i++) {
        results += cells_of(b->type[4 + b->type[2] + i]);
    }
    b->link = (uint16_t)(4 * (cells > results ? cells : results));
    return true;
}

bool body_locals(struct wbi_loader *l, uint32_t count, uint8_t type) {
    struct wbi_body *b = &l->body;
    if (!add_locals(l, count, type, b->link / 4u + 1u + b->zero_cells)) {
        return false;
    }
    b->zero_cells = (uint16_t)(b->zero_cells + count * cells_of(type));
    return true;
}

bool body_start(struct wbi_loader *l) {
    struct wbi_body *b = &l->body;
    b->cells = (uint16_t)(b->link / 4u + 1u + b->zero_cells);
    b->max_cells = b->cells;
    if (b->cells * 4u > l->limits.stack_bytes) {
        return refuse(l, WBI_LIMIT, "frame larger than the stack limit");
    }
    if (!out_align(l, 2) || !out_reserve(l, WBI_CODE_HEADER)) {
        return false;
    }
    b->code = l->out;
    l->state = ST_CODE;
    const uint16_t type = object_u16(l->flash.base + l->header.func_types + 2 * b->index);
    return begin_label(l, LABEL_FUNCTION, type) &&
           out_patch_u32(l, l->header.func_code + 4 * b->index, b->code);
}

static bool end_function(struct wbi_loader *l) {
    const struct wbi_body *b = &l->body;
    const uint16_t header[5] = {(uint16_t)b->start, (uint16_t)(b->start >> 16), (uint16_t)(b->max_cells * 4u),
                                (uint16_t)(b->zero_cells * 4u), b->link};
    return out_patch(l, b->code - WBI_CODE_HEADER, header, sizeof header);
}

static bool find_local(struct wbi_loader *l, uint32_t index, uint8_t *type, uint16_t *cell) {
    uint32_t first = 0;
    if (index >= l->body.locals) {
        return invalid(l, "unknown local");
    }
    for (const struct run *run = run_at(l, 0);; run++) {
        if (index < run->end) {
            *type = run->type;
            *cell = (uint16_t)(4 * (run->cell + (index - first) * cells_of(run->type)));
            return true;
        }
        first = run->end;
    }
}

/* ---- control ---------------------------------------------------------------------------------------------- */

static bool begin_block(struct wbi_loader *l, uint8_t kind, int64_t code) {
    int32_t type = (int32_t)code;
    struct value condition = {{T_I32, IN_CELL, 0}, 0};
    const uint8_t *types;
    if (code < 0) {
        if (code == -64) {
            type = -1;
        } else if (code >= -4) {
            type = (int32_t)(-1 + code); /* -1 is i32 */
        } else {
            return code == -5 || code == -16 || code == -17 ? refuse(l, WBI_UNSUPPORTED, "vector or reference type")
                                                           : malformed(l, "malformed block type");
        }
    } else if (code >= l->header.type_count) {
        return invalid(l, "unknown type");
    }
    if (kind == LABEL_IF && !pop(l, T_I32, &condition)) {
        return false;
    }
    const struct label probe = {.type = type};
    const uint32_t params = label_types(l, &probe, false, &types);
    if (!spill(l, 0, true) || !settle(l, types, params)) {
        return false;
    }
    l->body.operands = (uint16_t)(l->body.operands - params);
    uint32_t cells = 0;
    for (uint32_t i = 0; i < params; i++) {
        cells += cells_of(types[i]);
    }
    l->body.cells = (uint16_t)(l->body.cells - cells);
    if (kind == LABEL_IF && !compare_branch(l, &condition, false)) {
        return false;
    }
    if (!begin_label(l, kind, type)) {
        return false;
    }
    struct label *label = label_at(l, 0);
    if (kind == LABEL_IF) {
        if (!branch_to(l, label)) {
            return false;
        }
        label->other = label->chain;
        label->chain = 0;
    } else if (kind == LABEL_LOOP) {
        if (!emit_flush(l)) {
            return false;
        }
        label->other = (uint16_t)code_at(l);
    }
    return push_types(l, types, params);
}

static bool close_results(struct wbi_loader *l, struct label *label) {
    const uint8_t *types;
    const uint32_t count = label_types(l, label, true, &types);
    if (!settle(l, types, count) || !pop_types(l, types, count)) {
        return false;
    }
    return l->body.operands == label->height || invalid(l, "type mismatch");
}

static bool begin_else(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    const uint8_t *types;
    if (label->kind != LABEL_IF) {
        return malformed(l, "else without if");
    }
    if (!close_results(l, label) || !emit_branch(l, label) || !branch_resolve(l, label->other)) {
        return false;
    }
    label->kind = LABEL_ELSE;
    label->dead = false;
    label->other = 0;
    l->body.dead = label->dead_before;
    l->body.cells = label->cells;
    const uint32_t params = label_types(l, label, false, &types);
    return push_types(l, types, params);
}

static bool end_block(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    const uint8_t *types;
    if (label->kind == LABEL_FUNCTION) {
        if (label->chain != 0) {
            if (!close_results(l, label) || !branch_resolve(l, label->chain)) {
                return false;
            }
            label->dead = false;
            l->body.dead = false;
            const uint32_t results = label_types(l, label, true, &types);
            if (!push_types(l, types, results)) {
                return false;
            }
        }
        if (!emit_return(l)) {
            return false;
        }
        if (l->body.operands != 0) {
            return invalid(l, "type mismatch");
        }
        l->body.labels = 0;
        return end_function(l);
    }
    if (!close_results(l, label)) {
        return false;
    }
    if (label->kind == LABEL_IF) {
        const uint8_t *params;
        const uint32_t inputs = label_types(l, label, false, &params);
        const uint32_t outputs = label_types(l, label, true, &types);
        if (inputs != outputs || memcmp(params, types, inputs) != 0) {
            return invalid(l, "type mismatch");
        }
    }
    if (!branch_resolve(l, label->kind == LABEL_LOOP ? 0 : label->chain) ||
        (label->kind == LABEL_IF && !branch_resolve(l, label->other))) {
        return false;
    }
    const uint32_t results = label_types(l, label, true, &types);
    l->body.dead = label->dead_before;
    l->body.cells = label->cells;
    l->body.labels--;
    return push_types(l, types, results);
}

static bool branch(struct wbi_loader *l, uint32_t depth) {
    const uint8_t *types;
    if (depth >= l->body.labels) {
        return invalid(l, "unknown label");
    }
    struct label *label = label_at(l, depth);
    const uint32_t count = branch_types(l, label, &types);
    if (label->kind == LABEL_FUNCTION) {
        return emit_return(l) && unreachable(l);
    }
    if (!settle(l, types, count) || (needs_moves(l, label, count) && !move_results(l, count, label->cells)) ||
        !emit_branch(l, label)) {
        return false;
    }
    return unreachable(l);
}

static bool branch_if(struct wbi_loader *l, uint32_t depth) {
    const uint8_t *types;
    struct value condition;
    if (depth >= l->body.labels) {
        return invalid(l, "unknown label");
    }
    struct label *label = label_at(l, depth);
    const uint32_t count = branch_types(l, label, &types);
    if (!pop(l, T_I32, &condition) || !settle(l, types, count)) {
        return false;
    }
    if (!needs_moves(l, label, count)) {
        return compare_branch(l, &condition, true) && branch_to(l, label);
    }
    struct label over = {.kind = LABEL_BLOCK};
    return compare_branch(l, &condition, false) && branch_to(l, &over) && move_results(l, count, label->cells) &&
           emit_branch(l, label) && branch_resolve(l, over.chain);
}

static bool begin_table(struct wbi_loader *l, uint32_t count) {
    struct wbi_body *b = &l->body;
    struct value index;
    if (count > 0x7ffe) {
        return count > l->size_left ? malformed(l, "unexpected end of section or function")
                                    : refuse(l, WBI_LIMIT, "function too large");
    }
    if (!pop(l, T_I32, &index) || !to_cell(l, &index, &b->entries_at)) {
        return false;
    }
    b->entries_left = (uint16_t)(count + 1);
    memset(b->depths, 0, sizeof b->depths);
    l->sub_left = count;
    l->state = ST_TABLE_ENTRIES;
    return true;
}

static bool table_half(struct wbi_loader *l, uint32_t value) {
    if (l->body.dead) {
        return true;
    }
    if (l->out - l->body.code + 2 > l->limits.function_bytes) {
        return refuse(l, WBI_LIMIT, "function too large");
    }
    return out_u16(l, value);
}

/* A directory of the depths in use, filled in like branches; those that must move results first get a stub. */
static bool end_table(struct wbi_loader *l, uint32_t count) {
    struct wbi_body *b = &l->body;
    const uint32_t directory = code_at(l);
    uint32_t last = 0;
    for (uint32_t depth = 0; depth < 256; depth++) {
        if ((b->depths[depth / 8] >> (depth % 8) & 1) != 0) {
            last = depth;
        }
    }
    for (uint32_t depth = 0; depth <= last; depth++) {
        const bool used = (b->depths[depth / 8] >> (depth % 8) & 1) != 0;
        struct label *label = label_at(l, depth);
        const uint32_t site = code_at(l);
        uint32_t target = 0xffff;
        uint32_t link = 0;
        if (used && !b->dead && !needs_moves(l, label, count)) {
            if (label->kind == LABEL_LOOP) {
                target = label->other - (site - 1);
            } else {
                link = label->chain == 0 ? 0 : site - label->chain;
                label->chain = (uint16_t)site;
            }
        }
        if (!table_half(l, target) || !table_half(l, link)) {
            return false;
        }
    }
    for (uint32_t depth = 0; depth <= last && !b->dead; depth++) {
        struct label *label = label_at(l, depth);
        if ((b->depths[depth / 8] >> (depth % 8) & 1) == 0 || !needs_moves(l, label, count)) {
            continue;
        }
        if (!branch_resolve(l, directory + 2 * depth) || !move_results(l, count, label->cells) ||
            !emit_branch(l, label)) {
            return false;
        }
    }
    return unreachable(l);
}

bool body_table_entry(struct wbi_loader *l, uint32_t depth) {
    struct wbi_body *b = &l->body;
    const uint8_t *types;
    if (depth >= b->labels) {
        return invalid(l, "unknown label");
    }
    if (depth > 255) {
        return refuse(l, WBI_LIMIT, "branch table deeper than 255");
    }
    const uint32_t count = branch_types(l, label_at(l, depth), &types);
    const bool first = b->entries_left == l->sub_left + 1;
    if (first) {
        b->results_at = (uint16_t)count;
        if (!spill(l, b->operands > count ? b->operands - count : 0, false) || !emit(l, OP_BR_TABLE)) {
            return false;
        }
        emit_field(l, b->entries_at);
        emit_field(l, l->sub_left);
        if (!emit_flush(l)) {
            return false;
        }
    } else if (b->results_at != count) {
        return invalid(l, "type mismatch");
    }
    /* What is popped in unreachable code is any type, so operands are put back as they were. */
    const uint16_t operands = b->operands;
    const uint16_t cells = b->cells;
    if (!pop_types(l, types, count)) {
        return false;
    }
    b->operands = operands;
    b->cells = cells;
    b->depths[depth / 8] = (uint8_t)(b->depths[depth / 8] | 1u << (depth % 8));
    if (!table_half(l, depth)) {
        return false;
    }
    if (--b->entries_left == 0) {
        l->state = ST_CODE;
        return end_table(l, count);
    }
    return true;
}

static bool call(struct wbi_loader *l, uint32_t function) {
    const struct wbi_header *h = &l->header;
    if (function >= h->func_count) {
        return invalid(l, "unknown function");
    }
    const uint8_t *type = object_type(l->flash.base, h, object_u16(l->flash.base + h->func_types + 2 * function));
    if (!settle(l, type + 4, type[2]) || !pop_types(l, type + 4, type[2])) {
        return false;
    }
    const bool host = function < h->import_funcs;
    const bool back = function <= l->body.index;
    if (!emit(l, host ? OP_CALL_HOST : back ? OP_CALL_NEAR : OP_CALL)) {
        return false;
    }
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
    return push_types(l, type + 4 + type[2], type[3]);
}

static bool call_indirect(struct wbi_loader *l, uint32_t index, uint8_t table) {
    const struct wbi_header *h = &l->header;
    struct value entry;
    uint16_t cell;
    if ((h->flags & WBI_HAS_TABLE) == 0) {
        return invalid(l, "unknown table");
    }
    if (table != 0) {
        return malformed(l, "zero byte expected");
    }
    if (index >= h->type_count) {
        return invalid(l, "unknown type");
    }
    const uint8_t *type = object_type(l->flash.base, h, index);
    if (!pop(l, T_I32, &entry) || !to_cell(l, &entry, &cell) || !settle(l, type + 4, type[2]) ||
        !pop_types(l, type + 4, type[2]) || !emit(l, OP_CALL_INDIRECT)) {
        return false;
    }
    emit_field(l, object_u16(type));
    emit_field(l, cell);
    emit_where(l);
    emit_field(l, top_cell(l));
    return push_types(l, type + 4 + type[2], type[3]);
}

static bool select_value(struct wbi_loader *l) {
    struct value v[3];
    uint16_t cell[3] = {0, 0, 0};
    if (!pop(l, T_I32, &v[2]) || !pop(l, T_ANY, &v[1]) || !pop(l, v[1].op.type, &v[0])) {
        return false;
    }
    const uint8_t type = v[0].op.type;
    if (!to_cell(l, &v[0], &cell[0]) || !to_cell(l, &v[1], &cell[1])) {
        return false;
    }
    const uint16_t dst = top_cell(l);
    const bool acc = in_acc(l, &v[2]);
    if (acc) {
        keep_in_acc(l);
    } else if (!to_cell(l, &v[2], &cell[2])) {
        return false;
    }
    if (!emit(l, ((type & 1) != 0 ? (uint32_t)OP_SELECT64_S : (uint32_t)OP_SELECT32_S) + (acc ? 1u : 0u))) {
        return false;
    }
    emit_dst(l, dst, 0);
    emit_field(l, cell[0]);
    emit_field(l, cell[1]);
    if (!acc) {
        emit_field(l, cell[2]);
    }
    return push(l, type);
}

static bool local(struct wbi_loader *l, uint8_t opcode, uint32_t index) {
    struct value v;
    uint8_t type = T_I32;
    uint16_t cell = 0;
    if (!find_local(l, index, &type, &cell)) {
        return false;
    }
    if (opcode == 0x20) {
        return push_in(l, type, IN_LOCAL, cell);
    }
    if (!pop(l, type, &v) || !move_to(l, &v, cell, true)) {
        return false;
    }
    return opcode == 0x21 || push_in(l, type, IN_LOCAL, cell);
}

static bool global(struct wbi_loader *l, uint8_t opcode, uint32_t index) {
    struct value v;
    uint16_t cell = 0;
    if (index >= l->header.global_count) {
        return invalid(l, "unknown global");
    }
    const struct wbi_global *g =
        (const struct wbi_global *)(const void *)(l->flash.base + l->header.globals) + index;
    const uint8_t type = g->type & 3;
    const bool wide = (type & 1) != 0;
    const bool imported = g->init == WBI_INIT_IMPORTED;
    if (opcode == 0x23) {
        const uint16_t dst = top_cell(l);
        if (!emit(l, imported ? OP_IGGET : wide ? OP_GGET64 : OP_GGET32_S)) {
            return false;
        }
        emit_dst(l, dst, imported || wide ? 0 : 1);
    } else {
        if ((g->type & 0x80) == 0) {
            return invalid(l, "global is immutable");
        }
        if (!pop(l, type, &v) || (v.op.where == IN_CONST && !to_cell(l, &v, &cell))) {
            return false;
        }
        const bool acc = !imported && !wide && in_acc(l, &v);
        if (acc) {
            keep_in_acc(l);
        } else if (!to_cell(l, &v, &cell)) {
            return false;
        }
        if (!emit(l, imported ? OP_IGSET : wide ? OP_GSET64 : acc ? OP_GSET32_A : OP_GSET32_S)) {
            return false;
        }
        if (!acc) {
            emit_field(l, cell);
        }
    }
    emit_field(l, g->place);
    if (imported) {
        emit_field(l, wide ? 1 : 0);
    }
    return opcode != 0x23 || push(l, type);
}

static bool constant(struct wbi_loader *l, uint8_t type, uint64_t bits) {
    const int64_t value = type == T_I32 ? (int32_t)(uint32_t)bits : (int64_t)bits;
    if (type < T_F32 && value >= -32768 && value <= 32767) {
        return push_in(l, type, IN_CONST, (uint32_t)value);
    }
    return emit_const(l, top_cell(l), type, bits) && push(l, type);
}

static bool memory_size(struct wbi_loader *l, uint8_t opcode, uint8_t memory) {
    struct value v;
    uint16_t cell = 0;
    if (memory != 0) {
        return malformed(l, "zero byte expected");
    }
    if ((l->header.flags & WBI_HAS_MEMORY) == 0) {
        return invalid(l, "unknown memory");
    }
    if (opcode == 0x40 && (!pop(l, T_I32, &v) || !to_cell(l, &v, &cell))) {
        return false;
    }
    const uint16_t dst = top_cell(l);
    if (!emit(l, opcode == 0x40 ? OP_MEMORY_GROW : OP_MEMORY_SIZE)) {
        return false;
    }
    emit_dst(l, dst, 0);
    if (opcode == 0x40) {
        emit_field(l, cell);
    }
    return push(l, T_I32);
}

bool body_instruction(struct wbi_loader *l, struct reader *r) {
    const uint8_t *start = r->at;
    const uint8_t opcode = read_u8(r);
    struct value v;
    bool known;
    uint64_t number = 0;
    uint8_t byte = 0;
    if (r->state != READ_OK) {
        return true;
    }
    if (opcode >= 0x28 && opcode <= 0x3e) {
        return memory_access(l, opcode, r);
    }
    if (!simple_instruction(l, opcode, &known) || known) {
        return known && l->error.status == WBI_OK;
    }
    switch (opcode) { /* immediates first, so that a split item has no effect */
    case 0x02: case 0x03: case 0x04: number = (uint64_t)read_s33(r); break;
    case 0x0c: case 0x0d: case 0x0e: case 0x10: case 0x20: case 0x21: case 0x22: case 0x23: case 0x24:
        number = read_u32(r);
        break;
    case 0x11: number = read_u32(r); byte = read_u8(r); break;
    case 0x3f: case 0x40: byte = read_u8(r); break;
    case 0x41: number = (uint32_t)read_s32(r); break;
    case 0x42: number = (uint64_t)read_s64(r); break;
    case 0x43: number = read_f32(r); break;
    case 0x44: number = read_f64(r); break;
    default: break;
    }
    if (r->state != READ_OK) {
        return true;
    }
    const uint32_t index = (uint32_t)number;
    switch (opcode) {
    case 0x00:
        if (!emit(l, OP_UNREACHABLE)) {
            return false;
        }
        emit_where(l);
        return unreachable(l);
    case 0x01: return true;
    case 0x02: return begin_block(l, LABEL_BLOCK, (int64_t)number);
    case 0x03: return begin_block(l, LABEL_LOOP, (int64_t)number);
    case 0x04: return begin_block(l, LABEL_IF, (int64_t)number);
    case 0x05: return begin_else(l);
    case 0x0b: return end_block(l);
    case 0x0c: return branch(l, index);
    case 0x0d: return branch_if(l, index);
    case 0x0e: return begin_table(l, index);
    case 0x0f: return emit_return(l) && unreachable(l);
    case 0x10: return call(l, index);
    case 0x11: return call_indirect(l, index, byte);
    case 0x1a: return pop(l, T_ANY, &v);
    case 0x1b: return select_value(l);
    case 0x20: case 0x21: case 0x22: return local(l, opcode, index);
    case 0x23: case 0x24: return global(l, opcode, index);
    case 0x3f: case 0x40: return memory_size(l, opcode, byte);
    case 0x41: return constant(l, T_I32, number);
    case 0x42: return constant(l, T_I64, number);
    case 0x43: return constant(l, T_F32, number);
    case 0x44: return constant(l, T_F64, number);
    case 0xfc: return prefixed_instruction(l, r, start);
    case 0x1c: case 0x25: case 0x26: case 0xd0: case 0xd1: case 0xd2: return refuse(l, WBI_UNSUPPORTED, "reference types");
    case 0xfd: return refuse(l, WBI_UNSUPPORTED, "vector instructions");
    case 0xfe: return refuse(l, WBI_UNSUPPORTED, "atomic instructions");
    case 0x12: case 0x13: return refuse(l, WBI_UNSUPPORTED, "tail calls");
    default: return malformed(l, "illegal opcode");
    }
}
