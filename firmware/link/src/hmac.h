/* HMAC-SHA256 (RFC 2104) with keys of 32 bytes on BearSSL's SHA-256. BearSSL's own HMAC takes three times the stack, as its
 * contexts have room for every hash. */
#ifndef WB_HMAC_H
#define WB_HMAC_H

#include <stddef.h>
#include <stdint.h>

struct wb_piece {
    const uint8_t *data;
    size_t length;
};

/* The code of the pieces in order; out may be the key or one of the pieces. */
void wb_hmac(const uint8_t key[32], const struct wb_piece *pieces, size_t count, uint8_t out[32]);

#endif
