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

static void say(char letter, int possible) {
    usart1[1] = (unsigned)(possible ? letter - 32 : letter);
}

int main(void) {
    usart1[3] = (1u << 13) | (1u << 3) | (1u << 2);
    for (volatile int wait = 0; wait < 20000000; wait++) {
    }
    say('f', opens("flash.bin", 3));
    say('p', opens("/etc/passwd", 0));
    say('u', opens("../../../../etc/passwd", 0));
    say('o', opens("/var/lib/wasmbed-qemu/stm32-1/flash.bin", 0));
    say('n', opens("new", 5));
    say('r', opens("/run/wasmbed-qemu/stm32-1/control.sock", 3));
    usart1[1] = '.';
    const char command[] = "touch /tmp/out";
    const unsigned block[2] = {(unsigned)command, sizeof command - 1};
    semihost(0x12, block);
    say('s', 1);
    for (;;) {
    }
}

extern char stack_top[];
__attribute__((section(".vectors"))) const void *const vectors[] = {stack_top, (const void *)main};
