/* Memory-mapped NOR flash: erased by sector to 0xff, programming only turns ones into zeroes.
 * Offsets are from FLASH_BASE (flash_map.h). Every function is bounded in time and returns when the work is done. */
#ifndef FLASH_H
#define FLASH_H

#include <stdbool.h>
#include <stdint.h>

enum flash_status {
    FLASH_OK = 0,
    FLASH_RANGE,     /* outside the flash, or not the start of a sector */
    FLASH_PROTECTED, /* the boot area or the running image */
    FLASH_RULE,      /* a byte other than 0xff would turn a zero into a one */
    FLASH_DEVICE,    /* the controller or the file behind it failed */
};

/* Opens what is behind the flash; once, at boot. */
enum flash_status flash_open(void);
/* Erases the sector that starts at this offset. */
enum flash_status flash_erase(uint32_t offset);
/* Programs bytes; 0xff leaves a byte as it is. Nothing is written when any byte breaks the rule. */
enum flash_status flash_program(uint32_t offset, const uint8_t *data, uint32_t length);
/* Bytes of the sector this offset lies in; 0 outside the flash. */
uint32_t flash_sector_bytes(uint32_t offset);
/* Where the bytes at this offset are mapped. */
const uint8_t *flash_at(uint32_t offset);
/* Erases the sectors that cover [offset, offset + length); offset is the start of a sector. */
enum flash_status flash_erase_range(uint32_t offset, uint32_t length);

/* ---- the part behind it: flash_semihost.c under QEMU, flash_part.c of a board on the chip itself ------------- */
bool flash_part_open(void);
bool flash_part_erase(uint32_t offset, uint32_t bytes);
/* The bytes as they shall lie in flash afterwards. */
bool flash_part_write(uint32_t offset, const uint8_t *data, uint32_t length);

#ifdef FLASH_FAULTS
/* Test builds: the power fails at operation `at` (1 is the first; 0 never). */
enum flash_cut { FLASH_CUT_BEFORE = 'b', FLASH_CUT_HALF = 'h', FLASH_CUT_AFTER = 'a' };
void flash_cut_at(uint32_t at, enum flash_cut where);
uint32_t flash_operations(void);
#endif

#endif
