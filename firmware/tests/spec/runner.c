/* Runs the official tests out of one command stream (made by convert.py), on the host and on both cores. */
#include "../platform/platform.h"
#include "store.h"

static uint8_t input[4096];
static uint32_t input_at, input_end;
static int input_file;
static uint32_t passed, failed, skipped;
static char file_name[64];
static uint32_t line;

static uint8_t next8(void) {
    if (input_at == input_end) {
        input_end = platform_read(input_file, input, sizeof input);
        input_at = 0;
        if (input_end == 0) {
            say("unexpected end of the command stream\n");
            platform_exit(2);
        }
    }
    return input[input_at++];
}
static uint32_t next16(void) {
    const uint32_t low = next8();
    return low | (uint32_t)next8() << 8;
}
static uint32_t next32(void) {
    const uint32_t low = next16();
    return low | next16() << 16;
}
static uint64_t next64(void) {
    const uint64_t low = next32();
    return low | (uint64_t)next32() << 32;
}
static uint32_t next_text(char *text, uint32_t capacity) {
    const uint32_t length = next16();
    for (uint32_t i = 0; i < length; i++) {
        const char letter = (char)next8();
        if (i + 1 < capacity) {
            text[i] = letter;
        }
    }
    text[length < capacity ? length : capacity - 1] = '\0';
    return length;
}

static void pass(void) { passed++; }
static void fail(const char *what, const char *detail) {
    failed++;
    say("FAILED %s:%u: %s (%s)\n", file_name, line, what, detail);
}
static void skip(const char *why) {
    skipped++;
    say("SKIPPED %s:%u: %s\n", file_name, line, why);
}

enum { EXPECT_OK, EXPECT_MALFORMED, EXPECT_INVALID, EXPECT_UNLINKABLE, EXPECT_TRAP, EXPECT_DEFINED };
static struct entry *current;

static void module_command(void) {
    const uint8_t expect = next8();
    const uint8_t keep = next8();
    const uint8_t name = next8();
    const uint32_t length = next32();
    struct wbi_error error;
    uint8_t *module = store_scratch(length);
    for (uint32_t i = 0; i < length; i++) {
        module[i] = next8();
    }
    struct entry *entry = NULL;
    enum wbi_status status = store_load(module, length, keep != 0, expect == EXPECT_DEFINED, &entry, &error);
    const bool refused = status >= WBI_MALFORMED && status <= WBI_LIMIT;
    if (status == WBI_NO_MEMORY || status == WBI_FLASH_FULL) {
        current = NULL;
        skip(error.reason);
        return;
    }
    if (expect == EXPECT_OK || expect == EXPECT_DEFINED || status == WBI_UNSUPPORTED) {
        current = status == WBI_OK ? entry : NULL;
        if (status == WBI_OK) {
            pass();
            if (entry != NULL) {
                entry->name = name;
            }
        } else if (status == WBI_UNSUPPORTED) {
            if (expect == EXPECT_MALFORMED || expect == EXPECT_INVALID) {
                pass(); /* what is refused is refused */
            } else {
                skip(error.reason);
            }
        } else {
            fail("module refused", error.reason);
        }
        return;
    }
    if (status == WBI_OK) {
        fail(expect == EXPECT_UNLINKABLE ? "module linked" : expect == EXPECT_TRAP ? "module started" : "module accepted", "");
    } else if ((expect == EXPECT_MALFORMED || expect == EXPECT_INVALID) != refused) {
        fail("module refused for another reason", error.reason);
    } else {
        pass();
    }
}

struct expected {
    uint8_t type, match;
    uint64_t bits;
};

static bool matches(const struct expected *e, uint64_t bits) {
    const uint64_t quiet = e->type == 2 ? 0x7fc00000u : UINT64_C(0x7ff8000000000000);
    const uint64_t sign = e->type == 2 ? 0x80000000u : UINT64_C(1) << 63;
    switch (e->match) {
    case 0: return bits == e->bits;
    case 1: return (bits & ~sign) == quiet;
    default: return (bits & quiet) == quiet;
    }
}

static void action_command(uint8_t command) {
    char name[1024];
    struct expected expected[32];
    uint64_t arguments[64];
    const uint8_t module = next8();
    const uint8_t get = next8();
    const uint32_t name_bytes = next_text(name, sizeof name);
    const uint32_t count = next8();
    for (uint32_t i = 0; i < count; i++) {
        arguments[i & 63] = next64();
    }
    const uint32_t results = next8();
    for (uint32_t i = 0; i < results; i++) {
        expected[i & 31].type = next8();
        expected[i & 31].match = next8();
        expected[i & 31].bits = next64();
    }
    const uint32_t wanted = next8();
    struct entry *entry = module == 255 ? current : store_named(module);
    if (entry == NULL) {
        skipped++;
        return;
    }
    struct wbi_instance *in = &entry->instance;
    uint8_t kind;
    uint32_t index;
    if (!wbi_find_export(in->object, name, name_bytes, &kind, &index) || kind != (get != 0 ? 3 : 0)) {
        fail("no such export", name);
        return;
    }
    enum wbi_status status = WBI_OK;
    if (get == 0) {
        store_fuel();
        status = wbi_invoke(in, index, arguments, count);
    }
    if (command == 'T') {
        if (status == (enum wbi_status)wanted) {
            pass();
        } else {
            fail("another end of the call", wbi_status_name(status));
        }
        return;
    }
    if (status != WBI_OK) {
        fail("call failed", wbi_status_name(status));
        return;
    }
    for (uint32_t i = 0; i < results; i++) {
        const uint32_t *cells = get != 0 ? wbi_global_cells(in, index) : NULL;
        const uint64_t bits = get == 0 ? wbi_result(in, index, i)
                              : (expected[i].type & 1) != 0 ? cells[0] | (uint64_t)cells[1] << 32
                                                            : cells[0];
        if (!matches(&expected[i], bits)) {
            say("got %x%x, wanted %x%x\n", (uint32_t)(bits >> 32), (uint32_t)bits, (uint32_t)(expected[i].bits >> 32),
                (uint32_t)expected[i].bits);
            fail("another result", name);
            return;
        }
    }
    pass();
}

int main(int argc, char **argv) {
    char text[256];
    const char *path = argc > 1 ? argv[1] : "spec.bin";
    input_file = platform_open(path);
    if (input_file < 0 || !store_init()) {
        say("no command stream at %s, or no memory\n", path);
        return 2;
    }
    for (;;) {
        const uint8_t command = next8();
        if (command == 'E') {
            break;
        }
        if (command == 'F') {
            next_text(file_name, sizeof file_name);
            store_reset();
            current = NULL;
            continue;
        }
        line = next16();
        switch (command) {
        case 'M': module_command(); break;
        case 'A':
        case 'T': action_command(command); break;
        case 'R': {
            const uint8_t module = next8();
            next_text(text, sizeof text);
            struct entry *entry = module == 255 ? current : store_named(module);
            if (entry != NULL) {
                store_register(entry, text);
            } else {
                store_absent(text);
            }
            break;
        }
        case 'S':
            next_text(text, sizeof text);
            skip(text);
            break;
        default: say("bad command %x\n", command); return 2;
        }
    }
    say("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed == 0 ? 0 : 1;
}
