/* HMAC-DRBG (NIST SP 800-90A, SHA-256) from a stored seed that is advanced before its first use. */
#ifndef WB_DRBG_H
#define WB_DRBG_H

#include "wb_link.h"

/* Takes the newest good seed record, stores its successor in the other slot, and only when that reads back starts the
 * generator, from neither of the two. False, and not ready, when there is no record or it cannot be advanced. */
bool wb_drbg_start(struct wb_drbg *drbg, const struct wb_link_host *host);
/* Mixes in more; needs not be secret or random. */
void wb_drbg_mix(struct wb_drbg *drbg, const uint8_t *data, size_t length);
bool wb_drbg_generate(struct wb_drbg *drbg, uint8_t *data, size_t length);

#endif
