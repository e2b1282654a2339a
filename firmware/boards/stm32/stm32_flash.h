/* Flash interface (RM0090 chapter 3) and the device signature (chapter 39). Not modelled by QEMU. */
#ifndef STM32_FLASH_H
#define STM32_FLASH_H
#include <stdint.h>

struct stm32_flash {
    volatile uint32_t ACR, KEYR, OPTKEYR, SR, CR, OPTCR;
};
#define FLASH ((struct stm32_flash *)0x40023c00u)
#define FLASH_ACR_LATENCY_5WS 5u
#define FLASH_ACR_PRFTEN (1u << 8)
#define FLASH_ACR_ICEN (1u << 9)
#define FLASH_ACR_DCEN (1u << 10)
#define FLASH_ACR_DCRST (1u << 12)
#define FLASH_KEYR_KEY1 0x45670123u
#define FLASH_KEYR_KEY2 0xcdef89abu
#define FLASH_SR_ERRORS 0xf2u /* OPERR, WRPERR, PGAERR, PGPERR, PGSERR */
#define FLASH_SR_BSY (1u << 16)
#define FLASH_CR_PG 1u
#define FLASH_CR_SER (1u << 1)
#define FLASH_CR_SNB(sector) ((sector) << 3)
#define FLASH_CR_PSIZE_X8 0u
#define FLASH_CR_STRT (1u << 16)
#define FLASH_CR_LOCK (1u << 31)
#define UNIQUE_ID ((const volatile uint32_t *)0x1fff7a10u)
_Static_assert(sizeof(struct stm32_flash) == 0x18, "RM0090 3.9.10");

#endif
