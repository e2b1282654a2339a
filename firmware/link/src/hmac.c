#include "hmac.h"

#include <bearssl.h>
#include <string.h>

static void start(br_sha256_context *context, const uint8_t key[32], uint32_t pad) {
    uint8_t block[64];
    memset(block, (int)pad, sizeof block);
    for (uint32_t i = 0; i < 32; i++) {
        block[i] = (uint8_t)(key[i] ^ pad);
    }
    br_sha256_init(context);
    br_sha256_update(context, block, sizeof block);
}

void wb_hmac(const uint8_t key[32], const struct wb_piece *pieces, size_t count, uint8_t out[32]) {
    br_sha256_context context;
    uint8_t inner[32];
    start(&context, key, 0x36);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].length != 0) {
            br_sha256_update(&context, pieces[i].data, pieces[i].length);
        }
    }
    br_sha256_out(&context, inner);
    start(&context, key, 0x5c);
    br_sha256_update(&context, inner, sizeof inner);
    br_sha256_out(&context, out);
}
