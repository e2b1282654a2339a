/* Always-on domain: watchdog and reset cause (FE310-G000 manual chapters 12 to 15). Not modelled by QEMU. */
#ifndef FE310_AON_H
#define FE310_AON_H
#include <stdint.h>

struct fe310_aon {
    volatile uint32_t wdogcfg, reserved0, wdogcount, reserved1, wdogs, reserved2, wdogfeed, wdogkey, wdogcmp0;
};
#define AON ((struct fe310_aon *)0x10000000u)
#define AON_WDOGCFG_SCALE(log2) (log2)
#define AON_WDOGCFG_RSTEN (1u << 8)
#define AON_WDOGCFG_ZEROCMP (1u << 9)
#define AON_WDOGCFG_ENALWAYS (1u << 12)
#define AON_WDOGKEY 0x51f15eu
#define AON_WDOGFEED 0xd09f00du
_Static_assert(sizeof(struct fe310_aon) == 0x24, "chapter 14, register map");

#endif
