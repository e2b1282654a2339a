/* Who this device is: written once when its flash is made (`wasmbed provision`), in a sector of its own.
 * The seed of the random generator is not here but in the store, where it is advanced at every start. */
#ifndef PROVISION_H
#define PROVISION_H

#include <stdbool.h>
#include <stdint.h>

#define PROVISION_MAGIC 0x56504257u /* "WBPV" */
#define PROVISION_VERSION 1u
#define PROVISION_NAME_MAX 63u

enum board_class { CLASS_MCU = 1, CLASS_RISCV = 2 };

struct provision {
    uint32_t magic;
    uint16_t version;
    uint16_t bytes; /* of this structure */
    uint8_t board_class;
    uint8_t name_bytes;
    uint8_t gateway_bytes;
    uint8_t reserved;
    char name[64];    /* namespace/name of the EdgeDevice is the gateway's business; this is what it registered */
    char gateway[64]; /* name of the gateway */
    uint8_t private_key[32];
    uint8_t gateway_key[32];
    uint32_t crc; /* CRC-32 of all before */
};

/* The block in flash, or null when there is none that is whole. */
const struct provision *provision_get(void);

#endif
