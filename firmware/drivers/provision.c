#include "provision.h"

#include <stddef.h>

#include "crc32.h"
#include "flash.h"
#include "flash_map.h"
#include "store.h"

static bool good(const struct wb_identity *identity) {
    return identity->device_id_bytes != 0 && identity->device_id_bytes <= WB_ID_MAX && identity->gateway_id_bytes != 0 &&
           identity->gateway_id_bytes <= WB_ID_MAX;
}

const struct provision *provision_get(void) {
    const struct provision *block = (const void *)flash_at(FLASH_PROVISION);
    if (block->magic != PROVISION_MAGIC || block->version != PROVISION_VERSION || block->bytes != sizeof *block ||
        block->crc != crc32(0, block, offsetof(struct provision, crc)) || !good(&block->identity)) {
        return NULL;
    }
    return block;
}

const struct wb_identity *provision_identity(void) {
    uint32_t length = 0;
    const struct wb_identity *rotated = (const void *)store_get(STORE_IDENTITY, &length);
    if (rotated != NULL && length == sizeof *rotated && good(rotated)) {
        return rotated;
    }
    const struct provision *block = provision_get();
    return block == NULL ? NULL : &block->identity;
}
