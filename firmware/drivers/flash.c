/* The rules of NOR flash, the same over every part. */
#include "flash.h"

#include <string.h>

#include "flash_map.h"

#define CHUNK 64u

const uint8_t *flash_at(uint32_t offset) { return (const uint8_t *)(uintptr_t)(FLASH_BASE + offset); }

#if defined(BOARD_STM32)
uint32_t flash_sector_bytes(uint32_t offset) {
    return offset >= FLASH_BYTES ? 0 : offset < 0x10000u ? 0x4000u : offset < 0x20000u ? 0x10000u : 0x20000u;
}
#else
uint32_t flash_sector_bytes(uint32_t offset) { return offset < FLASH_BYTES ? 0x1000u : 0; }
#endif

/* The slot this image runs from, by the address of its own code. */
static bool is_protected(uint32_t offset) {
    const uint32_t here = (uint32_t)(uintptr_t)&flash_open - FLASH_BASE;
    const uint32_t slot = here < FLASH_SLOT1 ? FLASH_SLOT0 : FLASH_SLOT1;
    return offset < FLASH_BOOT_BYTES || (offset >= slot && offset < slot + FLASH_SLOT_BYTES);
}

#ifdef FLASH_FAULTS
#include "semihost.h"
static uint32_t operations, cut_at;
static enum flash_cut cut_where;

void flash_cut_at(uint32_t at, enum flash_cut where) {
    operations = 0;
    cut_at = at;
    cut_where = where;
}
uint32_t flash_operations(void) { return operations; }

/* Stops the machine as a power cut would: nothing after this happens. */
static void power_cut(void) {
    for (;;) {
        const uintptr_t block[2] = {0x20026, 42};
        semihost(SEMIHOST_EXIT_EXTENDED, block);
    }
}
/* How much of an operation on `length` bytes is done before the power fails; more than `length`: all, and no cut. */
static uint32_t cut_length(uint32_t length) {
    operations++;
    if (operations != cut_at) {
        return length + 1;
    }
    if (cut_where == FLASH_CUT_BEFORE) {
        power_cut();
    }
    return cut_where == FLASH_CUT_HALF ? length / 2 : length;
}
#else
static uint32_t cut_length(uint32_t length) { return length + 1; }
static void power_cut(void) {}
#endif

enum flash_status flash_open(void) { return flash_part_open() ? FLASH_OK : FLASH_DEVICE; }

enum flash_status flash_erase(uint32_t offset) {
    const uint32_t bytes = flash_sector_bytes(offset);
    if (bytes == 0 || offset % bytes != 0) {
        return FLASH_RANGE;
    }
    if (is_protected(offset)) {
        return FLASH_PROTECTED;
    }
    const uint32_t done = cut_length(bytes);
    if (!flash_part_erase(offset, done < bytes ? done : bytes)) {
        return FLASH_DEVICE;
    }
    if (done <= bytes) {
        power_cut();
    }
    return FLASH_OK;
}

enum flash_status flash_erase_range(uint32_t offset, uint32_t length) {
    const uint32_t end = offset + length;
    while (offset < end) {
        const enum flash_status status = flash_erase(offset);
        if (status != FLASH_OK) {
            return status;
        }
        offset += flash_sector_bytes(offset);
    }
    return FLASH_OK;
}

enum flash_status flash_program(uint32_t offset, const uint8_t *data, uint32_t length) {
    if (offset > FLASH_BYTES || length > FLASH_BYTES - offset) {
        return FLASH_RANGE;
    }
    if (length == 0) {
        return FLASH_OK;
    }
    if (is_protected(offset) || is_protected(offset + length - 1)) {
        return FLASH_PROTECTED;
    }
    const uint8_t *now = flash_at(offset);
    for (uint32_t i = 0; i < length; i++) {
        if (data[i] != 0xff && (data[i] & ~now[i]) != 0) {
            return FLASH_RULE;
        }
    }
    const uint32_t done = cut_length(length);
    const uint32_t all = done < length ? done : length;
    for (uint32_t at = 0; at < all;) {
        uint8_t chunk[CHUNK];
        const uint32_t part = all - at < CHUNK ? all - at : CHUNK;
        for (uint32_t i = 0; i < part; i++) {
            chunk[i] = data[at + i] & now[at + i];
        }
        if (!flash_part_write(offset + at, chunk, part) || memcmp(now + at, chunk, part) != 0) {
            return FLASH_DEVICE;
        }
        at += part;
    }
    if (done <= length) {
        power_cut();
    }
    return FLASH_OK;
}
