/* Sessions: handshakes, protected messages, timers. See wb_link.h and docs/link.md. */
#include <string.h>

#include "drbg.h"
#include "internal.h"
#include "noise.h"

enum { FRAME_KNOCK = 1, FRAME_INVITE = 2, FRAME_MESSAGE1 = 3, FRAME_MESSAGE2 = 4, FRAME_DATA = 5 };
enum { NONCE_BYTES = 16, MAX_EPOCH_STEPS = 4 };
static const char label[] = "wasmbed-link";
#define PROLOGUE_BYTES (sizeof label - 1 + 3 + 2 * WB_ID_MAX + NONCE_BYTES)
_Static_assert(WB_LINK_TX_BYTES >= PROLOGUE_BYTES, "the prologue is made in the transmit buffer");

/* Inlined into one function, these would have the stack of all of them at once. */
#define ALONE __attribute__((noinline))

void wb_wipe(void *data, size_t length) {
    volatile uint8_t *at = data;
    while (length-- != 0) {
        *at++ = 0;
    }
}

static uint32_t since(uint32_t now_ms, uint32_t then_ms) { return now_ms - then_ms; }
static bool has(const struct wb_link *link, uint16_t flag) { return (link->flags & flag) != 0; }
static void set(struct wb_link *link, uint16_t flag) { link->flags = (uint16_t)(link->flags | flag); }
static void clear(struct wb_link *link, uint16_t flag) { link->flags = (uint16_t)(link->flags & ~flag); }

static void send(struct wb_link *link, size_t length) {
    wb_frame_send(&link->out, link->tx, (uint16_t)length);
    link->counters[WB_COUNT_FRAMES_OUT]++;
}

bool wb_link_init(struct wb_link *link, const struct wb_link_host *host, const struct wb_app *app, uint32_t now_ms) {
    memset(link, 0, sizeof *link);
    link->host = host;
    link->app = app;
    link->in.buffer = link->rx;
    link->in.capacity = sizeof link->rx;
    link->heartbeat_every_ms = WB_HEARTBEAT_MS;
    link->knock_ms = now_ms;
    if (!wb_drbg_start(&link->drbg, host)) {
        return false;
    }
    set(link, LINK_READY | LINK_KNOCK);
    return true;
}

bool wb_link_up(const struct wb_link *link) { return has(link, LINK_UP_FLAG); }
uint32_t wb_link_count(const struct wb_link *link, enum wb_link_counter counter) { return link->counters[counter]; }
bool wb_link_random(struct wb_link *link, uint8_t *data, size_t length) {
    return wb_drbg_generate(&link->drbg, data, length);
}
void wb_link_hurry(struct wb_link *link) { set(link, LINK_HEARTBEAT); }

bool wb_link_time(const struct wb_link *link, uint32_t now_ms, int64_t *unix_us, uint32_t *age_ms,
                  uint32_t *error_us) {
    if (!has(link, LINK_CLOCK)) {
        return false;
    }
    *age_ms = since(now_ms, link->clock_ms);
    *unix_us = (int64_t)(link->clock_unix_us + (uint64_t)*age_ms * 1000);
    *error_us = link->clock_error_us;
    return true;
}

/* ---- handshake -------------------------------------------------------------------------------------------- */

/* Version, both ids, and the gateway's nonce: a recorded message 1 proves nothing to a gateway that asks anew. */
static size_t make_prologue(const struct wb_identity *identity, const uint8_t *nonce,
                            uint8_t prologue[PROLOGUE_BYTES]) {
    uint8_t *at = prologue;
    memcpy(at, label, sizeof label - 1);
    at += sizeof label - 1;
    *at++ = WB_LINK_VERSION;
    *at++ = identity->device_id_bytes;
    memcpy(at, identity->device_id, identity->device_id_bytes);
    at += identity->device_id_bytes;
    *at++ = identity->gateway_id_bytes;
    memcpy(at, identity->gateway_id, identity->gateway_id_bytes);
    at += identity->gateway_id_bytes;
    memcpy(at, nonce, NONCE_BYTES);
    return (size_t)(at + NONCE_BYTES - prologue);
}

ALONE static void take_invite(struct wb_link *link, const uint8_t *body, size_t length, uint32_t now_ms) {
    const struct wb_identity *identity = link->host->identity(link->host->context);
    if (length != 1 + NONCE_BYTES || body[0] != WB_LINK_VERSION || identity == NULL ||
        identity->device_id_bytes > WB_ID_MAX || identity->gateway_id_bytes > WB_ID_MAX) {
        link->counters[WB_COUNT_BAD_FRAMES]++;
        return;
    }
    /* Anyone on the wire can invite, and a handshake is a second of work. */
    if (!has(link, LINK_READY) ||
        (has(link, LINK_TRIED) && since(now_ms, link->handshake_ms) < WB_HANDSHAKE_APART_MS)) {
        return;
    }
    const size_t prologue_length = make_prologue(identity, body + 1, link->tx + 1);
    wb_drbg_mix(&link->drbg, body + 1, NONCE_BYTES);
    wb_drbg_generate(&link->drbg, link->handshake.ephemeral, sizeof link->handshake.ephemeral);
    /* A rotation's keys first, then those before, in turn. */
    const uint32_t rotating = (link->tries++ & 1) == 0 ? identity->flags : 0;
    const bool device = (rotating & WB_IDENTITY_NEXT_DEVICE) != 0;
    const bool made = wb_noise_write1(
        &link->handshake, link->tx + 1, prologue_length, device ? identity->next_private : identity->device_private,
        device ? identity->next_public : identity->device_public,
        (rotating & WB_IDENTITY_NEXT_GATEWAY) != 0 ? identity->next_gateway_public : identity->gateway_public, NULL, 0,
        link->tx + 1);
    link->handshake_ms = now_ms;
    set(link, LINK_TRIED);
    link->knock_ms = now_ms;
    if (!made) {
        link->counters[WB_COUNT_REFUSED]++;
        return;
    }
    clear(link, LINK_KNOCK | LINK_NEXT_KEYS);
    set(link, rotating != 0 ? LINK_HANDSHAKE | LINK_NEXT_KEYS : LINK_HANDSHAKE);
    link->tx[0] = FRAME_MESSAGE1;
    send(link, 1 + WB_NOISE_MESSAGE1);
}

/* The rotation's keys have proved good: they become the keys. */
ALONE static void promote(struct wb_link *link, const struct wb_identity *identity) {
    struct wb_identity next = *identity;
    if ((next.flags & WB_IDENTITY_NEXT_DEVICE) != 0) {
        memcpy(next.device_private, next.next_private, WB_KEY_BYTES);
        memcpy(next.device_public, next.next_public, WB_KEY_BYTES);
    }
    if ((next.flags & WB_IDENTITY_NEXT_GATEWAY) != 0) {
        memcpy(next.gateway_public, next.next_gateway_public, WB_KEY_BYTES);
    }
    wb_wipe(next.next_private, WB_KEY_BYTES);
    next.flags = 0;
    /* When the flash refuses, the rotation waits on and is tried again with the next handshake. */
    link->host->store_identity(link->host->context, &next);
    wb_wipe(&next, sizeof next);
}

ALONE static void take_message2(struct wb_link *link, uint8_t *body, size_t length, uint32_t now_ms) {
    const struct wb_identity *identity = link->host->identity(link->host->context);
    if (!has(link, LINK_HANDSHAKE) || length != WB_NOISE_MESSAGE2 || identity == NULL) {
        link->counters[WB_COUNT_BAD_FRAMES]++;
        return;
    }
    const bool rotated = has(link, LINK_NEXT_KEYS);
    const bool device = rotated && (identity->flags & WB_IDENTITY_NEXT_DEVICE) != 0;
    if (!wb_noise_read2(&link->handshake, device ? identity->next_private : identity->device_private, body, length,
                        &link->keys)) {
        link->counters[WB_COUNT_REFUSED]++;
        return;
    }
    clear(link, LINK_HANDSHAKE | LINK_NEXT_KEYS | LINK_KNOCK | LINK_HEARTBEAT_SENT);
    link->counters[WB_COUNT_HANDSHAKES]++;
    link->heard_ms = now_ms;
    link->knocks = 0;
    link->tries = 0;
    wb_smp_new_session(link);
    set(link, LINK_HEARTBEAT); /* the first message tells the gateway that this session is the one */
    if (rotated) {
        promote(link, identity);
    }
    if (!has(link, LINK_UP_FLAG)) {
        set(link, LINK_UP_FLAG);
        if (link->host->changed != NULL) {
            link->host->changed(link->host->context, true);
        }
    }
}

static void lose(struct wb_link *link, uint32_t now_ms) {
    clear(link, LINK_UP_FLAG | LINK_HEARTBEAT | LINK_HEARTBEAT_SENT);
    set(link, LINK_KNOCK);
    wb_wipe(&link->keys, sizeof link->keys);
    link->knock_ms = now_ms;
    link->knocks = 0;
    link->counters[WB_COUNT_LOST]++;
    if (link->host->changed != NULL) {
        link->host->changed(link->host->context, false);
    }
}

/* ---- protected messages ----------------------------------------------------------------------------------- */

/* LEB128 in its shortest form; the number of bytes, 0 when it is not one. */
static uint32_t read_counter(const uint8_t *data, size_t length, uint64_t *counter) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < length && i < 10; i++) {
        if (i == 9 && data[i] > 1) {
            return 0;
        }
        value |= (uint64_t)(data[i] & 0x7f) << (7 * i);
        if ((data[i] & 0x80) == 0) {
            *counter = value;
            return data[i] == 0 && i != 0 ? 0 : i + 1;
        }
    }
    return 0;
}

static uint32_t write_counter(uint8_t *data, uint64_t counter) {
    uint32_t length = 0;
    do {
        data[length] = (uint8_t)(counter & 0x7f);
        counter >>= 7;
        data[length++] |= counter != 0 ? 0x80 : 0;
    } while (counter != 0);
    return length;
}

/* Encrypts the message that starts at tx + 1 + the counter's bytes and sends it. */
static void protect(struct wb_link *link, uint32_t counter_bytes, size_t length) {
    struct wb_cipher_pair *keys = &link->keys;
    if (keys->send_counter != 0 && keys->send_counter % WB_REKEY_MESSAGES == 0) {
        wb_noise_rekey(keys->send_key);
        link->counters[WB_COUNT_REKEYS]++;
    }
    uint8_t *message = link->tx + 1 + counter_bytes;
    wb_aead_encrypt(keys->send_key, keys->send_counter, NULL, 0, message, length, message + length);
    keys->send_counter++;
    send(link, 1 + counter_bytes + length + WB_TAG_BYTES);
}

/* Where a message to send is written, and how much room it has. */
static uint8_t *open_message(struct wb_link *link, uint32_t *counter_bytes) {
    link->tx[0] = FRAME_DATA;
    *counter_bytes = write_counter(link->tx + 1, link->keys.send_counter);
    return link->tx + 1 + *counter_bytes;
}

ALONE static void take_data(struct wb_link *link, uint8_t *body, size_t length, uint32_t now_ms) {
    struct wb_cipher_pair *keys = &link->keys;
    uint64_t counter = 0;
    const uint32_t counter_bytes = read_counter(body, length, &counter);
    if (counter_bytes == 0 || length < counter_bytes + WB_TAG_BYTES + SMP_HEADER) {
        link->counters[WB_COUNT_BAD_FRAMES]++;
        return;
    }
    if (!has(link, LINK_UP_FLAG)) {
        link->counters[WB_COUNT_FORGED]++;
        return;
    }
    if (counter < keys->receive_counter) {
        link->counters[WB_COUNT_REPLAYS]++;
        return;
    }
    /* Keys follow the counter; what is not authentic moves nothing. */
    const uint64_t epoch = keys->receive_counter == 0 ? 0 : (keys->receive_counter - 1) / WB_REKEY_MESSAGES;
    const uint64_t steps = counter / WB_REKEY_MESSAGES - epoch;
    uint8_t key[32];
    if (steps > MAX_EPOCH_STEPS) {
        link->counters[WB_COUNT_FORGED]++;
        return;
    }
    memcpy(key, keys->receive_key, sizeof key);
    for (uint64_t i = 0; i < steps; i++) {
        wb_noise_rekey(key);
    }
    uint8_t *message = body + counter_bytes;
    length -= counter_bytes + WB_TAG_BYTES;
    const bool authentic = wb_aead_decrypt(key, counter, NULL, 0, message, length, message + length);
    if (authentic) {
        memcpy(keys->receive_key, key, sizeof key);
        keys->receive_counter = counter + 1;
    }
    wb_wipe(key, sizeof key);
    if (!authentic) {
        link->counters[WB_COUNT_FORGED]++;
        return;
    }
    link->counters[WB_COUNT_FRAMES_IN]++;
    link->heard_ms = now_ms;
    uint32_t out_counter_bytes;
    uint8_t *out = open_message(link, &out_counter_bytes);
    const size_t answer = wb_smp_handle(link, message, length, out, WB_LINK_TX_BYTES, now_ms);
    if (answer != 0) {
        protect(link, out_counter_bytes, answer);
    }
}

/* ---- bytes ------------------------------------------------------------------------------------------------ */

/* Works on the frame in rx; the transmit buffer is free. */
static void take_frame(struct wb_link *link, uint32_t now_ms) {
    uint8_t *body = link->rx + 1;
    const size_t length = (size_t)link->in.used - 1;
    switch (link->rx[0]) {
    case FRAME_INVITE:
        take_invite(link, body, length, now_ms);
        break;
    case FRAME_MESSAGE2:
        take_message2(link, body, length, now_ms);
        break;
    case FRAME_DATA:
        take_data(link, body, length, now_ms);
        break;
    default:
        link->counters[WB_COUNT_BAD_FRAMES]++;
        break;
    }
    wb_frame_next(&link->in);
    clear(link, LINK_FRAME);
}

size_t wb_link_input(struct wb_link *link, const uint8_t *data, size_t length, uint32_t now_ms) {
    size_t taken = 0;
    for (;;) {
        if (has(link, LINK_FRAME)) {
            if (wb_frame_busy(&link->out)) {
                break;
            }
            take_frame(link, now_ms);
        }
        if (taken == length) {
            break;
        }
        switch (wb_frame_take(&link->in, data[taken++])) {
        case WB_FRAME_GOOD:
            set(link, LINK_FRAME);
            break;
        case WB_FRAME_BAD:
            link->counters[WB_COUNT_BAD_FRAMES]++;
            break;
        default:
            break;
        }
    }
    return taken;
}

/* Puts the next frame into the free transmit buffer, most urgent first; false when there is none. */
static bool fill(struct wb_link *link, uint32_t now_ms) {
    if (has(link, LINK_FRAME)) {
        take_frame(link, now_ms);
        if (wb_frame_busy(&link->out)) {
            return true;
        }
    }
    if (has(link, LINK_RESET)) {
        clear(link, LINK_RESET);
        if (link->app->reset != NULL) {
            link->app->reset(link->app->context);
        }
        return false;
    }
    if (has(link, LINK_UP_FLAG)) {
        uint32_t counter_bytes;
        uint8_t *out = open_message(link, &counter_bytes);
        size_t length = 0;
        if (has(link, LINK_HEARTBEAT)) {
            length = wb_smp_heartbeat(link, out, WB_LINK_TX_BYTES, now_ms);
        } else {
            length = wb_smp_note(link, out, WB_LINK_TX_BYTES);
        }
        if (length != 0) {
            protect(link, counter_bytes, length);
            return true;
        }
    } else if (has(link, LINK_KNOCK)) {
        clear(link, LINK_KNOCK);
        link->tx[0] = FRAME_KNOCK;
        link->tx[1] = WB_LINK_VERSION;
        send(link, 2);
        return true;
    }
    return false;
}

size_t wb_link_output(struct wb_link *link, uint8_t *data, size_t room, uint32_t now_ms) {
    size_t given = 0;
    while (given < room && (wb_frame_busy(&link->out) || fill(link, now_ms))) {
        given += wb_frame_give(&link->out, data + given, room - given);
    }
    return given;
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

uint32_t wb_link_poll(struct wb_link *link, uint32_t now_ms) {
    if (!has(link, LINK_READY)) {
        return UINT32_MAX;
    }
    if (has(link, LINK_HANDSHAKE) && since(now_ms, link->handshake_ms) >= WB_HANDSHAKE_WAIT_MS) {
        clear(link, LINK_HANDSHAKE | LINK_NEXT_KEYS);
        wb_wipe(&link->handshake, sizeof link->handshake);
    }
    if (has(link, LINK_UP_FLAG)) {
        const uint32_t lost_ms = WB_LOST_BEATS * link->heartbeat_every_ms;
        if (since(now_ms, link->heard_ms) >= lost_ms) {
            lose(link, now_ms);
            return 0;
        }
        /* An unanswered one is sent again soon: the first of a session is what confirms it. */
        const uint32_t every = has(link, LINK_HEARTBEAT_SENT) ? least(link->heartbeat_every_ms, WB_HEARTBEAT_AGAIN_MS)
                                                              : link->heartbeat_every_ms;
        const uint32_t passed = since(now_ms, link->heartbeat_ms);
        if (passed >= every) {
            set(link, LINK_HEARTBEAT);
            return 0;
        }
        return least(every - passed, lost_ms - since(now_ms, link->heard_ms));
    }
    if (has(link, LINK_HANDSHAKE)) {
        return WB_HANDSHAKE_WAIT_MS - since(now_ms, link->handshake_ms);
    }
    const uint32_t wait = least(WB_KNOCK_FIRST_MS << least(link->knocks, 8), WB_KNOCK_LAST_MS);
    const uint32_t passed = since(now_ms, link->knock_ms);
    if (passed < wait) {
        return wait - passed;
    }
    set(link, LINK_KNOCK);
    link->knock_ms = now_ms;
    link->knocks = (uint8_t)least(link->knocks + 1u, 255);
    return 0;
}
