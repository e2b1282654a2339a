/* A guest that says one byte when it starts and then hangs as a lost core does, its interrupts masked; built with SPEAKS
 * it goes on speaking. */
static volatile unsigned *const usart1 = (void *)0x40011000;

int main(void) {
    usart1[3] = (1u << 13) | (1u << 3);
    usart1[1] = 'B';
    __asm__ volatile("cpsid i");
    for (;;) {
#ifdef SPEAKS
        for (volatile int wait = 0; wait < 200000; wait++) {
        }
        usart1[1] = '.';
#endif
    }
}

extern char stack_top[];
__attribute__((section(".vectors"))) const void *const vectors[] = {stack_top, (const void *)main};
