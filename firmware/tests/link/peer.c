/* The test device as a program: the link over standard input and output. Arguments: device number, and how many
 * milliseconds of its time pass in a real one. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

static struct device device;

static uint32_t clock_ms(uint32_t speed) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 * speed + (uint64_t)now.tv_nsec * speed / 1000000);
}

int main(int argc, char **argv) {
    const uint32_t number = argc > 1 ? (uint32_t)atoi(argv[1]) : 0;
    const uint32_t speed = argc > 2 ? (uint32_t)atoi(argv[2]) : 1;
    FILE *random = fopen("/dev/urandom", "rb");
    uint8_t seed[32];
    device_clear(&device);
    device_provision(&device, number);
    device.crashed = true;
    device.telemetry_every_ms = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
    if (random == NULL || fread(seed, 1, sizeof seed, random) != sizeof seed) {
        return 1;
    }
    fclose(random);
    wb_seed_make(device.seeds[0], 1, seed);
    if (!device_boot(&device, clock_ms(speed))) {
        return 1;
    }
    uint8_t in[256];
    uint32_t in_used = 0;
    for (;;) {
        device.now_ms = clock_ms(speed);
        const uint32_t wait = wb_link_poll(&device.link, device.now_ms);
        uint8_t out[512];
        const uint32_t length = (uint32_t)wb_link_output(&device.link, out, sizeof out, device.now_ms);
        for (uint32_t at = 0; at < length;) {
            const ssize_t put = write(1, out + at, length - at);
            if (put <= 0) {
                return 0;
            }
            at += (uint32_t)put;
        }
        if (device.resets != 0) {
            device.resets = 0;
            device_boot(&device, device.now_ms);
        }
        struct pollfd ready = {0, POLLIN, 0};
        const uint32_t real = wait / speed + 1;
        poll(&ready, 1, length != 0 || in_used != 0 ? 0 : (int)(real < 20 ? real : 20));
        if (ready.revents != 0 && in_used < sizeof in) {
            const ssize_t got = read(0, in + in_used, sizeof in - in_used);
            if (got <= 0) {
                return 0;
            }
            in_used += (uint32_t)got;
        }
        const uint32_t taken = (uint32_t)wb_link_input(&device.link, in, in_used, clock_ms(speed));
        for (uint32_t i = taken; i < in_used; i++) {
            in[i - taken] = in[i];
        }
        in_used -= taken;
    }
}
