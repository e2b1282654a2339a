/* The flash of both boards, 1 MiB, as offsets from FLASH_BASE. The borders are sectors of both parts: of the
 * STM32F405 (4 x 16 KiB, 64 KiB, 7 x 128 KiB) and of the HiFive1's serial flash (4 KiB). gateway_agent's
 * wasmbed/tools/provision.py has the same numbers; a test compares them. */
#ifndef FLASH_MAP_H
#define FLASH_MAP_H

#if defined(BOARD_STM32)
#define FLASH_BASE 0x08000000u
#elif defined(BOARD_HIFIVE1)
#define FLASH_BASE 0x20400000u
#endif
#define FLASH_BYTES 0x100000u
/* A QEMU board's flash file is an ELF file of one segment, so that QEMU itself maps it: the flash begins here. */
#define FLASH_FILE_OFFSET 0x1000u

/* What runs at reset; the firmware never writes it. */
#define FLASH_BOOT 0x00000u
#define FLASH_BOOT_BYTES 0x8000u
/* Two sectors that take turns: seed, rotated keys, modules' states (store.h). */
#define FLASH_STORE_A 0x08000u
#define FLASH_STORE_B 0x0c000u
#define FLASH_STORE_BYTES 0x1000u /* of each sector that is used */
/* The provisioning block (provision.h). */
#define FLASH_PROVISION 0x10000u
/* Two images; the first FLASH_IMAGE_HEADER bytes of a slot are room for the signed header. */
#define FLASH_SLOT0 0x20000u
#define FLASH_SLOT1 0x60000u
#define FLASH_SLOT_BYTES 0x40000u
#define FLASH_IMAGE_HEADER 0x200u
/* Modules, one more than instances run at most, so that an update leaves the old one until the new one is whole. */
#define FLASH_MODULE0 0xa0000u
#define FLASH_MODULE_BYTES 0x20000u
#define FLASH_MODULES 3u

#endif
