#include "provision.h"

#include <stddef.h>

#include "crc32.h"
#include "flash.h"
#include "flash_map.h"

const struct provision *provision_get(void) {
    const struct provision *block = (const void *)flash_at(FLASH_PROVISION);
    if (block->magic != PROVISION_MAGIC || block->version != PROVISION_VERSION || block->bytes != sizeof *block ||
        block->name_bytes == 0 || block->name_bytes > PROVISION_NAME_MAX || block->gateway_bytes > PROVISION_NAME_MAX ||
        block->crc != crc32(0, block, offsetof(struct provision, crc))) {
        return NULL;
    }
    return block;
}
