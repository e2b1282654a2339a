/* The serial flash behind QSPI0 (IS25LP128: 4 KiB sectors, pages of 256 bytes). Not tried: QEMU does not model it. While a
 * command is under way nothing may be fetched from the flash, so this code is copied to the instruction memory. */
#include <stddef.h>

#include "board.h"
#include "fe310_spi.h"
#include "flash.h"
#include "flash_map.h"
#include "hal.h"

#define ITIM __attribute__((section(".itim"), noinline, used))
enum { CMD_WRITE_ENABLE = 0x06, CMD_READ_STATUS = 0x05, CMD_PAGE_PROGRAM = 0x02, CMD_SECTOR_ERASE = 0x20 };
#define STATUS_BUSY 1u
#define PAGE 256u
/* The chip's map begins 4 MiB before ours. */
#define CHIP_OFFSET 0x400000u
/* A sector takes 300 ms at most (data sheet). */
#define BUSY_POLLS 200000u

ITIM static uint32_t exchange(uint32_t byte) {
    for (uint32_t turn = 0; turn < WAIT_TURNS && (QSPI0->txdata & SPI_TXDATA_FULL) != 0; turn++) {
    }
    QSPI0->txdata = byte;
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        const uint32_t got = QSPI0->rxdata;
        if ((got & SPI_RXDATA_EMPTY) == 0) {
            return got & 0xffu;
        }
    }
    return 0xff;
}

/* One write or erase with everything it needs; true when the flash came back idle in time. */
ITIM static bool command(uint32_t code, uint32_t address, const uint8_t *data, uint32_t length) {
    QSPI0->fctrl = 0;
    QSPI0->fmt = SPI_FMT_SINGLE_8BIT;
    (void)exchange(CMD_WRITE_ENABLE);
    QSPI0->csmode = SPI_CSMODE_HOLD;
    (void)exchange(code);
    (void)exchange(address >> 16);
    (void)exchange(address >> 8 & 0xffu);
    (void)exchange(address & 0xffu);
    for (uint32_t i = 0; i < length; i++) {
        (void)exchange(data[i]);
    }
    QSPI0->csmode = SPI_CSMODE_AUTO;
    bool idle = false;
    for (uint32_t poll = 0; poll < BUSY_POLLS && !idle; poll++) {
        QSPI0->csmode = SPI_CSMODE_HOLD;
        (void)exchange(CMD_READ_STATUS);
        idle = (exchange(0) & STATUS_BUSY) == 0;
        QSPI0->csmode = SPI_CSMODE_AUTO;
    }
    QSPI0->fctrl = SPI_FCTRL_MAPPED;
    __asm__ volatile("fence.i" ::: "memory");
    return idle;
}

bool flash_part_open(void) { return true; }

bool flash_part_erase(uint32_t offset, uint32_t bytes) {
    (void)bytes;
    hal_alive(0xf1a5);
    const uint32_t state = hal_interrupts_off();
    const bool good = command(CMD_SECTOR_ERASE, CHIP_OFFSET + offset, NULL, 0);
    hal_interrupts_restore(state);
    return good;
}

bool flash_part_write(uint32_t offset, const uint8_t *data, uint32_t length) {
    bool good = true;
    while (length != 0 && good) {
        const uint32_t left = PAGE - offset % PAGE;
        const uint32_t part = length < left ? length : left;
        const uint32_t state = hal_interrupts_off();
        good = command(CMD_PAGE_PROGRAM, CHIP_OFFSET + offset, data, part);
        hal_interrupts_restore(state);
        offset += part;
        data += part;
        length -= part;
    }
    return good;
}
