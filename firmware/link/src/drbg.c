/* See drbg.h. Record: magic, number (both little-endian), seed, first 4 bytes of the SHA-256 of all that. */
#include "drbg.h"

#include <bearssl.h>
#include <string.h>

#define MAGIC 0x44534257u /* "WBSD" */

static uint32_t word(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_word(uint8_t *at, uint32_t value) {
    for (uint32_t i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static void check_of(const uint8_t record[WB_SEED_RECORD_BYTES], uint8_t check[32]) {
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, record, WB_SEED_RECORD_BYTES - 4);
    br_sha256_out(&context, check);
}

void wb_seed_make(uint8_t record[WB_SEED_RECORD_BYTES], uint32_t number, const uint8_t seed[32]) {
    uint8_t check[32];
    put_word(record, MAGIC);
    put_word(record + 4, number);
    memcpy(record + 8, seed, 32);
    check_of(record, check);
    memcpy(record + 40, check, 4);
}

static bool good(const uint8_t record[WB_SEED_RECORD_BYTES]) {
    uint8_t check[32];
    check_of(record, check);
    return word(record) == MAGIC && memcmp(record + 40, check, 4) == 0;
}

static void load(br_hmac_drbg_context *context, const struct wb_drbg *drbg) {
    memset(context, 0, sizeof *context);
    context->vtable = &br_hmac_drbg_vtable;
    context->digest_class = &br_sha256_vtable;
    memcpy(context->K, drbg->key, 32);
    memcpy(context->V, drbg->value, 32);
}

static void keep(struct wb_drbg *drbg, const br_hmac_drbg_context *context) {
    memcpy(drbg->key, context->K, 32);
    memcpy(drbg->value, context->V, 32);
}

void wb_drbg_mix(struct wb_drbg *drbg, const uint8_t *data, size_t length) {
    br_hmac_drbg_context context;
    load(&context, drbg);
    br_hmac_drbg_update(&context, data, length);
    keep(drbg, &context);
}

bool wb_drbg_generate(struct wb_drbg *drbg, uint8_t *data, size_t length) {
    br_hmac_drbg_context context;
    if (!drbg->ready) {
        return false;
    }
    load(&context, drbg);
    br_hmac_drbg_generate(&context, data, length);
    keep(drbg, &context);
    return true;
}

bool wb_drbg_start(struct wb_drbg *drbg, const struct wb_link_host *host) {
    uint8_t record[WB_SEED_RECORD_BYTES];
    uint8_t other[WB_SEED_RECORD_BYTES];
    memset(drbg, 0, sizeof *drbg);
    const bool first = host->seed_read(host->context, 0, record) && good(record);
    const bool second = host->seed_read(host->context, 1, other) && good(other);
    if (!first && !second) {
        return false;
    }
    uint32_t slot = 0;
    if (!first || (second && (int32_t)(word(other + 4) - word(record + 4)) > 0)) {
        slot = 1;
        memcpy(record, other, sizeof record);
    }
    br_hmac_drbg_context context;
    uint8_t seed[32];
    br_hmac_drbg_init(&context, &br_sha256_vtable, record + 8, 32);
    br_hmac_drbg_generate(&context, seed, sizeof seed);
    wb_seed_make(record, word(record + 4) + 1, seed);
    if (!host->seed_write(host->context, 1 - slot, record) || !host->seed_read(host->context, 1 - slot, other) ||
        memcmp(record, other, sizeof record) != 0) {
        return false;
    }
    /* What was generated before went to flash; what comes now is of this boot alone. */
    br_hmac_drbg_generate(&context, seed, sizeof seed);
    br_hmac_drbg_init(&context, &br_sha256_vtable, seed, sizeof seed);
    keep(drbg, &context);
    drbg->ready = true;
    return true;
}
