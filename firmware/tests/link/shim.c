/* The test device as a library for ctypes: bytes and time in, bytes out. */
#include <stdlib.h>
#include <string.h>

#include "../../link/src/drbg.h"
#include "../../link/src/noise.h"
#include "device.h"

struct device *shim_new(uint32_t number);
struct device *shim_new(uint32_t number) {
    struct device *device = malloc(sizeof *device);
    if (device != NULL) {
        device_clear(device);
        device_provision(device, number);
    }
    return device;
}

void shim_free(struct device *device);
void shim_free(struct device *device) { free(device); }

int shim_boot(struct device *device, uint32_t now_ms);
int shim_boot(struct device *device, uint32_t now_ms) { return device_boot(device, now_ms); }

/* Power fails after so many bytes of seed writes. */
void shim_cut_seed(struct device *device, uint32_t bytes);
void shim_cut_seed(struct device *device, uint32_t bytes) { device->seed_bytes_left = bytes; }

uint8_t *shim_seed(struct device *device, uint32_t slot);
uint8_t *shim_seed(struct device *device, uint32_t slot) { return device->seeds[slot]; }

struct wb_identity *shim_identity(struct device *device);
struct wb_identity *shim_identity(struct device *device) { return &device->identity; }

uint32_t shim_input(struct device *device, const uint8_t *data, uint32_t length, uint32_t now_ms);
uint32_t shim_input(struct device *device, const uint8_t *data, uint32_t length, uint32_t now_ms) {
    device->now_ms = now_ms;
    return (uint32_t)wb_link_input(&device->link, data, length, now_ms);
}

uint32_t shim_output(struct device *device, uint8_t *data, uint32_t room, uint32_t now_ms);
uint32_t shim_output(struct device *device, uint8_t *data, uint32_t room, uint32_t now_ms) {
    device->now_ms = now_ms;
    return (uint32_t)wb_link_output(&device->link, data, room, now_ms);
}

uint32_t shim_poll(struct device *device, uint32_t now_ms);
uint32_t shim_poll(struct device *device, uint32_t now_ms) { return wb_link_poll(&device->link, now_ms); }

int shim_up(const struct device *device);
int shim_up(const struct device *device) { return wb_link_up(&device->link); }

uint32_t shim_count(const struct device *device, uint32_t counter);
uint32_t shim_count(const struct device *device, uint32_t counter) {
    return wb_link_count(&device->link, (enum wb_link_counter)counter);
}

/* What the test device noted, in this order: ups, losses, deliveries, accepted, resets, identity stores, samples. */
uint32_t shim_note(const struct device *device, uint32_t which);
uint32_t shim_note(const struct device *device, uint32_t which) {
    const uint32_t notes[] = {device->ups,    device->losses,          device->deliveries,    device->accepted,
                              device->resets, device->identity_stores, device->sensor_samples};
    return which < sizeof notes / sizeof notes[0] ? notes[which] : 0;
}

int shim_time(const struct device *device, uint32_t now_ms, int64_t *unix_us, uint32_t *age_ms, uint32_t *error_us);
int shim_time(const struct device *device, uint32_t now_ms, int64_t *unix_us, uint32_t *age_ms, uint32_t *error_us) {
    return wb_link_time(&device->link, now_ms, unix_us, age_ms, error_us);
}

/* ---- parts -------------------------------------------------------------------------------------------------- */

/* Feeds bytes to a frame reader of this capacity; frames are written as u16 length and bytes. Returns the bytes written;
 * the number of bad frames goes to *bad. */
uint32_t shim_frames(const uint8_t *data, uint32_t length, uint32_t capacity, uint8_t *out, uint32_t *bad);
uint32_t shim_frames(const uint8_t *data, uint32_t length, uint32_t capacity, uint8_t *out, uint32_t *bad) {
    uint8_t *buffer = malloc(capacity);
    struct wb_frame_in in = {buffer, (uint16_t)capacity, 0, 0, 0, false};
    uint32_t written = 0;
    *bad = 0;
    for (uint32_t i = 0; i < length && buffer != NULL; i++) {
        const enum wb_frame_result result = wb_frame_take(&in, data[i]);
        *bad += result == WB_FRAME_BAD;
        if (result == WB_FRAME_GOOD) {
            out[written++] = (uint8_t)(in.used >> 8);
            out[written++] = (uint8_t)in.used;
            memcpy(out + written, in.buffer, in.used);
            written += in.used;
            wb_frame_next(&in);
        }
    }
    free(buffer);
    return written;
}

/* The bytes on the wire of a frame, given out in pieces of this size. */
uint32_t shim_encode(const uint8_t *data, uint32_t length, uint32_t piece, uint8_t *out);
uint32_t shim_encode(const uint8_t *data, uint32_t length, uint32_t piece, uint8_t *out) {
    uint8_t *buffer = malloc(length + WB_FRAME_CRC_BYTES);
    struct wb_frame_out frame;
    uint32_t written = 0;
    if (buffer == NULL) {
        return 0;
    }
    memset(&frame, 0, sizeof frame);
    memcpy(buffer, data, length);
    wb_frame_send(&frame, buffer, (uint16_t)length);
    while (wb_frame_busy(&frame)) {
        written += (uint32_t)wb_frame_give(&frame, out + written, piece);
    }
    free(buffer);
    return written;
}

/* Walks everything in a map as the handlers do; the number of items, or -1. */
int32_t shim_cbor(const uint8_t *data, uint32_t length, uint32_t key, uint64_t *value);
int32_t shim_cbor(const uint8_t *data, uint32_t length, uint32_t key, uint64_t *value) {
    struct wb_cbor map;
    struct wb_item item;
    int32_t items = 0;
    if (!wb_cbor_map(data, length, &map)) {
        return -1;
    }
    wb_cbor_get_u64(map, key, value);
    while (wb_cbor_skip(&map)) {
        items++;
    }
    (void)item;
    return map.at == map.end ? items : -2;
}

/* HMAC-DRBG against its standard: seeds, mixes and generates twice; the second output. */
void shim_drbg(const uint8_t seed_record[WB_SEED_RECORD_BYTES], uint8_t out[64]);
void shim_drbg(const uint8_t seed_record[WB_SEED_RECORD_BYTES], uint8_t out[64]) {
    struct device *device = shim_new(0);
    struct wb_drbg drbg;
    memset(out, 0, 64);
    if (device == NULL) {
        return;
    }
    memcpy(device->seeds[0], seed_record, WB_SEED_RECORD_BYTES);
    if (wb_drbg_start(&drbg, &device->host)) {
        wb_drbg_mix(&drbg, (const uint8_t *)"nonce", 5);
        wb_drbg_generate(&drbg, out, 32);
        wb_drbg_generate(&drbg, out + 32, 32);
    }
    shim_free(device);
}

/* AES-256-GCM with Noise's nonce in place; the tag behind the data. */
void shim_seal(const uint8_t key[32], uint64_t counter, uint8_t *data, uint32_t length);
void shim_seal(const uint8_t key[32], uint64_t counter, uint8_t *data, uint32_t length) {
    wb_aead_encrypt(key, counter, NULL, 0, data, length, data + length);
}
