/* Who this device is: written once when its flash is made (`wasmbed provision`), in a sector of its own. Rotated keys and the
 * seed of the random generator are in the store, where they change. */
#ifndef PROVISION_H
#define PROVISION_H

#include <stdbool.h>
#include <stdint.h>

#include "wb_link.h"

#define PROVISION_MAGIC 0x56504257u /* "WBPV" */
#define PROVISION_VERSION 1u

enum board_class { CLASS_MCU = 1, CLASS_RISCV = 2 };

struct provision {
    uint32_t magic;
    uint16_t version;
    uint16_t bytes; /* of this structure */
    uint8_t board_class;
    uint8_t reserved[3];
    struct wb_identity identity;
    uint32_t crc; /* CRC-32 of all before */
};

/* The block in flash, or null when there is none that is whole. */
const struct provision *provision_get(void);
/* The identity as it is now: rotated or provisioned; null when there is none. */
const struct wb_identity *provision_identity(void);

#endif
