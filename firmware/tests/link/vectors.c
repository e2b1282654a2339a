/* The published Noise vectors of the pattern on this target: reads records that vectors.py wrote.
 * A record: u32 count of fields, then u32 length and bytes of each: prologue, initiator's static and ephemeral private
 * keys, responder's static public key, payload 1, message 1, payload 2, message 2, then payload and message of each
 * transport message, the initiator's first. */
#include <string.h>

#include "../../link/src/noise.h"
#include "../platform/platform.h"

#define FIELDS 32u
static uint8_t bytes[8192];
static const uint8_t *field[FIELDS];
static uint32_t length[FIELDS];

static bool read_all(int file, void *data, uint32_t want) {
    uint8_t *at = data;
    while (want != 0) {
        const uint32_t got = platform_read(file, at, want);
        if (got == 0) {
            return false;
        }
        at += got;
        want -= got;
    }
    return true;
}

static bool equal(uint32_t index, const uint8_t *data, uint32_t data_length) {
    return length[index] == data_length && memcmp(field[index], data, data_length) == 0;
}

static bool run(uint32_t fields) {
    static uint8_t message[1024];
    struct wb_handshake state;
    struct wb_cipher_pair keys;
    uint8_t public_key[32];
    wb_x25519_public(field[1], public_key);
    memcpy(state.ephemeral, field[2], 32);
    if (!wb_noise_write1(&state, field[0], length[0], field[1], public_key, field[3], field[4], length[4],
                         message) ||
        !equal(5, message, WB_NOISE_MESSAGE1 + length[4])) {
        return false;
    }
    /* One wrong bit anywhere is refused and leaves the state as it was. */
    memcpy(message, field[7], length[7]);
    for (uint32_t bit = 0; bit < 8 * length[7]; bit += 37) {
        const struct wb_handshake before = state;
        memcpy(message, field[7], length[7]);
        message[bit / 8] = (uint8_t)(message[bit / 8] ^ 1u << bit % 8);
        /* The highest bit of a public key does not count (RFC 7748), but it is hashed. */
        if (wb_noise_read2(&state, field[1], message, length[7], &keys) ||
            memcmp(&before, &state, sizeof state) != 0) {
            return false;
        }
    }
    memcpy(message, field[7], length[7]);
    if (!wb_noise_read2(&state, field[1], message, length[7], &keys) || !equal(6, message + 32, length[7] - 48)) {
        return false;
    }
    for (uint32_t i = 8; i + 1 < fields; i += 2) {
        const uint64_t counter = (i - 8) / 4;
        const uint32_t size = length[i];
        if (size + WB_TAG_BYTES > sizeof message) {
            return false;
        }
        if ((i - 8) % 4 == 0) {
            memcpy(message, field[i], size);
            wb_aead_encrypt(keys.send_key, counter, NULL, 0, message, size, message + size);
            if (!equal(i + 1, message, size + WB_TAG_BYTES)) {
                return false;
            }
        } else {
            memcpy(message, field[i + 1], size + WB_TAG_BYTES);
            if (!wb_aead_decrypt(keys.receive_key, counter, NULL, 0, message, size, message + size) ||
                !equal(i, message, size)) {
                return false;
            }
        }
    }
    return true;
}

int main(void) {
    const int file = platform_open("noise.bin");
    uint32_t passed = 0;
    uint32_t failed = 0;
    uint32_t fields;
    while (file >= 0 && read_all(file, &fields, 4)) {
        uint32_t used = 0;
        for (uint32_t i = 0; i < fields; i++) {
            if (i >= FIELDS || !read_all(file, &length[i], 4) || length[i] > sizeof bytes - used ||
                !read_all(file, bytes + used, length[i])) {
                say("unreadable record\n");
                platform_exit(2);
            }
            field[i] = bytes + used;
            used += length[i];
        }
        const bool good = fields >= 8 && run(fields);
        passed += good;
        failed += !good;
    }
    say("%u passed, %u failed\n", passed, failed);
    platform_exit(failed == 0 && passed != 0 ? 0 : 1);
}
