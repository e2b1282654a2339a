/* The module around the generated programs: types, tables, memory, globals, exports, segments. */
#include <string.h>

#include "generate_internal.h"

static void section(struct writer *w, uint32_t number, const struct writer *body) {
    put(w, number);
    leb(w, body->used);
    for (size_t i = 0; i < body->used; i++) {
        put(w, body->bytes[i]);
    }
}

static void export(struct writer *w, const char *name, uint32_t kind, uint32_t index) {
    leb(w, strlen(name));
    for (const char *at = name; *at != '\0'; at++) {
        put(w, (uint8_t)*at);
    }
    put(w, kind);
    leb(w, index);
}

static void function_body(struct writer *all) {
    static uint8_t room[BODY_MAX * 4];
    struct writer body = {room, 0, sizeof room};
    code = &body;
    loop_depth = 0;
    label_depth = 0;
    leb(&body, 6);
    for (uint32_t type = 0; type < 4; type++) {
        leb(&body, LOCALS_EACH);
        put(&body, type_code[type]);
    }
    leb(&body, LOOPS + 1);
    put(&body, 0x7f);
    leb(&body, 0); /* replaced below: the scratch locals i64 f32 f64 need one run each */
    put(&body, 0x7f);
    body.used -= 4;
    body.bytes[0] = 8;
    leb(&body, LOOPS + 1);
    put(&body, 0x7f);
    for (uint32_t type = 1; type < 4; type++) {
        leb(&body, 1);
        put(&body, type_code[type]);
    }
    for (uint32_t i = 1 + pick(4); i > 0; i--) {
        statement(MAX_DEPTH);
    }
    for (uint32_t i = 0; i < module->type[function].results; i++) {
        expression(module->type[function].types[module->type[function].params + i], MAX_DEPTH - 2);
    }
    op(pick(4) == 0 ? 0x0f : 0x01);
    op(0x0b);
    leb(all, body.used);
    for (size_t i = 0; i < body.used; i++) {
        put(all, body.bytes[i]);
    }
}

void generate(struct generated *out, const uint8_t *data, size_t length) {
    static const uint8_t head[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    static uint8_t room[60000];
    struct writer w = {out->wasm, 0, sizeof out->wasm};
    struct writer body = {room, 0, sizeof room};
    source_begin(data, length);
    module = out;
    out->functions = 1 + pick(GEN_FUNCTIONS);
    small_pages = pick(2);
    for (uint32_t i = 0; i < 8; i++) {
        put(&w, head[i]);
    }
    leb(&body, out->functions);
    for (uint32_t f = 0; f < out->functions; f++) {
        out->type[f].params = pick(GEN_PARAMS + 1);
        out->type[f].results = pick(GEN_RESULTS + 1);
        put(&body, 0x60);
        for (uint32_t i = 0; i < (uint32_t)out->type[f].params + out->type[f].results; i++) {
            if (i == 0) {
                leb(&body, out->type[f].params);
            }
            if (i == out->type[f].params) {
                leb(&body, out->type[f].results);
            }
            out->type[f].types[i] = pick(4);
            put(&body, type_code[out->type[f].types[i]]);
        }
        if (out->type[f].params + out->type[f].results == 0) {
            leb(&body, 0);
            leb(&body, 0);
        } else if (out->type[f].results == 0) {
            leb(&body, 0);
        }
    }
    section(&w, 1, &body);
    body.used = 0;
    leb(&body, out->functions);
    for (uint32_t f = 0; f < out->functions; f++) {
        leb(&body, f);
    }
    section(&w, 3, &body);
    body.used = 0;
    leb(&body, 1); put(&body, 0x70); put(&body, 1); leb(&body, 5); leb(&body, 5);
    section(&w, 4, &body);
    body.used = 0;
    leb(&body, 1);
    if (small_pages != 0) {
        put(&body, 9); leb(&body, 320); leb(&body, 400); leb(&body, 0);
    } else {
        put(&body, 1); leb(&body, 1); leb(&body, 2);
    }
    section(&w, 5, &body);
    body.used = 0;
    leb(&body, 4);
    for (uint32_t type = 0; type < 4; type++) {
        put(&body, type_code[type]);
        put(&body, 1);
        code = &body;
        constant((uint8_t)type);
        put(&body, 0x0b);
    }
    section(&w, 6, &body);
    body.used = 0;
    leb(&body, out->functions + 5);
    for (uint32_t f = 0; f < out->functions; f++) {
        const char name[3] = {'f', (char)('0' + f), '\0'};
        export(&body, name, 0, f);
    }
    for (uint32_t g = 0; g < 4; g++) {
        const char name[3] = {'g', (char)('0' + g), '\0'};
        export(&body, name, 3, g);
    }
    export(&body, "m", 2, 0);
    section(&w, 7, &body);
    body.used = 0;
    leb(&body, 2);
    leb(&body, 0); put(&body, 0x41); leb(&body, 0); put(&body, 0x0b);
    leb(&body, out->functions);
    for (uint32_t f = 0; f < out->functions; f++) {
        leb(&body, f);
    }
    leb(&body, 1); put(&body, 0); leb(&body, 2); leb(&body, 0); leb(&body, out->functions - 1);
    section(&w, 9, &body);
    body.used = 0;
    leb(&body, 2);
    section(&w, 12, &body);
    body.used = 0;
    leb(&body, out->functions);
    for (function = 0; function < out->functions; function++) {
        function_body(&body);
    }
    section(&w, 10, &body);
    body.used = 0;
    leb(&body, 2);
    leb(&body, 0); put(&body, 0x41); leb(&body, 16); put(&body, 0x0b); leb(&body, 8);
    for (uint32_t i = 0; i < 8; i++) {
        put(&body, pick(256));
    }
    leb(&body, 1); leb(&body, 20);
    for (uint32_t i = 0; i < 20; i++) {
        put(&body, 0xa0 + i);
    }
    section(&w, 11, &body);
    out->length = w.used;
}
