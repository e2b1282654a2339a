/* Noise_IK_25519_AESGCM_SHA256, the initiator's side (Noise Protocol Framework, revision 34), on BearSSL's
 * constant-time code. */
#ifndef WB_NOISE_H
#define WB_NOISE_H

#include "wb_link.h"

#define WB_TAG_BYTES 16u
#define WB_NOISE_MESSAGE1 (32u + 48u + WB_TAG_BYTES)
#define WB_NOISE_MESSAGE2 (32u + WB_TAG_BYTES)

/* The public key of a private one. */
void wb_x25519_public(const uint8_t private_key[32], uint8_t public_key[32]);

/* AES-256-GCM in place. The tag is written when encrypting; when decrypting, false for a wrong one (data is then
 * of no use). counter is Noise's nonce n. */
void wb_aead_encrypt(const uint8_t key[32], uint64_t counter, const uint8_t *ad, size_t ad_length, uint8_t *data,
                     size_t length, uint8_t tag[WB_TAG_BYTES]);
bool wb_aead_decrypt(const uint8_t key[32], uint64_t counter, const uint8_t *ad, size_t ad_length, uint8_t *data,
                     size_t length, const uint8_t tag[WB_TAG_BYTES]);
/* REKEY of section 4.2. */
void wb_noise_rekey(uint8_t key[32]);

/* Writes message 1 (WB_NOISE_MESSAGE1 + payload bytes); false when the gateway's key is of low order. state->ephemeral is
 * the ephemeral private key. The prologue is read before the message is written, so it may lie there. */
bool wb_noise_write1(struct wb_handshake *state, const uint8_t *prologue, size_t prologue_length,
                     const uint8_t private_key[32], const uint8_t public_key[32], const uint8_t remote_public[32],
                     const uint8_t *payload, size_t payload_length, uint8_t *message);
/* Reads message 2; its payload is decrypted where it lies, at message + 32. False, and the state as it was, unless it
 * proves the gateway's key. */
bool wb_noise_read2(struct wb_handshake *state, const uint8_t private_key[32], uint8_t *message, size_t length,
                    struct wb_cipher_pair *keys);

#endif
