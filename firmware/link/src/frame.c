/* COBS: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999. */
#include "wb_frame.h"

uint16_t wb_crc16(const uint8_t *data, size_t length) {
    uint32_t crc = 0xffff;
    for (size_t i = 0; i < length; i++) {
        /* A byte at a time without a table, by the structure of 0x1021. */
        uint32_t x = (crc >> 8 ^ data[i]) & 0xff;
        x ^= x >> 4;
        crc = (crc << 8 ^ x << 12 ^ x << 5 ^ x) & 0xffff;
    }
    return (uint16_t)crc;
}

void wb_frame_next(struct wb_frame_in *in) {
    in->used = 0;
    in->code = 0;
    in->left = 0;
    in->bad = false;
}

static void append(struct wb_frame_in *in, uint8_t byte) {
    if (in->used < in->capacity) {
        in->buffer[in->used++] = byte;
    } else {
        in->bad = true;
    }
}

enum wb_frame_result wb_frame_take(struct wb_frame_in *in, uint8_t byte) {
    if (byte != 0) {
        if (in->left != 0) {
            append(in, byte);
            in->left--;
            return WB_FRAME_MORE;
        }
        if (in->code != 0 && in->code != 0xff) {
            append(in, 0);
        }
        in->code = byte;
        in->left = (uint8_t)(byte - 1);
        return WB_FRAME_MORE;
    }
    if (in->code == 0) {
        return WB_FRAME_MORE; /* delimiters after each other */
    }
    const uint32_t length = in->used;
    const bool whole = !in->bad && in->left == 0 && length > WB_FRAME_CRC_BYTES;
    if (whole && wb_crc16(in->buffer, length - 2) == (in->buffer[length - 2] << 8 | in->buffer[length - 1])) {
        in->used = (uint16_t)(length - WB_FRAME_CRC_BYTES);
        return WB_FRAME_GOOD;
    }
    wb_frame_next(in);
    return WB_FRAME_BAD;
}

enum { IDLE, OPENING, BLOCK, INSIDE, CLOSING };

void wb_frame_send(struct wb_frame_out *out, uint8_t *buffer, uint16_t used) {
    const uint16_t crc = wb_crc16(buffer, used);
    buffer[used] = (uint8_t)(crc >> 8);
    buffer[used + 1] = (uint8_t)crc;
    out->buffer = buffer;
    out->used = (uint16_t)(used + WB_FRAME_CRC_BYTES);
    out->at = 0;
    out->state = OPENING;
}

bool wb_frame_busy(const struct wb_frame_out *out) { return out->state != IDLE; }

/* The length of the run without a zero that starts here, at most 254. */
static uint8_t run(const struct wb_frame_out *out) {
    uint32_t length = 0;
    while (length < 254 && out->at + length < out->used && out->buffer[out->at + length] != 0) {
        length++;
    }
    return (uint8_t)length;
}

static void after_block(struct wb_frame_out *out) {
    if (out->at == out->used) {
        out->state = CLOSING;
        return;
    }
    if (!out->full_block) {
        out->at++; /* the zero that the block's code stands for */
    }
    out->state = BLOCK;
}

size_t wb_frame_give(struct wb_frame_out *out, uint8_t *data, size_t room) {
    size_t given = 0;
    while (given < room && out->state != IDLE) {
        switch (out->state) {
        case OPENING:
            data[given++] = 0;
            out->state = BLOCK;
            break;
        case BLOCK:
            out->left = run(out);
            out->full_block = out->left == 254;
            data[given++] = (uint8_t)(out->left + 1);
            out->state = INSIDE;
            if (out->left == 0) {
                after_block(out);
            }
            break;
        case INSIDE:
            data[given++] = out->buffer[out->at++];
            if (--out->left == 0) {
                after_block(out);
            }
            break;
        default:
            data[given++] = 0;
            out->state = IDLE;
            break;
        }
    }
    return given;
}
