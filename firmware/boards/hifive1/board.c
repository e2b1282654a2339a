/* What start-up does, clocks, the watchdog, reset. */
#include "board.h"

#include "fe310_aon.h"
#include "fe310_gpio.h"
#include "fe310_prci.h"
#include "flash_map.h"
#include "hal.h"

const char hal_board_name[] = "hifive1";
extern uint32_t main_stack_top[], main_stack_bottom[];
#define STACK_PAINT 0x5a5a5a5au

void hal_init(void) {
    clock_init();
    crash_boot();
    pmp_init();
    timer_init();
    uart_init();
    hal_alive(0);
    watchdog_start();
    __asm__ volatile("csrsi mstatus, 8");
}

/* 16 MHz from the crystal, the PLL bypassed. Where the crystal does not come the ring oscillator stays and the baud rate
 * is wrong, which the gateway sees as a dead link. */
void clock_init(void) {
    PRCI->hfxosccfg = PRCI_HFXOSC_EN;
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        if ((PRCI->hfxosccfg & PRCI_HFXOSC_RDY) != 0) {
            PRCI->plloutdiv = PRCI_PLLOUTDIV_BY_1;
            PRCI->pllcfg = PRCI_PLL_REFSEL | PRCI_PLL_BYPASS;
            PRCI->pllcfg |= PRCI_PLL_SEL;
            break;
        }
    }
    GPIO->iof_sel &= ~GPIO_IOF_UART0;
    GPIO->iof_en |= GPIO_IOF_UART0;
}

static void unlock(void) { AON->wdogkey = AON_WDOGKEY; }

/* 32,768 Hz / 2^3, compared with 2^15: 8 s, behind the supervision's 4. */
void watchdog_start(void) {
    unlock();
    AON->wdogcmp0 = 0x8000;
    watchdog_feed();
    unlock();
    AON->wdogcfg = AON_WDOGCFG_SCALE(3u) | AON_WDOGCFG_RSTEN | AON_WDOGCFG_ZEROCMP | AON_WDOGCFG_ENALWAYS;
}

void watchdog_feed(void) {
    unlock();
    AON->wdogfeed = AON_WDOGFEED;
}

/* The chip is reset by its watchdog, at once; QEMU has none, so there the loader is entered again: every locked
 * protection stays, and start-up writes the same ones. */
void hal_reset(enum reset_reason reason) {
    (void)hal_interrupts_off();
    crash_note_reset(reason);
#ifdef BOARD_PART
    unlock();
    AON->wdogcmp0 = 0;
    for (uint32_t turn = 0; turn < WAIT_TURNS; turn++) {
        __asm__ volatile("nop");
    }
#endif
    __asm__ volatile("jr %0" ::"r"(FLASH_BASE + FLASH_BOOT));
    __builtin_unreachable();
}

uint32_t hal_interrupts_off(void) {
    uint32_t state;
    __asm__ volatile("csrrci %0, mstatus, 8" : "=r"(state)::"memory");
    return state;
}

void hal_interrupts_restore(uint32_t state) { __asm__ volatile("csrs mstatus, %0" ::"r"(state & 8u) : "memory"); }

uint32_t hal_stack_bytes(void) { return (uint32_t)((uintptr_t)main_stack_top - (uintptr_t)main_stack_bottom); }

uint32_t hal_stack_used(void) {
    const uint32_t *at = main_stack_bottom;
    while (at < main_stack_top && *at == STACK_PAINT) {
        at++;
    }
    return (uint32_t)((uintptr_t)main_stack_top - (uintptr_t)at);
}

/* The chip has a one-time memory and no number of its own; QEMU faults on its address. */
uint32_t hal_unique_id(uint8_t id[12]) {
    (void)id;
    return 0;
}
