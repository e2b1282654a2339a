/* Core peripherals of the Cortex-M4 (PM0214 chapter 4): NVIC, SCB, STK, MPU, FPU. */
#ifndef CORTEX_M4_H
#define CORTEX_M4_H
#include <stdint.h>

struct cortex_m4_stk {
    volatile uint32_t CTRL, LOAD, VAL, CALIB;
};
#define STK ((struct cortex_m4_stk *)0xe000e010u)
#define STK_CTRL_ENABLE 1u
#define STK_CTRL_TICKINT 2u
#define STK_CTRL_CLKSOURCE 4u

#define NVIC_ISER ((volatile uint32_t *)0xe000e100u)
#define NVIC_IPR ((volatile uint8_t *)0xe000e400u)

struct cortex_m4_scb {
    volatile uint32_t CPUID, ICSR, VTOR, AIRCR, SCR, CCR, SHPR1, SHPR2, SHPR3, SHCSR, CFSR, HFSR, DFSR, MMFAR, BFAR, AFSR;
};
#define SCB ((struct cortex_m4_scb *)0xe000ed00u)
#define SCB_ICSR_PENDSTSET (1u << 26)
#define SCB_ICSR_PENDSTCLR (1u << 25)
#define SCB_AIRCR_VECTKEY (0x5fau << 16)
#define SCB_AIRCR_SYSRESETREQ (1u << 2)
#define SCB_CCR_UNALIGN_TRP (1u << 3)
#define SCB_CCR_DIV_0_TRP (1u << 4)
#define SCB_SHCSR_MEMFAULTENA (1u << 16)
#define SCB_SHCSR_BUSFAULTENA (1u << 17)
#define SCB_SHCSR_USGFAULTENA (1u << 18)
#define SCB_CFSR_IACCVIOL 1u
#define SCB_CFSR_DACCVIOL (1u << 1)
#define SCB_CFSR_MSTKERR (1u << 4)
#define SCB_CFSR_MMARVALID (1u << 7)
#define SCB_CFSR_IBUSERR (1u << 8)
#define SCB_CFSR_BFARVALID (1u << 15)
#define SCB_CFSR_UNDEFINSTR (1u << 16)
#define SCB_CFSR_INVSTATE (1u << 17)
#define SCB_CFSR_UNALIGNED (1u << 24)
#define SCB_CFSR_DIVBYZERO (1u << 25)

struct cortex_m4_mpu {
    volatile uint32_t TYPER, CTRL, RNR, RBAR, RASR;
};
#define MPU ((struct cortex_m4_mpu *)0xe000ed90u)
#define MPU_CTRL_ENABLE 1u
#define MPU_CTRL_HFNMIENA 2u
#define MPU_CTRL_PRIVDEFENA 4u
#define MPU_RASR_ENABLE 1u
#define MPU_RASR_SIZE(log2) (((log2)-1u) << 1)
#define MPU_RASR_AP_NONE 0u
#define MPU_RASR_AP_RW (3u << 24)
#define MPU_RASR_AP_RO (7u << 24)
#define MPU_RASR_XN (1u << 28)
#define MPU_RASR_NORMAL (1u << 17)

#define FPU_CPACR (*(volatile uint32_t *)0xe000ed88u)

#endif
