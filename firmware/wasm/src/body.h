/* Shared by the parts that check function bodies. */
#ifndef WBI_BODY_H
#define WBI_BODY_H

#include "internal.h"

extern const char type_mismatch[];

void pop_types(struct wbi_loader *l, const uint8_t *types, uint32_t count);
void push_types(struct wbi_loader *l, const uint8_t *types, uint32_t count);
/* Puts the topmost operands into their own cells and checks their types; they stay. */
void settle(struct wbi_loader *l, const uint8_t *types, uint32_t count);

/* Parameters or results of a label; what a branch to it carries. */
uint32_t label_types(struct wbi_loader *l, const struct label *label, bool results, const uint8_t **types);
uint32_t branch_types(struct wbi_loader *l, const struct label *label, const uint8_t **types);
void begin_label(struct wbi_loader *l, uint8_t kind, int32_t type);
/* What follows is never reached: the operands become any. */
void unreachable(struct wbi_loader *l);
bool needs_moves(const struct wbi_loader *l, const struct label *label, uint32_t count);
void move_results(struct wbi_loader *l, uint32_t count, uint32_t to_cell_number);
void emit_branch(struct wbi_loader *l, struct label *label);
void emit_return(struct wbi_loader *l);
void end_function(struct wbi_loader *l);

void begin_block(struct wbi_loader *l, uint8_t kind, int64_t code);
void begin_else(struct wbi_loader *l);
void end_block(struct wbi_loader *l);
void branch(struct wbi_loader *l, uint32_t depth);
void branch_if(struct wbi_loader *l, uint32_t depth);
void begin_table(struct wbi_loader *l, uint32_t count);

#endif
