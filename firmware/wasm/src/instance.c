/* Instances and calls from the host. */
#include <string.h>

#include "internal.h"
#include "run.h"

uint32_t object_crc(const uint8_t *header, const uint8_t *object, uint32_t length) {
    static const uint32_t nibbles[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < length; i++) {
        if (i == offsetof(struct wbi_header, crc)) {
            i = (uint32_t)sizeof(struct wbi_header);
            if (i >= length) {
                break;
            }
        }
        crc ^= i < sizeof(struct wbi_header) ? header[i] : object[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}

enum wbi_status wbi_object_check(const uint8_t *object, uint32_t capacity) {
    const struct wbi_header *h = header_of(object);
    if (capacity < sizeof *h || h->commit != WBI_COMMIT || h->magic != WBI_MAGIC || h->abi != WBI_ABI ||
        h->bytes > capacity || h->bytes < sizeof *h ||
        object_crc(object, object, h->bytes) != h->crc) {
        return WBI_BAD_OBJECT;
    }
    return WBI_OK;
}

const uint8_t *wbi_function_type(const uint8_t *object, uint32_t function) {
    const struct wbi_header *h = header_of(object);
    return object_type(object, h, object_u16(object + h->func_types + 2 * function));
}

bool wbi_import_at(const uint8_t *object, uint32_t index, struct wbi_import *import) {
    return object_import(object, header_of(object), index, import);
}

static const struct wbi_global *global_at(const uint8_t *object, uint32_t index) {
    return (const struct wbi_global *)(const void *)(object + header_of(object)->globals) + index;
}

uint16_t wbi_global_type(const uint8_t *object, uint32_t global) {
    const uint8_t type = global_at(object, global)->type;
    return (uint16_t)((type & 3) | ((type & 0x80) != 0 ? 0x100 : 0));
}

uint32_t *wbi_global_cells(const struct wbi_instance *in, uint32_t global) {
    const struct wbi_global *g = global_at(in->object, global);
    return g->init == WBI_INIT_IMPORTED ? (uint32_t *)(uintptr_t)in->imports[g->place]
                                        : in->globals + g->place / 4;
}

/* Refuses the start, at import number `index` if there is one to blame. */
static enum wbi_status fail(struct wbi_instance *in, enum wbi_status status, const char *reason, uint32_t index) {
    in->error.status = (uint8_t)status;
    in->error.reason = reason;
    in->error.function = WBI_NO_FUNCTION;
    in->error.offset = index;
    return status;
}

/* ---- the caller's buffer ---------------------------------------------------------------------------------- */

struct layout {
    uint32_t globals, table, dropped, memory;
};

static uint32_t table_size(const struct wbi_header *h) {
    return (h->flags & WBI_HAS_TABLE) != 0 && (h->flags & WBI_TABLE_IMPORTED) == 0 ? h->table_min : 0;
}

static bool lay_out(const uint8_t *object, struct layout *at) {
    const struct wbi_header *h = header_of(object);
    if (table_size(h) > 0x1000000) {
        return false;
    }
    at->globals = (uint32_t)sizeof(void *) * h->import_count;
    at->table = at->globals + h->global_bytes;
    at->dropped = at->table + 4 * table_size(h);
    at->memory = (at->dropped + ((uint32_t)h->element_count + h->data_count + 7) / 8 + 7) & ~7u;
    return true;
}

static uint64_t memory_bytes(const struct wbi_header *h) {
    const bool own = (h->flags & WBI_HAS_MEMORY) != 0 && (h->flags & WBI_MEMORY_IMPORTED) == 0;
    return own ? (uint64_t)h->memory_min << h->page_log2 : 0;
}

uint32_t wbi_ram_bytes(const uint8_t *object) {
    struct layout at;
    if (!lay_out(object, &at)) {
        return WBI_NONE;
    }
    const uint64_t bytes = at.memory + memory_bytes(header_of(object));
    return bytes > WBI_NONE ? WBI_NONE : (uint32_t)bytes;
}

/* ---- imports ---------------------------------------------------------------------------------------------- */

static bool same_name(const uint8_t *name, uint16_t length, const char *text) {
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] == '\0' || name[i] != (uint8_t)text[i]) {
            return false;
        }
    }
    return text[length] == '\0';
}

static bool signature_fits(const uint8_t *type, const char *signature) {
    static const char letters[] = "iIfF";
    const uint32_t count = (uint32_t)type[2] + type[3];
    for (uint32_t i = 0; i <= count; i++) {
        if (i == type[2] && *signature++ != ':') {
            return false;
        }
        if (i < count && *signature++ != letters[type[4 + i]]) {
            return false;
        }
    }
    return *signature == '\0';
}

static enum wbi_status bind(struct wbi_instance *in, const struct wbi_host_function *host, uint32_t host_count) {
    const struct wbi_header *h = header_of(in->object);
    struct wbi_import import;
    uint32_t function = 0;
    uint32_t other = h->import_funcs;
    for (uint32_t i = 0; object_import(in->object, h, i, &import); i++) {
        const void *found = in->link != NULL ? in->link->find(in->link->context, in, i) : NULL;
        for (uint32_t k = 0; found == NULL && import.kind == 0 && k < host_count; k++) {
            if (same_name(import.module, import.module_bytes, host[k].module) &&
                same_name(import.name, import.name_bytes, host[k].name)) {
                if (!signature_fits(wbi_function_type(in->object, function), host[k].signature)) {
                    return fail(in, WBI_IMPORT_TYPE, "import with another signature", i);
                }
                found = &host[k];
            }
        }
        if (found == NULL) {
            return fail(in, WBI_UNKNOWN_IMPORT, "import not granted", i);
        }
        in->imports[import.kind == 0 ? function : other] = found;
        function += import.kind == 0;
        other += import.kind != 0;
        if (import.kind == 1) {
            in->table = (struct wbi_table *)(uintptr_t)found;
        } else if (import.kind == 2) {
            in->memory = (struct wbi_memory *)(uintptr_t)found;
        }
    }
    return WBI_OK;
}

/* ---- segments --------------------------------------------------------------------------------------------- */

static uint32_t init_value(const struct wbi_instance *in, uint8_t init, uint32_t value) {
    return init == WBI_INIT_GLOBAL ? *wbi_global_cells(in, value) : value;
}

static enum wbi_status place_segments(struct wbi_instance *in, bool data) {
    const struct wbi_header *h = header_of(in->object);
    const uint32_t count = data ? h->data_count : h->element_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct wbi_segment *s = segment_at(in, data, i);
        const uint32_t operand[3] = {init_value(in, s->init, s->offset), 0, s->count};
        if (s->mode == 0) {
            const enum wbi_status status =
                data ? memory_bulk(in, BULK_INIT, i, operand) : table_bulk(in, BULK_INIT, i, operand);
            if (status != WBI_OK) {
                return fail(in, status, "segment does not fit", i);
            }
        }
        if (s->mode != 1) {
            segment_drop(in, i + (data ? h->element_count : 0u));
        }
    }
    return WBI_OK;
}

enum wbi_status wbi_instantiate(struct wbi_instance *in, const uint8_t *object, const struct wbi_buffers *buffers,
                                const struct wbi_host_function *host, uint32_t host_count, const struct wbi_link *link,
                                uint16_t number) {
    const struct wbi_header *h = header_of(object);
    uint8_t *ram = buffers->ram;
    struct layout at;
    memset(in, 0, sizeof *in);
    in->object = object;
    in->link = link;
    in->number = number;
    in->stack = buffers->stack;
    in->stack_end = buffers->stack + buffers->stack_bytes / 4;
    in->error.reason = "";
    if (!lay_out(object, &at) || at.memory + memory_bytes(h) > buffers->ram_bytes) {
        return fail(in, WBI_NO_MEMORY, "RAM too small", WBI_NONE);
    }
    in->imports = (const void **)(void *)ram;
    in->globals = (uint32_t *)(void *)(ram + at.globals);
    in->own_table.entries = (uint32_t *)(void *)(ram + at.table);
    in->own_table.size = table_size(h);
    in->own_table.max = h->table_max;
    in->dropped = ram + at.dropped;
    in->own_memory.data = ram + at.memory;
    in->own_memory.bytes = (uint32_t)memory_bytes(h);
    in->own_memory.capacity = buffers->ram_bytes - at.memory;
    in->own_memory.pages = in->own_memory.bytes >> h->page_log2;
    in->own_memory.max_pages = h->memory_max;
    in->own_memory.page_log2 = h->page_log2;
    in->memory = &in->own_memory;
    in->table = &in->own_table;
    memset(in->dropped, 0, at.memory - at.dropped);
    memset(in->own_table.entries, 0xff, 4 * in->own_table.size);
    memset(in->own_memory.data, 0, in->own_memory.bytes);
    enum wbi_status status = bind(in, host, host_count);
    for (uint32_t i = h->import_globals; status == WBI_OK && i < h->global_count; i++) {
        const struct wbi_global *g = global_at(object, i);
        uint32_t *cells = in->globals + g->place / 4;
        const uint32_t *from = g->init == WBI_INIT_GLOBAL ? wbi_global_cells(in, g->low) : &g->low;
        memcpy(cells, from, 4 * cells_of(g->type));
    }
    if (status == WBI_OK) {
        status = place_segments(in, false);
    }
    return status == WBI_OK ? place_segments(in, true) : status;
}

/* ---- exports ---------------------------------------------------------------------------------------------- */

bool wbi_find_export(const uint8_t *object, const char *name, uint32_t length, uint8_t *kind, uint32_t *index) {
    const struct wbi_header *h = header_of(object);
    const uint8_t *at = object + h->exports;
    for (uint32_t i = 0; i < h->export_count; i++) {
        const uint32_t bytes = object_u16(at);
        if (bytes == length && memcmp(at + 2, name, length) == 0) {
            *kind = at[2 + bytes];
            *index = object_u16(at + 3 + bytes);
            return true;
        }
        at += 5 + bytes;
    }
    return false;
}

bool wbi_find_function(const struct wbi_instance *in, const char *name, uint32_t length, uint32_t *function) {
    uint8_t kind;
    return wbi_find_export(in->object, name, length, &kind, function) && kind == 0;
}

uint8_t *wbi_guest(const struct wbi_instance *in, uint32_t address, uint32_t length) {
    const struct wbi_memory *m = in->memory;
    return address <= m->bytes && length <= m->bytes - address ? m->data + address : NULL;
}

/* ---- calls ------------------------------------------------------------------------------------------------ */

static uint32_t type_cells(const uint8_t *types, uint32_t count) {
    uint32_t cells = 0;
    for (uint32_t i = 0; i < count; i++) {
        cells += cells_of(types[i]);
    }
    return cells;
}

/* Cells that a call of this type takes at the start of its frame. */
static uint32_t call_cells(const uint8_t *type) {
    const uint32_t params = type_cells(type + 4, type[2]);
    const uint32_t results = type_cells(type + 4 + type[2], type[3]);
    return params > results ? params : results;
}

enum wbi_status wbi_invoke(struct wbi_instance *in, uint32_t function, const uint64_t *arguments, uint32_t count) {
    const struct wbi_header *h = header_of(in->object);
    uint32_t *const outer = in->host_cells;
    const uint16_t outer_type = in->host_type;
    in->error.status = WBI_OK;
    if (function >= h->func_count || count != wbi_function_type(in->object, function)[2]) {
        return fail(in, WBI_BAD_CALL, "no such call", WBI_NONE);
    }
    const uint8_t *type = wbi_function_type(in->object, function);
    uint32_t *base = outer == NULL ? in->stack : outer + call_cells(wbi_function_type(in->object, outer_type));
    const uint32_t room = (uint32_t)(in->stack_end - base);
    const uint32_t code_offset = object_u32(in->object + h->func_code + 4 * function);
    const uint16_t *code = (const uint16_t *)(const void *)(in->object + code_offset);
    const uint32_t needed = function < h->import_funcs ? call_cells(type) : code[WBI_CODE_FRAME] / 4u;
    if (needed > room) {
        fail(in, WBI_TRAP_STACK, wbi_status_name(WBI_TRAP_STACK), 0);
        in->error.function = function;
        return WBI_TRAP_STACK;
    }
    uint32_t *cell = base;
    for (uint32_t i = 0; i < count; i++) {
        *cell++ = (uint32_t)arguments[i];
        if ((type[4 + i] & 1) != 0) {
            *cell++ = (uint32_t)(arguments[i] >> 32);
        }
    }
    enum wbi_status status;
    in->resume_frame = (uint8_t *)base;
    if (function < h->import_funcs) {
        const struct wbi_host_function *import = in->imports[function];
        in->host_cells = base;
        in->host_type = (uint16_t)function;
        status = import->call(in, import->context, base);
        in->resume_frame = (uint8_t *)base;
    } else {
        cell = base + code[WBI_CODE_LINK] / 4u;
        *cell = pack_return(in->object, h->exit_code);
        memset(cell + 1, 0, code[WBI_CODE_ZERO]);
        in->resume_at = code;
        in->debt = 0;
        in->host_cells = NULL;
        status = run_code(in);
    }
    in->host_cells = outer;
    in->host_type = outer_type;
    return status;
}

enum wbi_status wbi_resume(struct wbi_instance *in) {
    if (in->resume_at == NULL) {
        return fail(in, WBI_BAD_CALL, "nothing to resume", WBI_NONE);
    }
    return run_code(in);
}

enum wbi_status wbi_start(struct wbi_instance *in) {
    const struct wbi_header *h = header_of(in->object);
    return h->start == WBI_NONE ? WBI_OK : wbi_invoke(in, h->start, NULL, 0);
}

uint64_t wbi_result(const struct wbi_instance *in, uint32_t function, uint32_t index) {
    const uint8_t *type = wbi_function_type(in->object, function);
    const uint8_t *results = type + 4 + type[2];
    const uint32_t *cell = (const uint32_t *)(const void *)in->resume_frame + type_cells(results, index);
    return (results[index] & 1) != 0 ? cell[0] | (uint64_t)cell[1] << 32 : cell[0];
}

void wbi_set_fuel(struct wbi_instance *in, uint32_t fuel) {
    in->expired = 0;
    in->fuel = fuel;
}

void wbi_expire(struct wbi_instance *in) {
    in->expired = 1;
    in->fuel = 0;
}
