/* The device's end of the secure serial link: bytes in, bytes out, no input/output of its own.
 *
 *   COBS frames with CRC-16  >  Noise_IK_25519_AESGCM_SHA256  >  SMP messages (wb_smp.h)
 *
 * The main loop: take bytes out of the UART's receive ring and give them to wb_link_input; whenever the transmit ring
 * has room, fill it from wb_link_output; call wb_link_poll at least once a second (it tells when). A handshake takes
 * WB_LINK_HANDSHAKE_STACK bytes of stack and some 10 to 16 million instructions inside wb_link_input.
 */
#ifndef WB_LINK_H
#define WB_LINK_H

#include "wb_frame.h"
#include "wb_smp.h"

#define WB_LINK_VERSION 1u
#define WB_LINK_HANDSHAKE_STACK 1600u

/* Longest SMP message (8-byte header and CBOR) in and out; a board sets them by -D. */
#ifndef WB_LINK_RX_BYTES
#define WB_LINK_RX_BYTES 320u
#endif
#ifndef WB_LINK_TX_BYTES
#define WB_LINK_TX_BYTES 224u
#endif
/* What a frame adds before COBS: type, counter (LEB128), tag, CRC. */
#define WB_FRAME_OVERHEAD 29u

/* Timing, in milliseconds. */
#define WB_HEARTBEAT_MS 30000u
#define WB_HEARTBEAT_AGAIN_MS 2000u
#define WB_LOST_BEATS 3u
#define WB_KNOCK_FIRST_MS 500u
#define WB_KNOCK_LAST_MS 8000u
#define WB_HANDSHAKE_APART_MS 1000u
#define WB_HANDSHAKE_WAIT_MS 4000u
/* Messages of one direction under one key. */
#ifndef WB_REKEY_MESSAGES
#define WB_REKEY_MESSAGES 4096u
#endif

#define WB_KEY_BYTES 32u
#define WB_ID_MAX 64u
#define WB_SEED_RECORD_BYTES 44u

/* Who this device is and whom it trusts: written at provisioning, changed by key rotation. Lies in mapped flash. */
struct wb_identity {
    uint8_t device_private[WB_KEY_BYTES], device_public[WB_KEY_BYTES];
    uint8_t gateway_public[WB_KEY_BYTES];
    /* While a rotation waits for its first good handshake (flags), else ignored. */
    uint8_t next_private[WB_KEY_BYTES], next_public[WB_KEY_BYTES];
    uint8_t next_gateway_public[WB_KEY_BYTES];
    uint32_t flags; /* WB_IDENTITY_* */
    uint8_t device_id_bytes, gateway_id_bytes;
    uint8_t device_id[WB_ID_MAX], gateway_id[WB_ID_MAX];
    uint8_t reserved[2];
};
#define WB_IDENTITY_NEXT_DEVICE 1u
#define WB_IDENTITY_NEXT_GATEWAY 2u

struct wb_link_host {
    void *context;
    /* The identity as it is stored; the pointer is read at every use. */
    const struct wb_identity *(*identity)(void *context);
    /* Replaces the stored identity, all or nothing: after a power cut the old or the new one is there. */
    bool (*store_identity)(void *context, const struct wb_identity *identity);
    /* The seed of the random generator: two records (slot 0 and 1) in different erase units. Provisioning writes one
     * of them (wb_seed_make, or `wasmbed provision`). A write may be cut anywhere; it must not touch the other slot. */
    bool (*seed_read)(void *context, uint32_t slot, uint8_t record[WB_SEED_RECORD_BYTES]);
    bool (*seed_write)(void *context, uint32_t slot, const uint8_t record[WB_SEED_RECORD_BYTES]);
    /* LINK_UP (true) and LINK_LOST (false), at each change. */
    void (*changed)(void *context, bool up);
};

enum wb_link_counter {
    WB_COUNT_FRAMES_IN,     /* good frames */
    WB_COUNT_FRAMES_OUT,
    WB_COUNT_BAD_FRAMES,    /* COBS, CRC, length, type */
    WB_COUNT_REPLAYS,       /* counter not above the last */
    WB_COUNT_FORGED,        /* tag does not fit: another session, or an attacker */
    WB_COUNT_HANDSHAKES,    /* completed */
    WB_COUNT_REFUSED,       /* handshake answers that did not prove the gateway's key */
    WB_COUNT_REKEYS,
    WB_COUNT_REQUESTS,
    WB_COUNT_BAD_REQUESTS,
    WB_COUNT_LOST,          /* sessions given up for silence */
    WB_COUNT_SIZE
};

struct wb_drbg {
    uint8_t key[32], value[32];
    bool ready;
};

struct wb_cipher_pair {
    uint8_t send_key[32], receive_key[32];
    uint64_t send_counter;    /* of the next message */
    uint64_t receive_counter; /* the lowest that is still accepted */
};

struct wb_handshake {
    uint8_t chaining_key[32], hash[32], ephemeral[32];
};

/* Private. */
struct wb_link {
    const struct wb_link_host *host;
    const struct wb_app *app;
    struct wb_drbg drbg;
    struct wb_cipher_pair keys;
    struct wb_handshake handshake;
    struct wb_frame_in in;
    struct wb_frame_out out;
    uint64_t clock_unix_us; /* at clock_ms */
    uint32_t clock_ms, clock_error_us;
    uint32_t heard_ms, knock_ms, handshake_ms, heartbeat_ms, heartbeat_sent_ms, heartbeat_every_ms;
    uint32_t upload_bytes, upload_at, image_bytes, image_at;
    uint32_t last_delivery;
    uint32_t counters[WB_COUNT_SIZE];
    uint16_t flags;
    uint8_t knocks, tries, heartbeat_seq, note_seq;
    uint8_t rx[WB_LINK_RX_BYTES + WB_FRAME_OVERHEAD];
    uint8_t tx[WB_LINK_TX_BYTES + WB_FRAME_OVERHEAD];
};

/* Starts the link: advances the stored seed. False when that fails: the device then stays silent, as every key it
 * could make might have been made before. now_ms: time since start, here and below; it may wrap. */
bool wb_link_init(struct wb_link *link, const struct wb_link_host *host, const struct wb_app *app, uint32_t now_ms);
/* Takes received bytes; the number taken. Fewer than given: a message waits for the line, so call wb_link_output and
 * come back with the rest. */
size_t wb_link_input(struct wb_link *link, const uint8_t *data, size_t length, uint32_t now_ms);
/* Writes up to `room` bytes to be sent; 0 when there is nothing to say. */
size_t wb_link_output(struct wb_link *link, uint8_t *data, size_t room, uint32_t now_ms);
/* Does what is due; milliseconds until something will be due without input. */
uint32_t wb_link_poll(struct wb_link *link, uint32_t now_ms);
bool wb_link_up(const struct wb_link *link);
/* The counter of enum wb_link_counter. */
uint32_t wb_link_count(const struct wb_link *link, enum wb_link_counter counter);
/* Tells the gateway at once that something changed (a heartbeat ahead of its time). */
void wb_link_hurry(struct wb_link *link);
/* Unix time in microseconds, its age (since the gateway told) and how far it may be off; false before the first. */
bool wb_link_time(const struct wb_link *link, uint32_t now_ms, int64_t *unix_us, uint32_t *age_ms, uint32_t *error_us);
/* Random bytes for applications; false before the seed is there. */
bool wb_link_random(struct wb_link *link, uint8_t *data, size_t length);

/* A seed record for provisioning and tests. */
void wb_seed_make(uint8_t record[WB_SEED_RECORD_BYTES], uint32_t number, const uint8_t seed[32]);

#endif
