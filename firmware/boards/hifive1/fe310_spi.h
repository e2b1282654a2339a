/* Serial peripheral interface with the mapped flash, QSPI0 (FE310-G000 manual chapter 19). Not modelled by QEMU. */
#ifndef FE310_SPI_H
#define FE310_SPI_H
#include <stdint.h>

struct fe310_spi {
    volatile uint32_t sckdiv, sckmode, reserved0[2], csid, csdef, csmode, reserved1[3], delay0, delay1, reserved2[4];
    volatile uint32_t fmt, reserved3, txdata, rxdata, txmark, rxmark, reserved4[2], fctrl, ffmt, reserved5[2], ie, ip;
};
#define QSPI0 ((struct fe310_spi *)0x10014000u)
#define SPI_TXDATA_FULL (1u << 31)
#define SPI_RXDATA_EMPTY (1u << 31)
#define SPI_CSMODE_AUTO 0u
#define SPI_CSMODE_HOLD 2u
#define SPI_FMT_SINGLE_8BIT (8u << 16)
#define SPI_FCTRL_MAPPED 1u
_Static_assert(sizeof(struct fe310_spi) == 0x78, "chapter 19, register map");

#endif
