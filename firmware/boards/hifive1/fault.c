/* Locked memory protection, interrupts and faults. */
#include "board.h"
#include "fe310_plic.h"
#include "fe310_uart.h"
#include "flash_map.h"
#include "hal.h"

#define RAM_BASE 0x80000000u
#define GUARD_BYTES 0x1000u /* right below the RAM, whose first bytes are the end of the main stack */

#define PMP_R 1u
#define PMP_W 2u
#define PMP_X 4u
#define PMP_NAPOT (3u << 3)
#define PMP_LOCK (1u << 7)
#define NAPOT(base, bytes) (((base) >> 2) | (((bytes) >> 3) - 1u))
#define RULE(entry, rights) ((uint32_t)(PMP_LOCK | PMP_NAPOT | (rights)) << (8 * ((entry) % 4)))
#define WRITE_CSR(name, value) __asm__ volatile("csrw " #name ", %0" ::"r"(value))

/* Of two entries that match, the lower number counts. Locked entries bind machine mode until the next reset of the hart. */
void pmp_init(void) {
    WRITE_CSR(pmpaddr0, NAPOT(RAM_BASE - GUARD_BYTES, GUARD_BYTES));
    WRITE_CSR(pmpaddr1, NAPOT(0x0u, 0x1000u));                /* null pointers */
    WRITE_CSR(pmpaddr2, NAPOT(FLASH_BASE, FLASH_BOOT_BYTES));           /* the loader: run, not read or written */
    WRITE_CSR(pmpaddr3, NAPOT(FLASH_BASE, FLASH_BYTES));                /* flash: not written */
    WRITE_CSR(pmpaddr4, NAPOT(RAM_BASE, 0x4000u));                      /* RAM holds no code */
    WRITE_CSR(pmpaddr5, NAPOT(0x10000000u, 0x10000000u));               /* nor do peripherals */
    WRITE_CSR(pmpcfg0, RULE(0, 0) | RULE(1, 0) | RULE(2, PMP_X) | RULE(3, PMP_R | PMP_X));
    WRITE_CSR(pmpcfg1, RULE(4, PMP_R | PMP_W) | RULE(5, PMP_R | PMP_W));
}

enum { CAUSE_FETCH_MISALIGNED = 0, CAUSE_FETCH_ACCESS, CAUSE_ILLEGAL, CAUSE_BREAKPOINT, CAUSE_LOAD_MISALIGNED,
       CAUSE_LOAD_ACCESS, CAUSE_STORE_MISALIGNED, CAUSE_STORE_ACCESS };

static enum crash_kind kind_of(uint32_t cause, uint32_t address) {
    switch (cause) {
    case CAUSE_LOAD_ACCESS:
    case CAUSE_STORE_ACCESS:
        return address >= RAM_BASE - GUARD_BYTES && address < RAM_BASE ? CRASH_STACK : CRASH_ACCESS;
    case CAUSE_LOAD_MISALIGNED:
    case CAUSE_STORE_MISALIGNED:
        return CRASH_ALIGNMENT;
    case CAUSE_FETCH_MISALIGNED:
    case CAUSE_FETCH_ACCESS:
    case CAUSE_ILLEGAL:
        return CRASH_INSTRUCTION;
    default:
        return CRASH_OTHER;
    }
}

/* From start.S with the registers of what was interrupted. */
void trap_taken(uint32_t cause, uint32_t pc, uint32_t ra, uint32_t sp, uint32_t value);
void trap_taken(uint32_t cause, uint32_t pc, uint32_t ra, uint32_t sp, uint32_t value) {
    struct crash_registers registers = {cause, pc, ra, sp, 0};
    if (cause == (1u << 31 | 7u)) {
        if (timer_interrupt()) {
            crash_now(CRASH_SUPERVISION, &registers);
        }
        return;
    }
    if (cause == (1u << 31 | 11u)) {
        uint32_t source;
        while ((source = PLIC_CLAIM) != 0) {
            if (source == UART0_IRQ) {
                uart_interrupt();
            } else if (source == UART1_IRQ) {
                sensors_interrupt();
            }
            PLIC_CLAIM = source;
        }
        return;
    }
    registers.address = cause == CAUSE_ILLEGAL ? 0 : value;
    crash_now(kind_of(cause, registers.address), &registers);
}

void hal_panic(uint32_t number) {
    (void)hal_interrupts_off();
    const struct crash_registers registers = {
        number, (uint32_t)(uintptr_t)__builtin_return_address(0), 0, (uint32_t)(uintptr_t)__builtin_frame_address(0), 0};
    crash_now(CRASH_PANIC, &registers);
}
