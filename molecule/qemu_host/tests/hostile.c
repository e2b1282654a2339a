/* A guest that tries the way out to its host: opens files that are not its flash, writes a large one, runs a command.
 * What was possible comes out of the serial port, a letter each: small is refused, capital is not. */
static int semihost(int number, const void *block) {
    register int r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static volatile unsigned *const usart1 = (void *)0x40011000;

static unsigned length_of(const char *text) {
    unsigned length = 0;
    while (text[length] != 0) {
        length++;
    }
    return length;
}

static int opens(const char *name, unsigned mode) {
    const unsigned block[3] = {(unsigned)name, mode, length_of(name)};
    return semihost(1, block) != -1;
}

static void pause(void) {
    for (volatile int wait = 0; wait < 10000000; wait++) {
    }
}

int main(void) {
    static const struct {
        char letter, name[47];
        unsigned mode;
    } tries[] = {
        {'f', "flash.bin", 3},
        {'p', "/etc/passwd", 0},
        {'u', "../../../../etc/passwd", 0},
        {'o', "/var/lib/wasmbed-qemu/stm32-1/flash.bin", 0},
        {'n', "new", 5},
        {'r', "/run/wasmbed-qemu/stm32-1/control.sock", 3},
    };
    char results[6];
    usart1[3] = (1u << 13) | (1u << 3) | (1u << 2);
    for (int i = 0; i < 6; i++) {
        results[i] = (char)(tries[i].letter - (opens(tries[i].name, tries[i].mode) ? 32 : 0));
    }
    /* Said again and again: the line's service may not be at its end yet. */
    for (int round = 0; round < 20; round++) {
        pause();
        for (int i = 0; i < 6; i++) {
            usart1[1] = (unsigned)results[i];
        }
        usart1[1] = '.';
    }
    const char command[] = "touch /tmp/out";
    const unsigned block[2] = {(unsigned)command, sizeof command - 1};
    semihost(0x12, block);
    for (;;) {
        usart1[1] = '!';
        pause();
    }
}

extern char stack_top[];
__attribute__((section(".vectors"))) const void *const vectors[] = {stack_top, (const void *)main};
