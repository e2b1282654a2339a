/* The object in flash: header, then tables and code at offsets from its start. Little endian, 4-byte aligned. */
#ifndef WBI_OBJECT_H
#define WBI_OBJECT_H

#include <stdint.h>

#define WBI_MAGIC 0x31494257u  /* "WBI1" */
#define WBI_COMMIT 0x5ac3700du
#define WBI_NONE 0xffffffffu

enum wbi_header_flags {
    WBI_HAS_TABLE = 1,
    WBI_HAS_MEMORY = 2,
    WBI_TABLE_IMPORTED = 4,
    WBI_MEMORY_IMPORTED = 8,
};

struct wbi_header {
    uint32_t magic;
    uint16_t abi;
    uint16_t flags;
    uint8_t digest[32];
    uint32_t bytes;
    uint32_t types;        /* u32 each: offset of a type record */
    uint32_t func_types;   /* u16 each: type index */
    uint32_t func_code;    /* u32 each: offset of the code, 0 for imports */
    uint32_t imports;      /* records, one after the other */
    uint32_t globals;      /* struct wbi_global each */
    uint32_t exports;      /* records */
    uint32_t elements;     /* u32 each: offset of a struct wbi_segment */
    uint32_t datas;        /* u32 each */
    uint32_t table_min, table_max;
    uint32_t memory_min, memory_max; /* pages */
    uint32_t start;        /* function index or WBI_NONE */
    uint16_t type_count, func_count, import_count, import_funcs;
    uint16_t global_count, import_globals, export_count, element_count;
    uint16_t data_count, global_bytes;
    uint8_t page_log2;
    uint8_t reserved;
    uint16_t exit_delta;   /* 0: what a return from the outermost frame subtracts */
    uint16_t exit_code[2]; /* the instruction it returns to */
    uint32_t crc;          /* CRC-32 of the header up to here and of what follows the header */
    uint32_t commit;
};

struct wbi_global {
    uint8_t type;    /* 0 i32, 1 i64, 2 f32, 3 f64; bit 7: mutable */
    uint8_t init;    /* enum wbi_init */
    uint16_t place;  /* byte in the globals' cells, or number of the import */
    uint32_t low, high;
};

enum wbi_init { WBI_INIT_CONST = 0, WBI_INIT_GLOBAL = 1, WBI_INIT_IMPORTED = 2 };

struct wbi_segment {
    uint8_t mode;    /* 0 active, 1 passive, 2 declarative */
    uint8_t init;
    uint16_t reserved;
    uint32_t offset; /* constant or global index */
    uint32_t count;  /* bytes, or function indices of u16 (0xffff is null) */
};

/* Before each function's code, as halfwords counted back from it. */
enum { WBI_CODE_LINK = -1, WBI_CODE_ZERO = -2, WBI_CODE_FRAME = -3, WBI_CODE_BODY_HIGH = -4, WBI_CODE_BODY_LOW = -5 };
#define WBI_CODE_HEADER 10u

#endif
