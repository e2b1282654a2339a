#include "store.h"

#include <string.h>

#include "../platform/platform.h"

#define ENTRIES 320
#define STACK_CELLS 16384u
#define SPECTEST_STACK 64u

static uint8_t *arena;
static uint32_t arena_bytes, used, mark;
static struct entry entries[ENTRIES];
static uint32_t count;
static struct entry *last;
static char absent[8][64];
static uint32_t absent_count;
static bool missed;
static uint32_t depth;
static uint32_t stack[4][STACK_CELLS];

/* ---- flash in RAM, with the rules of NOR ------------------------------------------------------------------ */

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    uint8_t *flash = (uint8_t *)context + offset;
    for (uint32_t i = 0; i < length; i++) {
        if ((flash[i] & data[i]) != data[i]) {
            say("a programmed place was programmed again\n");
            platform_exit(3);
        }
        flash[i] = (uint8_t)(flash[i] & data[i]);
    }
    return true;
}

/* ---- the suite's host module ------------------------------------------------------------------------------ */

static enum wbi_status print(struct wbi_instance *in, void *context, uint32_t *cells) {
    (void)in;
    (void)context;
    (void)cells;
    return WBI_OK;
}
static const struct wbi_host_function spectest[] = {
    {"spectest", "print", ":", print, NULL},           {"spectest", "print_i32", "i:", print, NULL},
    {"spectest", "print_i64", "I:", print, NULL},      {"spectest", "print_f32", "f:", print, NULL},
    {"spectest", "print_f64", "F:", print, NULL},      {"spectest", "print_i32_f32", "if:", print, NULL},
    {"spectest", "print_f64_f64", "FF:", print, NULL},
};
static const struct {
    const char *name;
    uint16_t type;
    uint32_t cells[2];
} spectest_globals[] = {
    {"global_i32", 0, {666, 0}},
    {"global_i64", 1, {666, 0}},
    {"global_f32", 2, {0x4426a666, 0}},
    {"global_f64", 3, {0xcccccccd, 0x4084d4cc}},
};
static struct wbi_memory spectest_memory;
static struct wbi_table spectest_table;
static uint32_t spectest_entries[10];

/* ---- calls between instances ------------------------------------------------------------------------------ */

struct bridge {
    struct wbi_instance *instance;
    uint32_t function;
};

static enum wbi_status cross(struct wbi_instance *to, uint32_t function, uint32_t *cells) {
    const uint8_t *type = wbi_function_type(to->object, function);
    uint64_t arguments[64];
    uint32_t *cell = cells;
    for (uint32_t i = 0; i < type[2]; i++) {
        arguments[i] = *cell++;
        if ((type[4 + i] & 1) != 0) {
            arguments[i] |= (uint64_t)*cell++ << 32;
        }
    }
    if (depth == 3) {
        return WBI_TRAP_STACK;
    }
    depth++;
    uint32_t *const saved = to->stack;
    uint32_t *const saved_end = to->stack_end;
    uint32_t *const host_cells = to->host_cells;
    to->stack = stack[depth];
    to->stack_end = stack[depth] + STACK_CELLS;
    to->host_cells = NULL;
    const enum wbi_status status = wbi_invoke(to, function, arguments, type[2]);
    cell = cells;
    for (uint32_t i = 0; status == WBI_OK && i < type[3]; i++) {
        const uint64_t value = wbi_result(to, function, i);
        *cell++ = (uint32_t)value;
        if ((type[4 + type[2] + i] & 1) != 0) {
            *cell++ = (uint32_t)(value >> 32);
        }
    }
    to->stack = saved;
    to->stack_end = saved_end;
    to->host_cells = host_cells;
    depth--;
    return status;
}

static enum wbi_status bridge_call(struct wbi_instance *in, void *context, uint32_t *cells) {
    const struct bridge *bridge = context;
    (void)in;
    return cross(bridge->instance, bridge->function, cells);
}

static enum wbi_status foreign(void *context, uint32_t entry, const uint8_t *type, uint32_t *cells) {
    struct wbi_instance *to = &entries[(entry >> 16) - 1].instance;
    const uint8_t *other = wbi_function_type(to->object, entry & 0xffff);
    (void)context;
    if (memcmp(type + 2, other + 2, 2u + type[2] + type[3]) != 0) {
        return WBI_TRAP_SIGNATURE;
    }
    return cross(to, entry & 0xffff, cells);
}

/* ---- linking ---------------------------------------------------------------------------------------------- */

static void *take(uint32_t bytes) {
    used = (used + 7) & ~7u;
    if (bytes > arena_bytes - used) {
        return NULL;
    }
    void *at = arena + used;
    used += bytes;
    return at;
}

static bool named(const uint8_t *name, uint32_t length, const char *text) {
    return strlen(text) == length && memcmp(name, text, length) == 0;
}

static bool limits_fit(uint32_t size, uint32_t max, uint32_t want_min, uint32_t want_max, uint32_t none) {
    return size >= want_min && (want_max == none || (max != none && max <= want_max));
}

static const void *find_spectest(const struct wbi_import *import) {
    if (import->kind == 1 && named(import->name, import->name_bytes, "table")) {
        return limits_fit(spectest_table.size, 20, import->min, import->max, WBI_NONE) ? &spectest_table : NULL;
    }
    if (import->kind == 2 && named(import->name, import->name_bytes, "memory") && import->page_log2 == 16) {
        return limits_fit(spectest_memory.pages, 2, import->min, import->max, 65536) ? &spectest_memory : NULL;
    }
    for (uint32_t i = 0; import->kind == 3 && i < 4; i++) {
        if (named(import->name, import->name_bytes, spectest_globals[i].name) && spectest_globals[i].type == import->type) {
            return spectest_globals[i].cells;
        }
    }
    return NULL;
}

static const void *find(void *context, const struct wbi_instance *in, uint32_t index) {
    struct wbi_import import;
    uint8_t kind;
    uint32_t number;
    (void)context;
    wbi_import_at(in->object, index, &import);
    if (named(import.module, import.module_bytes, "spectest")) {
        return find_spectest(&import);
    }
    for (uint32_t i = 0; i < absent_count; i++) {
        missed = missed || named(import.module, import.module_bytes, absent[i]);
    }
    for (uint32_t i = count; i-- > 0;) {
        struct wbi_instance *from = &entries[i].instance;
        if (from == in || entries[i].registered[0] == '\0' ||
            !named(import.module, import.module_bytes, entries[i].registered)) {
            continue;
        }
        if (!wbi_find_export(from->object, (const char *)import.name, import.name_bytes, &kind, &number) ||
            kind != import.kind) {
            return NULL;
        }
        if (kind == 0) {
            const uint8_t *types = in->object + ((const struct wbi_header *)(const void *)in->object)->types;
            const uint8_t *want = in->object + ((const uint32_t *)(const void *)types)[import.type];
            const uint8_t *have = wbi_function_type(from->object, number);
            struct wbi_host_function *host = take(sizeof *host);
            struct bridge *bridge = take(sizeof *bridge);
            if (host == NULL || bridge == NULL || memcmp(want + 2, have + 2, 2u + want[2] + want[3]) != 0) {
                return NULL;
            }
            bridge->instance = from;
            bridge->function = number;
            *host = (struct wbi_host_function){"", "", "", bridge_call, bridge};
            return host;
        }
        if (kind == 1) {
            return limits_fit(from->table->size, from->table->max, import.min, import.max, WBI_NONE) ? from->table : NULL;
        }
        if (kind == 2) {
            const uint32_t none = import.page_log2 == 16 ? 65536 : WBI_NONE;
            return from->memory->page_log2 == import.page_log2 &&
                           limits_fit(from->memory->pages, from->memory->max_pages, import.min, import.max, none)
                       ? from->memory
                       : NULL;
        }
        return wbi_global_type(from->object, number) == import.type ? wbi_global_cells(from, number) : NULL;
    }
    return NULL;
}

static const struct wbi_link linking = {NULL, find, foreign};

/* ---- the store -------------------------------------------------------------------------------------------- */

bool store_init(void) {
    arena = platform_memory(&arena_bytes);
    return arena != NULL;
}

void store_reset(void) {
    used = 0;
    count = 0;
    absent_count = 0;
    last = NULL;
    spectest_memory.data = take(2 * 65536);
    spectest_memory.bytes = 65536;
    spectest_memory.capacity = 2 * 65536;
    spectest_memory.pages = 1;
    spectest_memory.max_pages = 2;
    spectest_memory.page_log2 = 16;
    memset(spectest_memory.data, 0, 2 * 65536);
    memset(spectest_entries, 0xff, sizeof spectest_entries);
    spectest_table.entries = spectest_entries;
    spectest_table.size = 10;
    spectest_table.max = 20;
    mark = used;
}

uint8_t *store_scratch(uint32_t bytes) {
    if (last != NULL && !last->keep) {
        used = mark;
        count--;
    }
    last = NULL;
    mark = used;
    (void)take(0);
    used += bytes; /* the module lies here until the next one */
    return arena + used - bytes;
}

enum wbi_status store_load(const uint8_t *module, uint32_t length, bool keep, bool define, struct entry **entry,
                           struct wbi_error *error) {
    static struct wbi_loader loader;
    static uint32_t scratch[8192];
    static const uint8_t digest[WBI_DIGEST_BYTES];
    struct wbi_flash flash = {NULL, NULL, 65536 + length * 8, program};
    const uint32_t before = used;
    uint8_t *object = take(flash.capacity);
    if (object == NULL || count == ENTRIES) {
        error->reason = "no memory left on this machine";
        return WBI_NO_MEMORY;
    }
    memset(object, 0xff, flash.capacity);
    flash.context = object;
    flash.base = object;
    enum wbi_status status = wbi_load_begin(&loader, &flash, scratch, sizeof scratch, NULL);
    for (uint32_t at = 0, piece = 1; status == WBI_OK && at < length; at += piece) {
        piece = 1 + (at * 7 + length) % 61; /* split in many ways */
        if (piece > length - at) {
            piece = length - at;
        }
        status = wbi_load_feed(&loader, module + at, piece);
    }
    if (status == WBI_OK) {
        status = wbi_load_finish(&loader, digest);
    }
    *error = loader.error;
    if (status != WBI_OK) {
        used = before;
        return status;
    }
    used = (uint32_t)(object - arena) + wbi_load_bytes(&loader);
    if (wbi_object_check(object, wbi_load_bytes(&loader)) != WBI_OK) {
        error->reason = "the finished object does not pass its check";
        return WBI_BAD_OBJECT;
    }
    if (define) {
        return WBI_OK;
    }
    struct entry *e = &entries[count++];
    memset(e, 0, sizeof *e);
    e->name = 255;
    e->keep = keep;
    last = e;
    const struct wbi_header *h = (const struct wbi_header *)(const void *)object;
    const uint32_t need = wbi_ram_bytes(object);
    used = (used + 7) & ~7u;
    const uint32_t left = arena_bytes - used;
    const uint64_t growth = (uint64_t)(h->memory_max - h->memory_min) << h->page_log2;
    uint32_t room = !keep ? left : left > 64u << 20 ? left / 2 : 2u << 20;
    room = growth < room ? (uint32_t)growth : room;
    bool grows = false; /* memory.grow is 0x40 0x00 */
    for (uint32_t i = 1; i < length; i++) {
        grows = grows || (module[i - 1] == 0x40 && module[i] == 0);
    }
    if (!grows && h->import_count == 0 && h->export_count == 0) {
        room = 0;
    } else if (!grows) {
        room = room < 8 * 65536 && left > 64u << 20 ? room : room < 4 * 65536 ? room : 4 * 65536;
    }
    if (need > left) {
        error->reason = "no memory left on this machine";
        return WBI_NO_MEMORY;
    }
    if (room > left - need - 65536) {
        room = left - need - 65536;
    }
    missed = false;
    const struct wbi_buffers buffers = {arena + used, need + room, stack[0], sizeof stack[0]};
    used += need + room;
    status = wbi_instantiate(&e->instance, object, &buffers, spectest, sizeof spectest / sizeof spectest[0], &linking,
                             (uint16_t)count);
    if (status == WBI_OK) {
        store_fuel();
        status = wbi_start(&e->instance);
    }
    *error = e->instance.error;
    if (missed && status == WBI_UNKNOWN_IMPORT) {
        error->reason = "imports from a module of the suite that was refused as unsupported";
        return WBI_UNSUPPORTED;
    }
    if (status == WBI_OK) {
        *entry = e;
    }
    return status;
}

struct entry *store_named(uint8_t name) {
    for (uint32_t i = count; i-- > 0;) {
        if (entries[i].name == name) {
            return &entries[i];
        }
    }
    return NULL;
}

void store_register(struct entry *entry, const char *name) {
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(entries[i].registered, name) == 0) {
            entries[i].registered[0] = '\0';
        }
    }
    const size_t length = strlen(name);
    if (length < sizeof entry->registered) {
        memcpy(entry->registered, name, length + 1);
    }
}

void store_absent(const char *name) {
    const size_t length = strlen(name);
    if (absent_count < 8 && length < sizeof absent[0]) {
        memcpy(absent[absent_count++], name, length + 1);
    }
}

void store_fuel(void) {
    for (uint32_t i = 0; i < count; i++) {
        wbi_set_fuel(&entries[i].instance, 0xffffffffu);
    }
}
