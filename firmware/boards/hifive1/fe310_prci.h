/* Power, reset, clock, interrupt (FE310-G000 manual chapter 6). QEMU answers that every oscillator is ready. */
#ifndef FE310_PRCI_H
#define FE310_PRCI_H
#include <stdint.h>

struct fe310_prci {
    volatile uint32_t hfrosccfg, hfxosccfg, pllcfg, plloutdiv;
};
#define PRCI ((struct fe310_prci *)0x10008000u)
#define PRCI_HFXOSC_EN (1u << 30)
#define PRCI_HFXOSC_RDY (1u << 31)
#define PRCI_PLL_SEL (1u << 16)
#define PRCI_PLL_REFSEL (1u << 17)
#define PRCI_PLL_BYPASS (1u << 18)
#define PRCI_PLLOUTDIV_BY_1 (1u << 8)

#endif
