/* The chip's own flash controller (RM0090 3.6). Not tried: QEMU does not model it. The core waits while a bank it runs
 * from is busy, so this runs in place. */
#include "flash.h"
#include "flash_map.h"
#include "board.h"
#include "hal.h"
#include "stm32_flash.h"

/* A sector of 128 KiB takes 2 s at most (data sheet), 2 cycles a turn at least. */
#define BUSY_TURNS (CORE_HZ / 2u * 3u)

static bool finish(void) {
    for (uint32_t turn = 0; turn < BUSY_TURNS; turn++) {
        if ((FLASH->SR & FLASH_SR_BSY) == 0) {
            const bool good = (FLASH->SR & FLASH_SR_ERRORS) == 0;
            FLASH->SR = FLASH_SR_ERRORS;
            FLASH->CR = FLASH_CR_LOCK;
            return good;
        }
    }
    return false;
}

static void unlock(void) {
    FLASH->KEYR = FLASH_KEYR_KEY1;
    FLASH->KEYR = FLASH_KEYR_KEY2;
    FLASH->SR = FLASH_SR_ERRORS;
}

bool flash_part_open(void) { return true; }

static uint32_t sector_number(uint32_t offset) {
    return offset < 0x10000u ? offset >> 14 : offset < 0x20000u ? 4u : 4u + (offset >> 17);
}

bool flash_part_erase(uint32_t offset, uint32_t bytes) {
    (void)bytes;
    hal_alive(0xf1a5);
    unlock();
    FLASH->CR = FLASH_CR_SER | FLASH_CR_SNB(sector_number(offset));
    FLASH->CR |= FLASH_CR_STRT;
    const bool good = finish();
    FLASH->ACR &= ~FLASH_ACR_DCEN; /* the data cache may hold the old bytes (3.5.2) */
    FLASH->ACR |= FLASH_ACR_DCRST;
    FLASH->ACR = (FLASH->ACR & ~FLASH_ACR_DCRST) | FLASH_ACR_DCEN;
    return good;
}

/* The flash is mapped read only for all else: this store goes with the protection off. */
bool flash_part_write(uint32_t offset, const uint8_t *data, uint32_t length) {
    bool good = true;
    const uint32_t state = hal_interrupts_off();
    mpu_flash_writable(true);
    for (uint32_t i = 0; i < length && good; i++) {
        unlock();
        FLASH->CR = FLASH_CR_PSIZE_X8 | FLASH_CR_PG;
        *(volatile uint8_t *)(uintptr_t)(FLASH_BASE + offset + i) = data[i];
        good = finish();
    }
    mpu_flash_writable(false);
    hal_interrupts_restore(state);
    return good;
}
