/* Reset and trap entry. Traps run on a stack of their own, so that a fault of the main stack still finds a stack:
 * mscratch holds its top while the main program runs. */
    .section .start, "ax"
    .globl start
start:
    csrci mstatus, 8
    csrw mie, zero
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, main_stack_top
    la t0, trap_entry
    csrw mtvec, t0
    la t0, trap_stack_top
    csrw mscratch, t0
    la t0, data_load
    la t1, data_start
    la t2, data_end
    jal t5, copy
#ifdef BOARD_PART
    la t0, itim_load
    la t1, itim_start
    la t2, itim_end
    jal t5, copy
#endif
    la t0, bss_start
    la t1, bss_end
    li t2, 0
    jal t5, fill
    la t0, main_stack_bottom
    mv t1, sp
    li t2, 0x5a5a5a5a
    jal t5, fill
    call hal_init
    call main
    li a0, 0
    call hal_panic

copy:
    bgeu t1, t2, 1f
    lw t3, 0(t0)
    sw t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j copy
fill:
    bgeu t0, t1, 1f
    sw t2, 0(t0)
    addi t0, t0, 4
    j fill
1:  jr t5

    .balign 4
trap_entry:
    csrrw sp, mscratch, sp
    addi sp, sp, -80
    sw ra, 0(sp)
    sw t0, 4(sp)
    sw t1, 8(sp)
    sw t2, 12(sp)
    sw a0, 16(sp)
    sw a1, 20(sp)
    sw a2, 24(sp)
    sw a3, 28(sp)
    sw a4, 32(sp)
    sw a5, 36(sp)
    sw a6, 40(sp)
    sw a7, 44(sp)
    sw t3, 48(sp)
    sw t4, 52(sp)
    sw t5, 56(sp)
    sw t6, 60(sp)
    csrr a0, mcause
    csrr a1, mepc
    mv a2, ra
    csrr a3, mscratch
    csrr a4, mtval
    sw a1, 64(sp)
    call trap_taken
    lw a1, 64(sp)
    csrw mepc, a1
    lw ra, 0(sp)
    lw t0, 4(sp)
    lw t1, 8(sp)
    lw t2, 12(sp)
    lw a0, 16(sp)
    lw a1, 20(sp)
    lw a2, 24(sp)
    lw a3, 28(sp)
    lw a4, 32(sp)
    lw a5, 36(sp)
    lw a6, 40(sp)
    lw a7, 44(sp)
    lw t3, 48(sp)
    lw t4, 52(sp)
    lw t5, 56(sp)
    lw t6, 60(sp)
    addi sp, sp, 80
    csrrw sp, mscratch, sp
    mret

    .option push
    .option norvc
    .option norelax
    .section .text.semihost, "ax"
    .balign 16
    .globl semihost
/* The sequence must be uncompressed and may not cross a page. */
semihost:
    slli x0, x0, 0x1f
    ebreak
    srai x0, x0, 7
    ret
    .option pop
