/* Blocks, branches and tables of branches: their types, and where they lead. */
#include <string.h>

#include "body.h"

void begin_block(struct wbi_loader *l, uint8_t kind, int64_t code) {
    int32_t type = (int32_t)code;
    struct value condition = {{T_I32, IN_CELL, 0}, 0};
    const uint8_t *types;
    if (code < 0) {
        if (code == -64) {
            type = -1;
        } else if (code >= -4) {
            type = (int32_t)(-1 + code); /* -1 is i32 */
        } else {
            code == -5 || code == -16 || code == -17 ? refuse(l, WBI_UNSUPPORTED, "reference types")
                                                           : malformed(l, "malformed block type");
        }
    } else if (code >= l->header.type_count) {
        invalid(l, "unknown type");
    }
    if (kind == LABEL_IF) {
        pop(l, T_I32, &condition);
    }
    const struct label probe = {.type = type};
    const uint32_t params = label_types(l, &probe, false, &types);
    spill(l, 0, true);
    settle(l, types, params);
    l->body.operands = (uint16_t)(l->body.operands - params);
    uint32_t cells = 0;
    for (uint32_t i = 0; i < params; i++) {
        cells += cells_of(types[i]);
    }
    l->body.cells = (uint16_t)(l->body.cells - cells);
    if (kind == LABEL_IF) {
        compare_branch(l, &condition, false);
    }
    begin_label(l, kind, type);
    struct label *label = label_at(l, 0);
    if (kind == LABEL_IF) {
        branch_to(l, label);
        label->other = label->chain;
        label->chain = 0;
    } else if (kind == LABEL_LOOP) {
        emit_flush(l);
        label->other = (uint16_t)code_at(l);
    }
    push_types(l, types, params);
}

static void close_results(struct wbi_loader *l, struct label *label) {
    const uint8_t *types;
    const uint32_t count = label_types(l, label, true, &types);
    settle(l, types, count);
    pop_types(l, types, count);
    if (l->body.operands != label->height) {
        invalid(l, type_mismatch);
    }
}

void begin_else(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    const uint8_t *types;
    if (label->kind != LABEL_IF) {
        malformed(l, "else without if");
    }
    close_results(l, label);
    emit_branch(l, label);
    branch_resolve(l, label->other);
    label->kind = LABEL_ELSE;
    label->dead = false;
    label->other = 0;
    l->body.dead = label->dead_before;
    l->body.cells = label->cells;
    const uint32_t params = label_types(l, label, false, &types);
    push_types(l, types, params);
}

void end_block(struct wbi_loader *l) {
    struct label *label = label_at(l, 0);
    const uint8_t *types;
    if (label->kind == LABEL_FUNCTION) {
        if (label->chain != 0) {
            close_results(l, label);
            branch_resolve(l, label->chain);
            label->dead = false;
            l->body.dead = false;
            const uint32_t results = label_types(l, label, true, &types);
            push_types(l, types, results);
        }
        emit_return(l);
        if (l->body.operands != 0) {
            invalid(l, type_mismatch);
        }
        l->body.labels = 0;
        end_function(l);
        return;
    }
    close_results(l, label);
    if (label->kind == LABEL_IF) {
        const uint8_t *params;
        const uint32_t inputs = label_types(l, label, false, &params);
        const uint32_t outputs = label_types(l, label, true, &types);
        if (inputs != outputs || memcmp(params, types, inputs) != 0) {
            invalid(l, type_mismatch);
        }
    }
    branch_resolve(l, label->kind == LABEL_LOOP ? 0 : label->chain);
    if (label->kind == LABEL_IF) {
        branch_resolve(l, label->other);
    }
    const uint32_t results = label_types(l, label, true, &types);
    l->body.dead = label->dead_before;
    l->body.cells = label->cells;
    l->body.labels--;
    push_types(l, types, results);
}

void branch(struct wbi_loader *l, uint32_t depth) {
    const uint8_t *types;
    if (depth >= l->body.labels) {
        invalid(l, "unknown label");
    }
    struct label *label = label_at(l, depth);
    const uint32_t count = branch_types(l, label, &types);
    if (label->kind == LABEL_FUNCTION) {
        emit_return(l);
        unreachable(l);
        return;
    }
    settle(l, types, count);
    if (needs_moves(l, label, count)) {
        move_results(l, count, label->cells);
    }
    emit_branch(l, label);
    unreachable(l);
}

void branch_if(struct wbi_loader *l, uint32_t depth) {
    const uint8_t *types;
    struct value condition;
    if (depth >= l->body.labels) {
        invalid(l, "unknown label");
    }
    struct label *label = label_at(l, depth);
    const uint32_t count = branch_types(l, label, &types);
    pop(l, T_I32, &condition);
    settle(l, types, count);
    if (!needs_moves(l, label, count)) {
        compare_branch(l, &condition, true);
        branch_to(l, label);
        return;
    }
    struct label over = {.kind = LABEL_BLOCK};
    compare_branch(l, &condition, false);
    branch_to(l, &over);
    move_results(l, count, label->cells);
    emit_branch(l, label);
    branch_resolve(l, over.chain);
}

void begin_table(struct wbi_loader *l, uint32_t count) {
    struct wbi_body *b = &l->body;
    struct value index;
    if (count > 0x7ffe) {
        count > l->size_left ? malformed(l, "unexpected end")
                                    : refuse(l, WBI_LIMIT, "function too large");
    }
    pop(l, T_I32, &index);
    b->entries_at = to_cell(l, &index);
    b->entries_left = (uint16_t)(count + 1);
    memset(b->depths, 0, sizeof b->depths);
    l->sub_left = count;
    l->state = ST_TABLE_ENTRIES;
}

static void table_half(struct wbi_loader *l, uint32_t value) {
    if (l->body.dead) {
        return;
    }
    if (l->out - l->body.code + 2 > l->limits.function_bytes) {
        refuse(l, WBI_LIMIT, "function too large");
    }
    out_u16(l, value);
}

/* A directory of the depths in use, filled in like branches; those that must move results first get a stub. */
static void end_table(struct wbi_loader *l, uint32_t count) {
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
        table_half(l, target);
        table_half(l, link);
    }
    for (uint32_t depth = 0; depth <= last && !b->dead; depth++) {
        struct label *label = label_at(l, depth);
        if ((b->depths[depth / 8] >> (depth % 8) & 1) == 0 || !needs_moves(l, label, count)) {
            continue;
        }
        branch_resolve(l, directory + 2 * depth);
        move_results(l, count, label->cells);
        emit_branch(l, label);
    }
    unreachable(l);
}

void body_table_entry(struct wbi_loader *l, uint32_t depth) {
    struct wbi_body *b = &l->body;
    const uint8_t *types;
    if (depth >= b->labels) {
        invalid(l, "unknown label");
    }
    if (depth > 255) {
        refuse(l, WBI_LIMIT, "too many labels");
    }
    const uint32_t count = branch_types(l, label_at(l, depth), &types);
    const bool first = b->entries_left == l->sub_left + 1;
    if (first) {
        b->results_at = (uint16_t)count;
        spill(l, b->operands > count ? b->operands - count : 0, false);
        emit(l, OP_BR_TABLE);
        emit_field(l, b->entries_at);
        emit_field(l, l->sub_left);
        emit_flush(l);
    } else if (b->results_at != count) {
        invalid(l, type_mismatch);
    }
    /* What is popped in unreachable code is any type, so operands are put back as they were. */
    const uint16_t operands = b->operands;
    const uint16_t cells = b->cells;
    pop_types(l, types, count);
    b->operands = operands;
    b->cells = cells;
    b->depths[depth / 8] = (uint8_t)(b->depths[depth / 8] | 1u << (depth % 8));
    table_half(l, depth);
    if (--b->entries_left == 0) {
        l->state = ST_CODE;
        end_table(l, count);
        return;
    }
}
