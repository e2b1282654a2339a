/* What runs at reset: starts slot 0. */
    .syntax unified
    .cpu cortex-m4
    .thumb
    .equ SLOT, 0x08000000 + 0x20000 + 0x200
    .section .vectors, "a"
    .word 0x20000400
    .word boot
    .text
    .thumb_func
    .globl boot
boot:
    ldr r0, =SLOT
    ldr r1, =0xe000ed08     /* VTOR */
    str r0, [r1]
    ldr r1, [r0]
    msr msp, r1
    ldr r0, [r0, #4]
    bx r0
    .ltorg
