/* Frames: 0x00, COBS of {type, body, CRC-16 big-endian}, 0x00. The CRC is CRC-16/IBM-3740 over type and body.
 * Both directions work on one buffer each and a byte at a time, so nothing is held twice. */
#ifndef WB_FRAME_H
#define WB_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WB_FRAME_CRC_BYTES 2u

struct wb_frame_in {
    uint8_t *buffer; /* of `capacity` bytes, the caller's */
    uint16_t capacity, used;
    uint8_t code, left;
    bool bad;
};

struct wb_frame_out {
    const uint8_t *buffer;
    uint16_t used, at;
    uint8_t left, state;
    bool full_block;
};

enum wb_frame_result {
    WB_FRAME_MORE, /* no frame yet */
    WB_FRAME_GOOD, /* buffer holds `used` bytes: type and body, without CRC; call wb_frame_next before more bytes */
    WB_FRAME_BAD   /* bytes up to here were no frame */
};

uint16_t wb_crc16(const uint8_t *data, size_t length);
/* Takes one byte. */
enum wb_frame_result wb_frame_take(struct wb_frame_in *in, uint8_t byte);
void wb_frame_next(struct wb_frame_in *in);
/* Appends the CRC to `used` bytes in the buffer (2 bytes more must fit) and starts to send them. */
void wb_frame_send(struct wb_frame_out *out, uint8_t *buffer, uint16_t used);
bool wb_frame_busy(const struct wb_frame_out *out);
/* The next bytes on the wire; the number written. */
size_t wb_frame_give(struct wb_frame_out *out, uint8_t *data, size_t room);

#endif
