/* Reset with code in flash: stack, data, bss, main; a trap ends the program. */
    .section .start, "ax"
    .globl start
start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, stack_top
    la t0, trapped
    csrw mtvec, t0
    la t0, data_start
    la t1, data_end
    la t2, data_load
1:  bgeu t0, t1, 2f
    lw t3, 0(t2)
    sw t3, 0(t0)
    addi t0, t0, 4
    addi t2, t2, 4
    j 1b
2:  la t0, bss_start
    la t1, bss_end
3:  bgeu t0, t1, 4f
    sw zero, 0(t0)
    addi t0, t0, 4
    j 3b
4:  li a0, 0
    li a1, 0
    call main
    call platform_exit
    .balign 4
trapped:
    li a0, 99
    call platform_exit

    .option push
    .option norvc
    .option norelax
    .balign 16
    .globl semihost_trap
semihost_trap:
    slli x0, x0, 0x1f
    ebreak
    srai x0, x0, 7
    ret
    .option pop
