/* Instructions and stack of a handshake and of protecting messages, on a board's machine. Reads bench.bin: the invitation and
 * message 2 as they come over the wire, u32 length before each. */
#include <string.h>

#include "../../link/src/noise.h"
#include "../platform/platform.h"
#include "device.h"

#define PAINT 0xa5u
extern uint8_t stack_bottom[];
static struct device device;
static uint8_t piece[256];

static uint32_t read_piece(int file) {
    uint32_t length = 0;
    if (platform_read(file, &length, 4) != 4 || length > sizeof piece || platform_read(file, piece, length) != length) {
        say("unreadable bench.bin\n");
        platform_exit(2);
    }
    return length;
}

static uint8_t *here(void) {
    uint8_t *sp;
#if defined(__arm__)
    __asm__ volatile("mov %0, sp" : "=r"(sp));
#else
    __asm__ volatile("mv %0, sp" : "=r"(sp));
#endif
    return sp;
}

__attribute__((noinline)) static void paint(void) {
    for (volatile uint8_t *at = stack_bottom; at < here() - 16; at++) {
        *at = PAINT;
    }
}

__attribute__((noinline)) static uint32_t used_below(const uint8_t *top) {
    const uint8_t *at = stack_bottom;
    while (at < top && *at == PAINT) {
        at++;
    }
    return (uint32_t)(top - at);
}

static uint64_t measured(uint32_t (*work)(uint32_t), uint32_t argument, uint32_t *stack) {
    paint();
    const uint32_t start = platform_ticks();
    work(argument);
    const uint32_t end = platform_ticks();
    *stack = used_below(here());
    return platform_instructions(end - start);
}

static uint32_t take(uint32_t length) { return (uint32_t)wb_link_input(&device.link, piece, length, 1000); }

static uint32_t protect(uint32_t length) {
    wb_aead_encrypt(device.link.keys.send_key, 7, NULL, 0, piece, length, piece + length);
    return 0;
}

static uint32_t unprotect(uint32_t length) {
    return wb_aead_decrypt(device.link.keys.send_key, 7, NULL, 0, piece, length, piece + length);
}

static uint32_t boot(uint32_t unused) {
    (void)unused;
    return device_boot(&device, 0);
}

static uint32_t drain(void) {
    uint8_t out[64];
    uint32_t bytes = 0;
    for (;;) {
        const uint32_t more = (uint32_t)wb_link_output(&device.link, out, sizeof out, 1000);
        if (more == 0) {
            return bytes;
        }
        bytes += more;
    }
}

int main(void) {
    const int file = platform_open("bench.bin");
    uint32_t stack;
    platform_ticks();
    device_clear(&device);
    device_provision(&device, 0);
    const uint64_t start = measured(boot, 0, &stack);
    say("boot_insns %u\nboot_stack %u\n", (uint32_t)start, stack);
    drain();
    const uint64_t first = measured(take, read_piece(file), &stack);
    uint32_t deepest = stack;
    drain();
    const uint64_t second = measured(take, read_piece(file), &stack);
    deepest = stack > deepest ? stack : deepest;
    if (!wb_link_up(&device.link)) {
        say("no session\n");
        return 1;
    }
    say("handshake_insns %u\nhandshake_stack %u\n", (uint32_t)(first + second), deepest);
    memset(piece, 0x55, 100);
    say("protect_insns %u\n", (uint32_t)measured(protect, 100, &stack));
    say("protect_stack %u\n", stack);
    say("unprotect_insns %u\n", (uint32_t)measured(unprotect, 100, &stack));
    say("link_bytes %u\n", (uint32_t)sizeof device.link);
    return 0;
}
