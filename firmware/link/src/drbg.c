/* See drbg.h. Record: magic, number (both little-endian), seed, first 4 bytes of the SHA-256 of all that. */
#include "drbg.h"

#include <bearssl.h>
#include <string.h>

#include "hmac.h"
#include "internal.h"

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

/* HMAC_DRBG_Update, SP 800-90A 10.1.2.2. */
static void update(struct wb_drbg *drbg, const uint8_t *data, size_t length) {
    for (uint8_t mark = 0; mark < (length != 0 ? 2 : 1); mark++) {
        const struct wb_piece pieces[3] = {{drbg->value, 32}, {&mark, 1}, {data, length}};
        wb_hmac(drbg->key, pieces, 3, drbg->key);
        wb_hmac(drbg->key, pieces, 1, drbg->value);
    }
}

static void instantiate(struct wb_drbg *drbg, const uint8_t seed[32]) {
    memset(drbg->key, 0, 32);
    memset(drbg->value, 1, 32);
    update(drbg, seed, 32);
}

static void generate(struct wb_drbg *drbg, uint8_t *data, size_t length) {
    const struct wb_piece value = {drbg->value, 32};
    while (length != 0) {
        const size_t part = length < 32 ? length : 32;
        wb_hmac(drbg->key, &value, 1, drbg->value);
        memcpy(data, drbg->value, part);
        data += part;
        length -= part;
    }
    update(drbg, NULL, 0);
}

void wb_drbg_mix(struct wb_drbg *drbg, const uint8_t *data, size_t length) { update(drbg, data, length); }

bool wb_drbg_generate(struct wb_drbg *drbg, uint8_t *data, size_t length) {
    if (drbg->ready) {
        generate(drbg, data, length);
    }
    return drbg->ready;
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
    uint8_t seed[32];
    instantiate(drbg, record + 8);
    generate(drbg, seed, sizeof seed);
    wb_seed_make(record, word(record + 4) + 1, seed);
    if (!host->seed_write(host->context, 1 - slot, record) || !host->seed_read(host->context, 1 - slot, other) ||
        memcmp(record, other, sizeof record) != 0) {
        return false;
    }
    /* What was generated before went to flash; what comes now is of this boot alone. */
    generate(drbg, seed, sizeof seed);
    instantiate(drbg, seed);
    wb_wipe(seed, sizeof seed);
    drbg->ready = true;
    return true;
}
