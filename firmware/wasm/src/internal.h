/* Shared by the parts of the loader. */
#ifndef WBI_INTERNAL_H
#define WBI_INTERNAL_H

#include "ops.h"
#include "wbi.h"

/* Value types of the object and the checker. */
enum { T_I32, T_I64, T_F32, T_F64, T_ANY };

static inline uint32_t cells_of(uint8_t type) { return 1u + (type & 1u); }

/* ---- input: one item at a time ---------------------------------------------------------------------------- */

/* A read beyond the bytes at hand, and a refusal, leave by __builtin_longjmp to wbi_load_feed: an item is read
 * whole before it has any effect. */

uint8_t read_u8(struct wbi_loader *l);
uint32_t read_u32(struct wbi_loader *l);
int32_t read_s32(struct wbi_loader *l);
int64_t read_s64(struct wbi_loader *l);
/* A block type: signed 33 bits. */
int64_t read_s33(struct wbi_loader *l);
uint64_t read_u64(struct wbi_loader *l);
uint32_t read_f32(struct wbi_loader *l);
uint64_t read_f64(struct wbi_loader *l);

/* ---- output: append to the object, fill reserved places later --------------------------------------------- */

void out_bytes(struct wbi_loader *l, const void *data, uint32_t length);
void out_u16(struct wbi_loader *l, uint32_t value);
void out_reserve(struct wbi_loader *l, uint32_t length);
void out_align(struct wbi_loader *l, uint32_t alignment);
void out_flush(struct wbi_loader *l);
void out_patch(struct wbi_loader *l, uint32_t offset, const void *data, uint32_t length);
void out_patch_u16(struct wbi_loader *l, uint32_t offset, uint32_t value);
void out_patch_u32(struct wbi_loader *l, uint32_t offset, uint32_t value);

extern const char flash_full[];

/* ---- refusals --------------------------------------------------------------------------------------------- */

/* Records the first refusal. */
void note(struct wbi_loader *l, enum wbi_status status, const char *reason);
/* Records a refusal and leaves the load. */
_Noreturn void refuse(struct wbi_loader *l, enum wbi_status status, const char *reason);
_Noreturn static inline void malformed(struct wbi_loader *l, const char *why) { refuse(l, WBI_MALFORMED, why); }
_Noreturn static inline void invalid(struct wbi_loader *l, const char *why) { refuse(l, WBI_INVALID, why); }

/* ---- sections --------------------------------------------------------------------------------------------- */

enum load_state {
    ST_MAGIC, ST_SECTION, ST_SKIP, ST_STREAM, ST_CUSTOM, ST_CUSTOM_END, ST_COUNT,
    ST_TYPE, ST_TYPE_PARAM, ST_TYPE_RESULTS, ST_TYPE_RESULT, ST_IMPORT, ST_IMPORT_NAME, ST_IMPORT_FIELD, ST_IMPORT_KIND,
    ST_FUNCTION, ST_TABLE, ST_MEMORY, ST_GLOBAL, ST_EXPORT, ST_EXPORT_KIND, ST_START, ST_ELEMENT, ST_ELEMENT_COUNT,
    ST_ELEMENT_ITEM, ST_DATA_COUNT, ST_DATA, ST_DATA_BYTES, ST_BODY, ST_LOCALS, ST_CODE, ST_TABLE_ENTRIES,
    ST_ITEM_DONE,
};

enum { SECTION_TYPE = 1, SECTION_IMPORT, SECTION_FUNCTION, SECTION_TABLE, SECTION_MEMORY, SECTION_GLOBAL, SECTION_EXPORT,
       SECTION_START, SECTION_ELEMENT, SECTION_CODE, SECTION_DATA, SECTION_DATA_COUNT };

/* Handles one item. */
void section_item(struct wbi_loader *l);
void section_begin(struct wbi_loader *l, uint32_t count);
/* Makes the function and global tables, even of modules without such sections. */
void make_index_spaces(struct wbi_loader *l, uint8_t order);

/* One entry of the section is complete. */
void next_item(struct wbi_loader *l, uint8_t state);
/* A constant expression of this type. Reads up to its end. */
void const_expression(struct wbi_loader *l, uint8_t type, struct wbi_global *g);
void element_item(struct wbi_loader *l);
void element_value(struct wbi_loader *l);
void data_item(struct wbi_loader *l);

/* Reads of what is already in flash. */
const uint8_t *object_type(const uint8_t *base, const struct wbi_header *h, uint32_t type);
uint16_t object_u16(const uint8_t *at);
uint32_t object_u32(const uint8_t *at);
bool object_import(const uint8_t *base, const struct wbi_header *h, uint32_t index, struct wbi_import *import);
/* The checksum of an object of this length whose header is here. */
uint32_t object_crc(const uint8_t *header, const uint8_t *object, uint32_t length);

/* ---- function bodies -------------------------------------------------------------------------------------- */

void body_begin(struct wbi_loader *l, uint32_t size);
void body_locals(struct wbi_loader *l, uint32_t count, uint8_t type);
void body_start(struct wbi_loader *l);
void body_instruction(struct wbi_loader *l);
void body_table_entry(struct wbi_loader *l, uint32_t depth);

/* The operand stack of the checker. A value is in its own cell, still in a local, or a constant not yet written. */
enum { IN_CELL, IN_LOCAL, IN_CONST };
struct operand {
    uint8_t type, where;
    uint16_t value; /* the local's cell, or the constant */
};
struct value {
    struct operand op;
    uint16_t own; /* byte offset of the operand's own cell */
};

enum { LABEL_BLOCK, LABEL_LOOP, LABEL_IF, LABEL_ELSE, LABEL_FUNCTION };
struct label {
    int32_t type;    /* block type: -1 empty, -2-t one result, else a type index */
    uint16_t height; /* operands below */
    uint16_t cells;
    uint16_t chain;  /* last branch to here, in halfwords from the start of the code; 0 none */
    uint16_t other;  /* where a loop starts, or the branch to else */
    uint8_t kind;
    bool dead, dead_before;
};

struct operand *operand_at(struct wbi_loader *l, uint32_t index);
struct label *label_at(struct wbi_loader *l, uint32_t depth);

void push(struct wbi_loader *l, uint8_t type);
void push_in(struct wbi_loader *l, uint8_t type, uint8_t where, uint32_t value);
void pop(struct wbi_loader *l, uint8_t type, struct value *v);
/* Byte offset of the next free operand cell. */
static inline uint16_t top_cell(const struct wbi_loader *l) { return (uint16_t)(l->body.cells * 4u); }

/* ---- emitting --------------------------------------------------------------------------------------------- */

/* In place of a distance to the form for the accumulator: there is no other. */
#define ACC_ONLY 0xffu

/* Starts a new instruction; the one before is written out. */
void emit(struct wbi_loader *l, uint32_t op);
void emit_dst(struct wbi_loader *l, uint16_t dst, uint32_t acc_delta);
void emit_field(struct wbi_loader *l, uint32_t field);
/* The byte offset of the instruction in the function, for traps. */
void emit_where(struct wbi_loader *l);
void emit_flush(struct wbi_loader *l);
void emit_const(struct wbi_loader *l, uint16_t dst, uint8_t type, uint64_t bits);
void emit_copy(struct wbi_loader *l, uint16_t dst, uint16_t src, uint8_t type);
/* Position in the function's code, in halfwords; nothing may be pending. */
uint32_t code_at(const struct wbi_loader *l);
/* True when the value is the result of the pending instruction and may stay in the accumulator. */
bool in_acc(const struct wbi_loader *l, const struct value *v);
void keep_in_acc(struct wbi_loader *l);
/* Gives the cell that holds a value, writing constants to the value's own cell. */
uint16_t to_cell(struct wbi_loader *l, struct value *v);
/* Moves every operand from `from` up to its own cell. locals_only leaves constants as they are. */
void spill(struct wbi_loader *l, uint32_t from, bool locals_only);
/* Moves a value to a cell, by giving the pending instruction another destination where that is possible. */
void move_to(struct wbi_loader *l, struct value *v, uint16_t dst, bool is_local);
/* A branch to `chain`, filled in later; writes op, its fields and links it. */
void branch_to(struct wbi_loader *l, struct label *label);
void branch_resolve(struct wbi_loader *l, uint32_t chain);

/* Numeric instructions 0x45 to 0xc4; loads and stores 0x28 to 0x3e; those after 0xfc. */
void simple_instruction(struct wbi_loader *l, uint8_t opcode);
void memory_access(struct wbi_loader *l, uint8_t opcode);
void prefixed_instruction(struct wbi_loader *l);
void compare_branch(struct wbi_loader *l, struct value *condition, bool when);

#endif
