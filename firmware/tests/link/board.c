/* The test device on a board's machine: the link over its first serial port. */
#include "device.h"
#include "uart.h"

static struct device device;

int main(void) {
    uart_open();
    device_clear(&device);
    device_provision(&device, 0);
    if (!device_boot(&device, uart_clock_ms())) {
        return 1;
    }
    uint8_t in[64];
    uint8_t out[64];
    uint32_t in_used = 0;
    uint32_t out_used = 0;
    uint32_t out_at = 0;
    for (;;) {
        device.now_ms = uart_clock_ms();
        while (in_used < sizeof in && uart_get(&in[in_used])) {
            in_used++;
        }
        const uint32_t taken = (uint32_t)wb_link_input(&device.link, in, in_used, device.now_ms);
        for (uint32_t i = taken; i < in_used; i++) {
            in[i - taken] = in[i];
        }
        in_used -= taken;
        if (out_at == out_used) {
            out_at = 0;
            out_used = (uint32_t)wb_link_output(&device.link, out, sizeof out, device.now_ms);
        }
        while (out_at < out_used && uart_put(out[out_at])) {
            out_at++;
        }
        wb_link_poll(&device.link, device.now_ms);
        if (device.resets != 0) {
            device.resets = 0;
            device_boot(&device, device.now_ms);
        }
    }
}
