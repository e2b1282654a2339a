/* Messages of an authentic gateway that is out of its mind: SMP, CBOR, start requests. Each message is a length byte
 * (times 4) and its bytes; the header's length is made right, or hardly any would be looked into. */
#include <stdlib.h>
#include <string.h>

#include "../../link/src/internal.h"
#include "../link/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct device device;

static void check_answer(const uint8_t *out, size_t length) {
    struct wb_smp_header header;
    struct wb_cbor map;
    if (length == 0) {
        return;
    }
    if (length > WB_LINK_TX_BYTES || !wb_smp_read_header(out, length, &header) || (header.op & 1) == 0 ||
        !wb_cbor_map(out + SMP_HEADER, length - SMP_HEADER, &map)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t message[WB_LINK_RX_BYTES];
    static uint8_t out[WB_LINK_TX_BYTES];
    device_clear(&device);
    uint8_t seed[32] = {1};
    wb_seed_make(device.seeds[0], 1, seed);
    device_boot(&device, 0);
    struct wb_start start;
    wb_smp_read_start(data, (uint32_t)size, &start);
    while (size > 1) {
        size_t length = (size_t)data[0] * 4;
        data++;
        size--;
        length = length < size ? length : size;
        length = length < sizeof message ? length : sizeof message;
        memcpy(message, data, length);
        if (length >= SMP_HEADER) {
            message[2] = (uint8_t)((length - SMP_HEADER) >> 8);
            message[3] = (uint8_t)(length - SMP_HEADER);
            message[4] = 0;
        }
        check_answer(out, wb_smp_handle(&device.link, message, length, out, sizeof out, 1000));
        wb_smp_note(&device.link, out, sizeof out);
        wb_smp_heartbeat(&device.link, out, sizeof out, 1000);
        data += length;
        size -= length;
    }
    return 0;
}
