/* See noise.h; names as in the framework's text. */
#include "noise.h"

#include <bearssl.h>
#include <string.h>

#include "hmac.h"

/* ---- primitives ------------------------------------------------------------------------------------------- */

void wb_x25519_public(const uint8_t private_key[32], uint8_t public_key[32]) {
    br_ec_c25519_m31.mulgen(public_key, private_key, 32, BR_EC_curve25519);
}

/* DH; false when the result is zero, which only a point of low order gives. */
static bool dh(const uint8_t private_key[32], const uint8_t public_key[32], uint8_t shared[32]) {
    memcpy(shared, public_key, 32);
    br_ec_c25519_m31.mul(shared, 32, private_key, 32, BR_EC_curve25519);
    uint32_t any = 0;
    for (uint32_t i = 0; i < 32; i++) {
        any |= shared[i];
    }
    return any != 0;
}

/* Encrypts or decrypts and leaves the tag in `tag`. */
static void gcm(const uint8_t key[32], uint64_t counter, const uint8_t *ad, size_t ad_length, uint8_t *data,
                size_t length, bool encrypt, uint8_t tag[WB_TAG_BYTES]) {
    br_aes_ct_ctr_keys block;
    br_gcm_context context;
    uint8_t nonce[12] = {0};
    for (uint32_t i = 0; i < 8; i++) {
        nonce[11 - i] = (uint8_t)(counter >> (8 * i));
    }
    br_aes_ct_ctr_init(&block, key, 32);
    br_gcm_init(&context, &block.vtable, br_ghash_ctmul);
    br_gcm_reset(&context, nonce, sizeof nonce);
    if (ad_length != 0) {
        br_gcm_aad_inject(&context, ad, ad_length);
    }
    br_gcm_flip(&context);
    br_gcm_run(&context, encrypt, data, length);
    br_gcm_get_tag(&context, tag);
}

void wb_aead_encrypt(const uint8_t key[32], uint64_t counter, const uint8_t *ad, size_t ad_length, uint8_t *data,
                     size_t length, uint8_t tag[WB_TAG_BYTES]) {
    gcm(key, counter, ad, ad_length, data, length, true, tag);
}

bool wb_aead_decrypt(const uint8_t key[32], uint64_t counter, const uint8_t *ad, size_t ad_length, uint8_t *data,
                     size_t length, const uint8_t tag[WB_TAG_BYTES]) {
    uint8_t made[WB_TAG_BYTES];
    gcm(key, counter, ad, ad_length, data, length, false, made);
    uint32_t difference = 0;
    for (uint32_t i = 0; i < WB_TAG_BYTES; i++) {
        difference |= (uint32_t)(made[i] ^ tag[i]);
    }
    return difference == 0;
}

void wb_noise_rekey(uint8_t key[32]) {
    uint8_t next[32] = {0};
    uint8_t tag[WB_TAG_BYTES];
    wb_aead_encrypt(key, UINT64_MAX, NULL, 0, next, sizeof next, tag);
    memcpy(key, next, sizeof next);
}

/* ---- symmetric state -------------------------------------------------------------------------------------- */

static void mix_hash(struct wb_handshake *state, const uint8_t *data, size_t length) {
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, state->hash, sizeof state->hash);
    br_sha256_update(&context, data, length);
    br_sha256_out(&context, state->hash);
}

/* HKDF with two outputs: the first replaces the chaining key. */
static void hkdf(uint8_t chaining_key[32], const uint8_t *input, size_t length, uint8_t second[32]) {
    static const uint8_t one = 1;
    static const uint8_t two = 2;
    uint8_t secret[32];
    const struct wb_piece all = {input, length};
    const struct wb_piece first = {&one, 1};
    const struct wb_piece both[2] = {{chaining_key, 32}, {&two, 1}};
    wb_hmac(chaining_key, &all, 1, secret);
    wb_hmac(secret, &first, 1, chaining_key);
    wb_hmac(secret, both, 2, second);
}

static bool mix_dh(struct wb_handshake *state, const uint8_t private_key[32], const uint8_t public_key[32],
                   uint8_t key[32]) {
    if (!dh(private_key, public_key, key)) {
        return false;
    }
    hkdf(state->chaining_key, key, 32, key);
    return true;
}

/* A key is used for one message only, so the nonce is always 0. */
static void encrypt_and_hash(struct wb_handshake *state, const uint8_t key[32], uint8_t *data, size_t length) {
    wb_aead_encrypt(key, 0, state->hash, sizeof state->hash, data, length, data + length);
    mix_hash(state, data, length + WB_TAG_BYTES);
}

bool wb_noise_write1(struct wb_handshake *state, const uint8_t *prologue, size_t prologue_length,
                     const uint8_t private_key[32], const uint8_t public_key[32], const uint8_t remote_public[32],
                     const uint8_t *payload, size_t payload_length, uint8_t *message) {
    static const char name[32] = "Noise_IK_25519_AESGCM_SHA256";
    uint8_t key[32];
    memcpy(state->hash, name, sizeof name);
    memcpy(state->chaining_key, name, sizeof name);
    mix_hash(state, prologue, prologue_length);
    mix_hash(state, remote_public, 32);
    wb_x25519_public(state->ephemeral, message);
    mix_hash(state, message, 32);
    if (!mix_dh(state, state->ephemeral, remote_public, key)) {
        return false;
    }
    memcpy(message + 32, public_key, 32);
    encrypt_and_hash(state, key, message + 32, 32);
    if (!mix_dh(state, private_key, remote_public, key)) {
        return false;
    }
    if (payload_length != 0) {
        memcpy(message + 80, payload, payload_length);
    }
    encrypt_and_hash(state, key, message + 80, payload_length);
    return true;
}

bool wb_noise_read2(struct wb_handshake *state, const uint8_t private_key[32], uint8_t *message, size_t length,
                    struct wb_cipher_pair *keys) {
    uint8_t key[32];
    if (length < WB_NOISE_MESSAGE2) {
        return false;
    }
    struct wb_handshake next = *state;
    mix_hash(&next, message, 32);
    if (!mix_dh(&next, state->ephemeral, message, key) || !mix_dh(&next, private_key, message, key)) {
        return false;
    }
    const size_t payload = length - WB_NOISE_MESSAGE2;
    if (!wb_aead_decrypt(key, 0, next.hash, sizeof next.hash, message + 32, payload, message + 32 + payload)) {
        return false;
    }
    /* Split: the initiator sends with the first key. */
    memcpy(keys->send_key, next.chaining_key, 32);
    hkdf(keys->send_key, NULL, 0, keys->receive_key);
    keys->send_counter = 0;
    keys->receive_counter = 0;
    memset(state, 0, sizeof *state);
    return true;
}
