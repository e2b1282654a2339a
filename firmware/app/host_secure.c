/* wasmbed:secure on a device: AES-256-GCM in a CBOR envelope (docs/abi.md), with the key and the numbers that the gateway
 * hands over. BearSSL's constant-time code. */
#include <bearssl.h>
#include <stddef.h>
#include <string.h>

#include "host.h"

enum { VERSION = 1, UP = 0, DOWN = 1 };
enum { NONCE_BYTES = 12, TAG_BYTES = 16, KEY_BYTES = 32, NAME_HASH_BYTES = 16 };
#define BLOCK 1000u
#define LOW 100u
/* Around an envelope's content: heads, number, nonce, tag; the names come on top. */
#define FIXED_BYTES 60u

static struct sealer {
    uint8_t name[NAME_HASH_BYTES]; /* SHA-256 of the application's name, its start */
    uint8_t key[KEY_BYTES];
    uint64_t next, following, newest_down; /* following: 0 none; newest_down: one above the last number taken */
    uint16_t left;
    bool used;
} sealers[APP_INSTANCES];

static void hash_name(struct wb_text application, uint8_t name[NAME_HASH_BYTES]) {
    br_sha256_context context;
    uint8_t digest[br_sha256_SIZE];
    br_sha256_init(&context);
    br_sha256_update(&context, application.data, application.length);
    br_sha256_out(&context, digest);
    memcpy(name, digest, NAME_HASH_BYTES);
}

static struct sealer *find(struct wb_text application) {
    uint8_t name[NAME_HASH_BYTES];
    hash_name(application, name);
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        if (sealers[i].used && memcmp(sealers[i].name, name, sizeof name) == 0) {
            return &sealers[i];
        }
    }
    return NULL;
}

/* A place for another application: one whose application does not run here. */
static struct sealer *place(void) {
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        bool runs = false;
        for (uint32_t j = 0; j < APP_INSTANCES && sealers[i].used; j++) {
            struct wb_start start;
            runs = runs || (instance_record(&app_instances[j], &start) && find(start.application) == &sealers[i]);
        }
        if (!runs) {
            return &sealers[i];
        }
    }
    return NULL;
}

enum wb_rc secure_secret(void *context, struct wb_text application, const uint8_t *key, uint64_t sequence) {
    (void)context;
    struct sealer *sealer = find(application);
    if (sealer == NULL) {
        sealer = place();
        if (sealer == NULL) {
            return WB_RC_NOMEM;
        }
        memset(sealer, 0, sizeof *sealer);
        hash_name(application, sealer->name);
        sealer->used = true;
    }
    if (memcmp(sealer->key, key, KEY_BYTES) != 0) {
        sealer->newest_down = 0;
        sealer->left = 0;
        sealer->following = 0;
    }
    memcpy(sealer->key, key, KEY_BYTES);
    /* A block that was handed over before is not taken twice: its numbers lie below the ones in use. */
    const uint64_t end = sealer->next + sealer->left;
    if (sequence == UINT64_MAX || sequence < end || sequence == sealer->following) {
        return WB_RC_OK;
    }
    if (sealer->left == 0) {
        sealer->next = sequence;
        sealer->left = BLOCK;
    } else {
        sealer->following = sequence;
    }
    return WB_RC_OK;
}

/* The next number; false when they are used up. */
static bool take_number(struct sealer *sealer, uint64_t *number) {
    if (sealer->left == 0 && sealer->following != 0) {
        sealer->next = sealer->following;
        sealer->following = 0;
        sealer->left = BLOCK;
    }
    if (sealer->left == 0) {
        return false;
    }
    *number = sealer->next++;
    sealer->left--;
    return true;
}

/* Asks for another block, again while it does not come. Frames of its own: the stack of the smaller board is short. */
static __attribute__((noinline)) void ask_for_numbers(struct call *call, const struct sealer *sealer, const struct wb_start *start) {
    uint8_t bytes[2 * (WB_NAME_MAX + 2)];
    struct wb_cbor_out args = {bytes, bytes + sizeof bytes, false};
    if (sealer->following != 0 || sealer->left > LOW || sealer->left % (LOW / 2) != 0) {
        return;
    }
    wb_put_text_bytes(&args, start->application.data, start->application.length);
    wb_put_text_bytes(&args, start->device.data, start->device.length);
    if (!args.full) {
        (void)notes_request(call->instance, OP_SEQUENCE, 0, bytes, (uint32_t)(args.at - bytes), 2, NULL, 0);
    }
}

/* ---- AES-256-GCM over content, with the additional data [1, application, device, direction, number] ---------------------- */

static void add_head(br_gcm_context *gcm, uint8_t major, uint64_t value) {
    uint8_t bytes[9];
    struct wb_cbor_out out = {bytes, bytes + sizeof bytes, false};
    wb_put_uint(&out, value);
    bytes[0] = (uint8_t)(bytes[0] | major << 5);
    br_gcm_aad_inject(gcm, bytes, (size_t)(out.at - bytes));
}

static void run(const struct sealer *sealer, const struct wb_start *start, uint32_t direction, uint64_t number,
                const uint8_t nonce[NONCE_BYTES], bool encrypt, uint8_t *data, uint32_t length, uint8_t tag[TAG_BYTES]) {
    br_aes_ct_ctr_keys keys;
    br_gcm_context gcm;
    br_aes_ct_ctr_init(&keys, sealer->key, KEY_BYTES);
    br_gcm_init(&gcm, &keys.vtable, br_ghash_ctmul);
    br_gcm_reset(&gcm, nonce, NONCE_BYTES);
    add_head(&gcm, 4, 5);
    add_head(&gcm, 0, VERSION);
    add_head(&gcm, 3, start->application.length);
    br_gcm_aad_inject(&gcm, start->application.data, start->application.length);
    add_head(&gcm, 3, start->device.length);
    br_gcm_aad_inject(&gcm, start->device.data, start->device.length);
    add_head(&gcm, 0, direction);
    add_head(&gcm, 0, number);
    br_gcm_flip(&gcm);
    br_gcm_run(&gcm, encrypt ? 1 : 0, data, length);
    br_gcm_get_tag(&gcm, tag);
    memset(&keys, 0, sizeof keys);
    __asm__ volatile("" ::"r"(&keys) : "memory"); /* the key schedule is wiped for good */
}

/* Seals into `out`; its length, or why not. Content and out may overlap. */
static __attribute__((noinline)) int32_t seal(struct call *call, const uint8_t nonce[NONCE_BYTES], const uint8_t *content,
                                              uint32_t length, uint8_t *out, uint32_t capacity) {
    struct wb_start start;
    uint8_t tag[TAG_BYTES];
    uint64_t number;
    struct sealer *sealer = instance_record(call->instance, &start) ? find(start.application) : NULL;
    if (length > APP_MESSAGE_MAX) {
        return ABI_TOOBIG;
    }
    if (sealer == NULL) {
        return ABI_UNAVAILABLE;
    }
    if (capacity < FIXED_BYTES + start.application.length + start.device.length + length) {
        return ABI_TOOBIG;
    }
    if (!take_number(sealer, &number)) {
        return ABI_AGAIN;
    }
    /* Out of the way of the heads, which are of different length. */
    uint8_t *text = out + capacity - TAG_BYTES - length;
    memmove(text, content, length);
    run(sealer, &start, UP, number, nonce, true, text, length, tag);
    struct wb_cbor_out heads = {out, out + capacity, false};
    wb_put_map(&heads, 7);
    wb_put_uint(&heads, 1);
    wb_put_uint(&heads, VERSION);
    wb_put_uint(&heads, 2);
    wb_put_text_bytes(&heads, start.application.data, start.application.length);
    wb_put_uint(&heads, 3);
    wb_put_text_bytes(&heads, start.device.data, start.device.length);
    wb_put_uint(&heads, 4);
    wb_put_uint(&heads, UP);
    wb_put_uint(&heads, 5);
    wb_put_uint(&heads, number);
    wb_put_uint(&heads, 6);
    wb_put_bytes(&heads, nonce, NONCE_BYTES);
    wb_put_uint(&heads, 7);
    uint8_t *head = heads.at;
    wb_put_uint(&heads, length + TAG_BYTES);
    *head = (uint8_t)(*head | 2 << 5); /* of a byte string */
    memmove(heads.at, text, length);
    memcpy(heads.at + length, tag, TAG_BYTES);
    return (int32_t)((uint32_t)(heads.at - out) + length + TAG_BYTES);
}

struct envelope {
    uint64_t number;
    uint32_t direction;
    const uint8_t *nonce, *sealed;
    uint32_t sealed_bytes; /* with the tag */
};

static bool is_text(struct wb_cbor map, uint32_t key, struct wb_text text) {
    struct wb_item item;
    return wb_cbor_get(map, key, &item) && item.type == WB_CBOR_TEXT && item.value == text.length &&
           memcmp(item.data, text.data, text.length) == 0;
}

/* Takes an envelope of this application and device apart. */
static bool parse(const struct wb_start *start, const uint8_t *data, uint32_t length, struct envelope *envelope) {
    struct wb_cbor map;
    struct wb_item item;
    uint32_t version;
    if (!wb_cbor_map(data, length, &map) || !wb_cbor_get_u32(map, 1, &version) || version != VERSION ||
        !is_text(map, 2, start->application) || !is_text(map, 3, start->device) ||
        !wb_cbor_get_u32(map, 4, &envelope->direction) || envelope->direction > DOWN ||
        !wb_cbor_get_u64(map, 5, &envelope->number) || !wb_cbor_get_bytes(map, 6, NONCE_BYTES, &envelope->nonce) ||
        !wb_cbor_get(map, 7, &item) || item.type != WB_CBOR_BYTES || item.value < TAG_BYTES) {
        return false;
    }
    envelope->sealed = item.data;
    envelope->sealed_bytes = (uint32_t)item.value;
    return true;
}

/* Decrypts what lies at `text` (already moved there); false, and the bytes are wiped, when it is not authentic. */
static bool open_text(const struct sealer *sealer, const struct wb_start *start, const struct envelope *envelope,
                      const uint8_t nonce[NONCE_BYTES], uint8_t *text, const uint8_t expected[TAG_BYTES]) {
    uint8_t tag[TAG_BYTES];
    uint8_t difference = 0;
    const uint32_t length = envelope->sealed_bytes - TAG_BYTES;
    run(sealer, start, envelope->direction, envelope->number, nonce, false, text, length, tag);
    for (uint32_t i = 0; i < TAG_BYTES; i++) {
        difference = (uint8_t)(difference | (tag[i] ^ expected[i]));
    }
    if (difference != 0) {
        memset(text, 0, length);
    }
    return difference == 0;
}

/* Before and after a seal, with its frames not on the stack. */
static __attribute__((noinline)) void more_numbers(struct call *call) {
    struct wb_start start;
    const struct sealer *sealer = instance_record(call->instance, &start) ? find(start.application) : NULL;
    if (sealer != NULL) {
        ask_for_numbers(call, sealer, &start);
    }
}

int32_t secure_seal(struct call *call) {
    uint8_t nonce[NONCE_BYTES];
    const uint8_t *content = guest(call, call->cells[0], call->cells[1]);
    uint8_t *out = guest(call, call->cells[2], call->cells[3]);
    if (content == NULL || out == NULL) {
        return 0;
    }
    if (!wb_link_random(&app_link, nonce, sizeof nonce)) {
        return ABI_IO;
    }
    const int32_t length = seal(call, nonce, content, call->cells[1], out, call->cells[3]);
    more_numbers(call);
    return length;
}

int32_t secure_unseal(struct call *call) {
    struct wb_start start;
    struct envelope envelope;
    uint8_t nonce[NONCE_BYTES];
    uint8_t tag[TAG_BYTES];
    const uint8_t *data = guest(call, call->cells[0], call->cells[1]);
    uint8_t *out = guest(call, call->cells[2], call->cells[3]);
    if (data == NULL || out == NULL) {
        return 0;
    }
    const struct sealer *sealer = instance_record(call->instance, &start) ? find(start.application) : NULL;
    if (sealer == NULL) {
        return ABI_UNAVAILABLE;
    }
    if (!parse(&start, data, call->cells[1], &envelope)) {
        return ABI_INVALID;
    }
    const uint32_t length = envelope.sealed_bytes - TAG_BYTES;
    if (length > call->cells[3]) {
        return ABI_TOOBIG;
    }
    memcpy(nonce, envelope.nonce, sizeof nonce);
    memcpy(tag, envelope.sealed + length, sizeof tag);
    memmove(out, envelope.sealed, length);
    return open_text(sealer, &start, &envelope, nonce, out, tag) ? (int32_t)length : ABI_INVALID;
}

int32_t secure_send(struct call *call) {
    uint8_t nonce[NONCE_BYTES];
    struct wb_start start;
    const uint8_t *content = guest(call, call->cells[0], call->cells[1]);
    if (content == NULL) {
        return 0;
    }
    if ((app_available & WB_GRANT_SECURE) == 0) {
        return ABI_UNAVAILABLE;
    }
    if (call->cells[1] > APP_MESSAGE_MAX || !instance_record(call->instance, &start)) {
        return ABI_TOOBIG;
    }
    if (!wb_link_random(&app_link, nonce, sizeof nonce)) {
        return ABI_IO;
    }
    /* Sealed where it waits to be sent. */
    const uint32_t capacity = FIXED_BYTES + start.application.length + start.device.length + call->cells[1];
    const uint32_t token = tokens_new(call->instance);
    int32_t refused = token == 0 ? ABI_AGAIN : notes_request(call->instance, OP_SECURE_SEND, token, NULL, 0, 0, NULL, capacity);
    if (refused == 0) {
        const int32_t length = seal(call, nonce, content, call->cells[1], notes_data(), capacity);
        notes_trim(length < 0 ? 0 : (uint32_t)length);
        refused = length < 0 ? length : 0;
    }
    if (refused != 0) {
        tokens_end(call->instance, token);
        return refused;
    }
    more_numbers(call);
    return (int32_t)token;
}

bool secure_open(struct instance *instance, uint8_t *data, uint32_t length, uint32_t *at, uint32_t *bytes,
                 uint64_t *number) {
    struct wb_start start;
    struct envelope envelope;
    uint8_t tag[TAG_BYTES];
    const struct sealer *sealer = instance_record(instance, &start) ? find(start.application) : NULL;
    if (sealer == NULL || !parse(&start, data, length, &envelope) || envelope.direction != DOWN ||
        envelope.number < sealer->newest_down || envelope.number == UINT64_MAX) {
        return false;
    }
    *at = (uint32_t)(envelope.sealed - data);
    *bytes = envelope.sealed_bytes - TAG_BYTES;
    *number = envelope.number;
    memcpy(tag, envelope.sealed + *bytes, sizeof tag);
    return open_text(sealer, &start, &envelope, envelope.nonce, data + *at, tag);
}

void secure_taken(struct instance *instance, uint64_t number) {
    struct wb_start start;
    struct sealer *sealer = instance_record(instance, &start) ? find(start.application) : NULL;
    if (sealer != NULL) {
        sealer->newest_down = number + 1;
    }
}
