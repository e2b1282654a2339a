/* What runs at reset, and after a reset under QEMU: starts slot 0. */
    .equ SLOT, 0x20400000 + 0x20000 + 0x200
    .section .start, "ax"
    .globl boot
boot:
    csrci mstatus, 8
    li t0, SLOT
    jr t0
