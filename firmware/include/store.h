/* A few small records that survive a power cut at any moment: in two flash sectors that take turns, a record is
 * appended; a full sector is copied, last versions only, to the other one, whose header is written last.
 * Format of a sector: {u32 magic, u32 generation, u32 CRC-32 of the generation}, then records
 * {u8 type, u8 length, u16 complement of both, data, u32 CRC-32 of all before} padded with 0xff to 4 bytes. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#define STORE_MAGIC 0x54534257u /* "WBST" */
#define STORE_MAX 128u

enum store_type {
    STORE_SEED = 1,    /* 32 bytes: of the random generator, for the next start */
    STORE_KEYS = 2,    /* rotated keys, in place of the provisioned ones */
    STORE_MODULES = 3, /* which module is in which slot, and whether it runs */
    STORE_BOOT = 4,    /* the loader's */
    STORE_TYPES = 8
};

/* Finds the sector in use; false when there is none: the flash was never provisioned. */
bool store_open(void);
/* The last whole record of a type, in flash; null when there is none. Valid until the next store_put. */
const uint8_t *store_get(enum store_type type, uint32_t *length);
/* True once the record is on flash. A power cut leaves either the old or the new one. */
bool store_put(enum store_type type, const void *data, uint32_t length);

#endif
