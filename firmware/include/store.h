/* A few small records that survive a power cut at any moment: in two flash sectors that take turns, a record is
 * appended; a full sector is copied, last versions only, to the other one, whose header is written last.
 * Format of a sector: {u32 magic, u32 generation, u32 CRC-32 of the generation}, then records
 * {u8 type, u8 check, u16 length, data, u32 CRC-32 of all before} padded with 0xff to 4 bytes; check is the complement of the
 * other three bytes under exclusive or. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#define STORE_MAGIC 0x54534257u /* "WBST" */
#define STORE_MAX 1100u

enum store_type {
    STORE_SEED_0 = 1,   /* WB_SEED_RECORD_BYTES: of the random generator, advanced at every start */
    STORE_SEED_1 = 2,
    STORE_IDENTITY = 3, /* struct wb_identity with rotated keys, in place of the provisioned one */
    STORE_MODULES = 4,  /* which module is in which slot */
    STORE_START_0 = 5,  /* start requests of the instances that shall run */
    STORE_START_1 = 6,
    STORE_BOOT = 7,     /* the loader's */
    STORE_STATE_0 = 8,  /* what an application handed over to its next version */
    STORE_STATE_1 = 9,
    STORE_BEFORE_0 = 10, /* the start request before an update, as long as that one is on trial */
    STORE_BEFORE_1 = 11,
    STORE_FAILED_0 = 12, /* the update that was taken back, and why */
    STORE_FAILED_1 = 13,
    STORE_TYPES
};

/* Finds the sector in use; false when there is none: the flash was never provisioned. */
bool store_open(void);
/* The last whole record of a type, in flash; null when there is none. Valid until the next store_put. */
const uint8_t *store_get(enum store_type type, uint32_t *length);
/* True once the record is on flash. A power cut leaves either the old or the new one. */
bool store_put(enum store_type type, const void *data, uint32_t length);

#endif
