/* The loader against any bytes: however they are split the verdict and the object are the same, the flash keeps the
 * rules of NOR, and what is accepted is what wasmtime accepts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "wbi.h"

enum { FLASH = 1 << 20, SCRATCH = 1 << 16 };
static uint8_t flash_memory[2][FLASH] __attribute__((aligned(8)));
static uint32_t scratch[SCRATCH / 4];
static struct wbi_loader loader;

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    uint8_t *to = (uint8_t *)context + offset;
    for (uint32_t i = 0; i < length; i++) {
        if ((to[i] & data[i]) != data[i]) {
            abort();
        }
        to[i] &= data[i];
    }
    return true;
}

static enum wbi_status load(uint8_t *to, const uint8_t *data, size_t length, uint32_t split) {
    static const uint8_t digest[WBI_DIGEST_BYTES];
    const struct wbi_flash flash = {to, to, FLASH, program};
    memset(to, 0xff, FLASH);
    enum wbi_status status = wbi_load_begin(&loader, &flash, scratch, SCRATCH, NULL);
    for (size_t at = 0; status == WBI_OK && at < length;) {
        size_t piece = split == 0 ? length : 1 + (at * 2654435761u >> 7) % split;
        piece = piece < length - at ? piece : length - at;
        uint8_t *copy = malloc(piece); /* so that a read beyond it is seen */
        memcpy(copy, data + at, piece);
        status = wbi_load_feed(&loader, copy, piece);
        free(copy);
        at += piece;
    }
    return status == WBI_OK ? wbi_load_finish(&loader, digest) : status;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    oracle_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
    const enum wbi_status whole = load(flash_memory[0], data, length, 0);
    const uint32_t bytes = wbi_load_bytes(&loader);
    const struct wbi_error error = loader.error;
    const uint8_t section = loader.section;
    const enum wbi_status split = load(flash_memory[1], data, length, 1 + (uint32_t)length % 40);
    if (whole != split || error.offset != loader.error.offset || strcmp(error.reason, loader.error.reason) != 0) {
        fprintf(stderr, "whole: %s at %u, split: %s at %u\n", error.reason, error.offset, loader.error.reason,
                loader.error.offset);
        abort();
    }
    if (whole == WBI_OK &&
        (bytes != wbi_load_bytes(&loader) || memcmp(flash_memory[0], flash_memory[1], bytes) != 0 ||
         wbi_object_check(flash_memory[0], bytes) != WBI_OK)) {
        abort();
    }
    if (whole == WBI_UNSUPPORTED || whole == WBI_LIMIT || whole == WBI_FLASH_FULL) {
        return 0;
    }
    /* Newer versions of the format read limits as 64-bit numbers; 1.0 says 32. */
    if (strcmp(error.reason, "integer too long") == 0 && (section == 2 || section == 4 || section == 5)) {
        return 0;
    }
    if ((whole == WBI_OK) != oracle_validate(data, length, whole == WBI_OK)) {
        fprintf(stderr, "ours: %s (%s at %u), wasmtime says otherwise\n", wbi_status_name(whole), error.reason,
                error.offset);
        abort();
    }
    return 0;
}
