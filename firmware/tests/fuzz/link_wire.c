/* Bytes of the wire into the link of a device without a session, and frames into the encoder and back. */
#include <stdlib.h>
#include <string.h>

#include "../link/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct device device;

static void round_trip(const uint8_t *data, size_t size) {
    static uint8_t content[600];
    static uint8_t decoded[602];
    struct wb_frame_out out;
    struct wb_frame_in in = {decoded, sizeof decoded, 0, 0, 0, false};
    if (size == 0 || size > sizeof content - WB_FRAME_CRC_BYTES) {
        return;
    }
    memset(&out, 0, sizeof out);
    memcpy(content, data, size);
    wb_frame_send(&out, content, (uint16_t)size);
    enum wb_frame_result result = WB_FRAME_MORE;
    while (wb_frame_busy(&out)) {
        uint8_t byte;
        wb_frame_give(&out, &byte, 1);
        result = wb_frame_take(&in, byte);
    }
    if (result != WB_FRAME_GOOD || in.used != size || memcmp(decoded, data, size) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t now_ms = 0;
    device_clear(&device);
    /* Keys of its own would be a multiplication for each input. */
    memset(device.identity.device_private, 0x41, 32);
    device.identity.gateway_public[0] = 9;
    uint8_t seed[32] = {1};
    wb_seed_make(device.seeds[0], 1, seed);
    device_boot(&device, now_ms);
    round_trip(data, size);
    while (size != 0) {
        const size_t piece = (size_t)(data[0] % 61) + 1 < size ? (size_t)(data[0] % 61) + 1 : size;
        uint8_t out[64];
        size_t taken = 0;
        now_ms += data[0] > 250 ? 5000 : 10;
        while (taken < piece) {
            taken += wb_link_input(&device.link, data + taken, piece - taken, now_ms);
            while (wb_link_output(&device.link, out, sizeof out, now_ms) != 0) {
            }
        }
        wb_link_poll(&device.link, now_ms);
        data += piece;
        size -= piece;
    }
    if (wb_link_up(&device.link) || device.deliveries != 0 || device.resets != 0 || device.module_bytes != 0) {
        abort();
    }
    return 0;
}
