/* Memory protection and the faults. */
#include "board.h"
#include "cortex_m4.h"
#include "flash_map.h"
#include "hal.h"

#define RAM_BASE 0x20000000u
#define GUARD_BYTES 0x1000u /* the end of the first region is the guard: the RAM begins with the end of the main stack */

static void region(uint32_t number, uint32_t base, uint32_t log2, uint32_t rights) {
    MPU->RNR = number;
    MPU->RBAR = base;
    MPU->RASR = rights | MPU_RASR_SIZE(log2) | MPU_RASR_ENABLE;
}

/* A region of a higher number wins where two overlap. */
void mpu_init(void) {
    region(0, 0x00000000u, 29, MPU_RASR_AP_NONE | MPU_RASR_XN);                        /* null pointers, what lies below the stack; no code but the flash */
    region(1, FLASH_BASE, 20, MPU_RASR_AP_RO | MPU_RASR_NORMAL);                       /* the whole flash is read only */
    region(2, FLASH_BASE, 15, MPU_RASR_AP_NONE | MPU_RASR_XN);                         /* the loader: neither read nor run */
    region(3, RAM_BASE, 17, MPU_RASR_AP_RW | MPU_RASR_NORMAL | MPU_RASR_XN);           /* RAM holds no code */
    region(4, 0x40000000u, 29, MPU_RASR_AP_RW | MPU_RASR_XN);                          /* peripherals */
#ifdef BOARD_PART
    region(5, 0x1fff7a00u, 8, MPU_RASR_AP_RO | MPU_RASR_XN);                           /* the unique id */
#endif
    MPU->CTRL = MPU_CTRL_ENABLE | MPU_CTRL_PRIVDEFENA;
    SCB->SHCSR |= SCB_SHCSR_MEMFAULTENA | SCB_SHCSR_BUSFAULTENA | SCB_SHCSR_USGFAULTENA;
    SCB->CCR |= SCB_CCR_DIV_0_TRP;
    __asm__ volatile("dsb\nisb");
}

#ifdef BOARD_PART
void mpu_flash_writable(int writable) {
    region(1, FLASH_BASE, 20, (writable ? MPU_RASR_AP_RW : MPU_RASR_AP_RO) | MPU_RASR_NORMAL);
    __asm__ volatile("dsb\nisb");
}
#endif

static enum crash_kind kind_of(uint32_t cfsr, uint32_t address, uint32_t sp) {
    if ((cfsr & SCB_CFSR_MSTKERR) != 0 || sp < RAM_BASE ||
        ((cfsr & SCB_CFSR_MMARVALID) != 0 && address >= RAM_BASE - GUARD_BYTES && address < RAM_BASE)) {
        return CRASH_STACK;
    }
    if ((cfsr & (SCB_CFSR_UNDEFINSTR | SCB_CFSR_INVSTATE | SCB_CFSR_IACCVIOL | SCB_CFSR_IBUSERR)) != 0) {
        return CRASH_INSTRUCTION;
    }
    if ((cfsr & SCB_CFSR_UNALIGNED) != 0) {
        return CRASH_ALIGNMENT;
    }
    if ((cfsr & SCB_CFSR_DIVBYZERO) != 0) {
        return CRASH_ARITHMETIC;
    }
    return (cfsr & 0xffffu) != 0 ? CRASH_ACCESS : CRASH_OTHER;
}

/* frame: of the interrupted code, if its stack could take one. */
__attribute__((used)) _Noreturn void fault_taken(const uint32_t *frame);
void fault_taken(const uint32_t *frame) {
    const uint32_t cfsr = SCB->CFSR;
    const uint32_t sp = (uint32_t)(uintptr_t)frame;
    struct crash_registers registers = {.cause = cfsr != 0 ? cfsr : SCB->HFSR, .sp = sp};
    if ((cfsr & SCB_CFSR_MMARVALID) != 0) {
        registers.address = SCB->MMFAR;
    } else if ((cfsr & SCB_CFSR_BFARVALID) != 0) {
        registers.address = SCB->BFAR;
    }
    const enum crash_kind kind = kind_of(cfsr, registers.address, sp);
    /* A frame that was not stacked whole must not be read. */
    if ((cfsr & SCB_CFSR_MSTKERR) == 0 && sp >= RAM_BASE) {
        registers.lr = frame[5];
        registers.pc = frame[6];
        registers.sp = sp + 32;
    }
    crash_now(kind, &registers);
}

__attribute__((naked)) void fault_entry(void);
__attribute__((naked)) void fault_entry(void) {
    __asm__ volatile("cpsid i\n"
                     "tst lr, #4\n"
                     "ite eq\n"
                     "mrseq r0, msp\n"
                     "mrsne r0, psp\n"
                     "b fault_taken");
}

void hal_panic(uint32_t number) {
    (void)hal_interrupts_off();
    const struct crash_registers registers = {
        number, (uint32_t)(uintptr_t)__builtin_return_address(0), 0, (uint32_t)(uintptr_t)__builtin_frame_address(0), 0};
    crash_now(CRASH_PANIC, &registers);
}
