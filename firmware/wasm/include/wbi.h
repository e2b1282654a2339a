/* The WebAssembly interpreter of Wasmbed's microcontrollers.
 *
 * A module is validated and translated once, while it streams in, into one object in flash (wbi_load_*).
 * A start (wbi_instantiate) checks that object and validates nothing again. What runs lives in buffers that
 * the caller gives: nothing is allocated, no function recurses, every access of the guest is bounds-checked.
 *
 * Language: WebAssembly 1.0 with sign extension, saturating conversions, multi-value, mutable globals,
 * bulk memory operations and custom page sizes.
 */
#ifndef WBI_H
#define WBI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Number of the object format; an object of another number must be loaded again. */
#define WBI_ABI 1u
#define WBI_DIGEST_BYTES 32u
/* Fuel is handed to the loop in pieces of this size: how late a zeroed fuel is noticed, in bytes of code. */
#define WBI_FUEL_PIECE 2048u

enum wbi_status {
    WBI_OK = 0,
    /* The call stopped and can go on with wbi_resume. */
    WBI_OUT_OF_FUEL,
    WBI_TIMED_OUT,
    /* Refusals of a module. */
    WBI_MALFORMED,
    WBI_INVALID,
    WBI_UNSUPPORTED,
    WBI_LIMIT,
    WBI_FLASH_FULL,
    WBI_FLASH_FAILED,
    WBI_BAD_OBJECT,
    WBI_UNKNOWN_IMPORT,
    WBI_IMPORT_TYPE,
    WBI_NO_MEMORY,
    WBI_BAD_CALL,
    /* Traps: the call is over. */
    WBI_TRAP_UNREACHABLE,
    WBI_TRAP_MEMORY,
    WBI_TRAP_DIVIDE,
    WBI_TRAP_OVERFLOW,
    WBI_TRAP_CONVERSION,
    WBI_TRAP_TABLE,
    WBI_TRAP_NULL,
    WBI_TRAP_SIGNATURE,
    WBI_TRAP_STACK,
    WBI_TRAP_HOST,
    WBI_STATUS_COUNT
};

/* Why a module was refused or a call ended. */
struct wbi_error {
    uint8_t status;      /* enum wbi_status */
    const char *reason;  /* what is wrong, for people; never null */
    uint32_t function;   /* index of the function, or WBI_NO_FUNCTION */
    uint32_t offset;     /* byte in the module */
};
#define WBI_NO_FUNCTION 0xffffffffu

/* The name of a status, such as "out of bounds memory access". */
const char *wbi_status_name(enum wbi_status status);

/* ---- loading ---------------------------------------------------------------------------------------------- */

/* Memory-mapped flash that was erased to 0xff. program() only turns ones into zeroes, in ascending order but for
 * tables and branches that are filled in later; bytes of 0xff leave the flash as it is. */
struct wbi_flash {
    void *context;
    const uint8_t *base; /* aligned to 4 bytes */
    uint32_t capacity;
    bool (*program)(void *context, uint32_t offset, const uint8_t *data, uint32_t length);
};

struct wbi_load_limits {
    uint32_t function_bytes; /* translated bytes of one function: the longest straight run; 0 means 65,534 */
    uint32_t memory_bytes;   /* greatest minimum of the linear memory; 0 means no limit */
    uint32_t stack_bytes;    /* greatest frame of one function; 0 means 65,532 */
};

#define WBI_CARRY_BYTES 32u
#define WBI_PAGE_BYTES 128u

#include "wbi_object.h"

struct wbi_instruction {
    uint16_t op;
    uint16_t dst;
    uint16_t field[7];
    uint8_t fields;
    uint8_t acc_delta;
    bool has_dst;
    bool valid;
};

struct wbi_body {
    uint32_t index, start, end, code, locals;
    uint16_t results_at, link, cells, max_cells, operands, labels, zero_cells, runs;
    uint16_t entries_left, entries_at;
    struct wbi_instruction pending;
    const uint8_t *type;
    bool dead;
    uint8_t depths[32];
};

/* State of a load; its size and the scratch are all the RAM a load needs. Private, except that it can be copied
 * nowhere while a load runs. */
struct wbi_loader {
    struct wbi_flash flash;
    struct wbi_load_limits limits;
    struct wbi_error error;
    void *escape[5]; /* where a refusal or the end of the bytes at hand leads */
    const uint8_t *at, *end;
    uint8_t *scratch;
    uint32_t scratch_bytes;
    uint32_t pos, section_end, body_bytes;
    uint32_t left, sub_left, stream_left, item, size_left;
    uint32_t out, flushed;
    uint32_t utf8_code;
    uint16_t bodies;
    uint16_t data_count;
    uint8_t state, stream_next, section, order, utf8_left, utf8_first, elem_flags, page_used, carry_used;
    bool limited; /* the bytes at hand end with the section or function */
    bool has_data_count, stream_text, seen_functions, seen_globals;
    uint8_t carry[WBI_CARRY_BYTES];
    uint8_t page[WBI_PAGE_BYTES];
    struct wbi_header header;
    struct wbi_body body;
};

/* Starts a load. scratch (aligned to 4 bytes) holds the operand and control stack of the function being checked;
 * 512 bytes are enough for what C compilers emit. */
enum wbi_status wbi_load_begin(struct wbi_loader *loader, const struct wbi_flash *flash, void *scratch,
                               uint32_t scratch_bytes, const struct wbi_load_limits *limits);
/* Takes the next bytes of the module, split anywhere. After a refusal every later call gives the same refusal. */
enum wbi_status wbi_load_feed(struct wbi_loader *loader, const uint8_t *data, size_t length);
/* Ends the load: the commit word is the last thing programmed. digest: of the module, made by who received it. */
enum wbi_status wbi_load_finish(struct wbi_loader *loader, const uint8_t digest[WBI_DIGEST_BYTES]);
/* Length of the finished object. */
uint32_t wbi_load_bytes(const struct wbi_loader *loader);

/* Checks a stored object: magic, format number, commit word, length and checksum. */
enum wbi_status wbi_object_check(const uint8_t *object, uint32_t capacity);

/* ---- running ---------------------------------------------------------------------------------------------- */

struct wbi_instance;

/* A function of the host. Arguments lie in cells in order (64-bit values in two, low word first); results are
 * written there from the start. Anything but WBI_OK ends the guest's call with that status. */
typedef enum wbi_status (*wbi_host_call)(struct wbi_instance *instance, void *context, uint32_t *cells);

struct wbi_host_function {
    const char *module;
    const char *name;
    const char *signature; /* parameters, ':' and results in the letters i I f F: "iiI:i" */
    wbi_host_call call;
    void *context;
};

struct wbi_memory {
    uint8_t *data;
    uint32_t bytes;    /* size now */
    uint32_t capacity; /* bytes it can grow to in this buffer */
    uint32_t pages, max_pages;
    uint8_t page_log2;
};

/* An entry of a table: function index in the low half, number of its instance in the high half. */
#define WBI_NULL_REF 0xffffffffu
struct wbi_table {
    uint32_t *entries;
    uint32_t size, max;
};

/* Values for imports that are not plain host functions; the spec runner uses it, firmware does not. */
struct wbi_link {
    void *context;
    /* Gives the host function, memory, table or global cells for import number `index`; null refuses it. */
    const void *(*find)(void *context, const struct wbi_instance *instance, uint32_t index);
    /* Calls a function of another instance that a shared table holds. */
    enum wbi_status (*foreign)(void *context, uint32_t entry, const uint8_t *type, uint32_t *cells);
};

struct wbi_instance {
    const uint8_t *object;
    struct wbi_memory *memory;
    struct wbi_table *table;
    uint32_t *globals;
    const void **imports; /* one pointer for each import, functions first */
    uint8_t *dropped;     /* a bit for each element and data segment */
    uint32_t *stack, *stack_end;
    uint32_t *host_cells; /* while a host function runs: its arguments */
    uint8_t *resume_frame;
    const uint16_t *resume_at;
    const struct wbi_link *link;
    volatile uint32_t fuel;
    uint32_t debt;
    volatile uint8_t expired;
    uint16_t host_type;   /* and its function index */
    uint16_t number;
    struct wbi_error error;
    struct wbi_memory own_memory;
    struct wbi_table own_table;
};

struct wbi_buffers {
    void *ram;           /* globals, table, import pointers, then the linear memory; aligned to 8 bytes */
    uint32_t ram_bytes;
    uint32_t *stack;     /* values, frames and call stack */
    uint32_t stack_bytes;
};

/* RAM an instance of this object needs at least, without stack. */
uint32_t wbi_ram_bytes(const uint8_t *object);
/* Makes an instance: binds imports by name and signature, fills memory and table, does not call the start function.
 * The object must have passed wbi_object_check. number: tells instances apart that share a table, else 0. */
enum wbi_status wbi_instantiate(struct wbi_instance *instance, const uint8_t *object, const struct wbi_buffers *buffers,
                                const struct wbi_host_function *host, uint32_t host_count, const struct wbi_link *link,
                                uint16_t number);
/* Calls the start function if there is one. */
enum wbi_status wbi_start(struct wbi_instance *instance);

/* Finds an exported function; false when there is none of that name. */
bool wbi_find_function(const struct wbi_instance *instance, const char *name, uint32_t length, uint32_t *function);
/* Finds an export of any kind (0 function, 1 table, 2 memory, 3 global). */
bool wbi_find_export(const uint8_t *object, const char *name, uint32_t length, uint8_t *kind, uint32_t *index);

/* Calls a function with 64-bit argument words (low 32 bits for i32 and f32). Results: wbi_result. */
enum wbi_status wbi_invoke(struct wbi_instance *instance, uint32_t function, const uint64_t *arguments, uint32_t count);
/* Goes on after WBI_OUT_OF_FUEL or WBI_TIMED_OUT, once there is fuel again. */
enum wbi_status wbi_resume(struct wbi_instance *instance);
/* Result number `index` of the call that just ended with WBI_OK, of a function of this type. */
uint64_t wbi_result(const struct wbi_instance *instance, uint32_t function, uint32_t index);

/* Sets the fuel and clears an earlier time-out. One unit is one byte of translated code that was passed over. */
void wbi_set_fuel(struct wbi_instance *instance, uint32_t fuel);
/* Ends the running call with WBI_TIMED_OUT; may be called from an interrupt. */
void wbi_expire(struct wbi_instance *instance);

/* The bytes [address, address + length) of the guest's memory, or null when not all of them exist. */
uint8_t *wbi_guest(const struct wbi_instance *instance, uint32_t address, uint32_t length);

/* Type record of a function: {u16 canonical index, u8 parameters, u8 results, the types}. */
const uint8_t *wbi_function_type(const uint8_t *object, uint32_t function);

/* An import as the object has it. */
struct wbi_import {
    const uint8_t *module, *name;
    uint16_t module_bytes, name_bytes;
    uint8_t kind;
    uint16_t type; /* of a function: type index; of a global: value type | mutable << 8 */
    uint32_t min, max;
    uint8_t page_log2;
};
bool wbi_import_at(const uint8_t *object, uint32_t index, struct wbi_import *import);
/* The value type (0..3) and mutability of a global. */
uint16_t wbi_global_type(const uint8_t *object, uint32_t global);
/* The cells of a global. */
uint32_t *wbi_global_cells(const struct wbi_instance *instance, uint32_t global);

#endif
