/* Modules in flash. A place holds a header, the module as it came, and the object translated from it, whose commit word is
 * programmed last. An upload that broke off goes on where its last byte lies. */
#include <bearssl.h>
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "crc32.h"
#include "flash.h"
#include "flash_map.h"

#define MODULE_MAGIC 0x444d4257u /* "WBMD" */

struct module_header {
    uint32_t magic, bytes;
    uint8_t digest[WB_DIGEST_SIZE];  /* of the image: its name */
    uint8_t content[WB_DIGEST_SIZE]; /* SHA-256 of the module's bytes */
    uint32_t crc;
};

static uint8_t uploading; /* place number + 1, 0 without one */

static uint32_t place(uint32_t number) { return FLASH_MODULE0 + number * FLASH_MODULE_BYTES; }
static uint32_t raw_at(uint32_t number) { return place(number) + (uint32_t)sizeof(struct module_header); }
static const struct module_header *header_of(uint32_t number) { return (const void *)flash_at(place(number)); }

static bool has_header(uint32_t number) {
    const struct module_header *header = header_of(number);
    return header->magic == MODULE_MAGIC && header->bytes != 0 && header->bytes <= APP_MODULE_BYTES &&
           header->crc == crc32(0, header, offsetof(struct module_header, crc));
}

static uint32_t object_at(uint32_t number) { return (raw_at(number) + header_of(number)->bytes + 7u) & ~7u; }
static uint32_t object_room(uint32_t number) { return place(number) + FLASH_MODULE_BYTES - object_at(number); }

static bool is_whole(uint32_t number) {
    return has_header(number) && wbi_object_check(flash_at(object_at(number)), object_room(number)) == WBI_OK;
}

static bool is_erased(uint32_t offset, uint32_t length) {
    const uint8_t *at = flash_at(offset);
    for (uint32_t i = 0; i < length; i++) {
        if (at[i] != 0xff) {
            return false;
        }
    }
    return true;
}

static uint32_t find(const uint8_t *digest) {
    for (uint32_t i = 0; i < FLASH_MODULES; i++) {
        if (has_header(i) && memcmp(header_of(i)->digest, digest, WB_DIGEST_SIZE) == 0) {
            return i;
        }
    }
    return FLASH_MODULES;
}

/* A place for a new module: one that holds none, else one that nobody runs. */
static uint32_t choose(void) {
    uint32_t chosen = FLASH_MODULES;
    for (uint32_t i = 0; i < FLASH_MODULES; i++) {
        if (!is_whole(i)) {
            return i;
        }
        if (!instances_use(header_of(i)->digest)) {
            chosen = i;
        }
    }
    return chosen;
}

/* How much of a module that broke off is there: up to its last byte that is not 0xff, which is written again. */
static uint32_t received(uint32_t number) {
    uint32_t length = header_of(number)->bytes;
    const uint8_t *raw = flash_at(raw_at(number));
    while (length != 0 && raw[length - 1] == 0xff) {
        length--;
    }
    return length == 0 ? 0 : length - 1;
}

enum wb_rc modules_begin(void *context, const uint8_t *digest, const uint8_t *content, uint32_t bytes, uint32_t *offset,
                         struct wb_why *why) {
    (void)context;
    uploading = 0;
    if (bytes > APP_MODULE_BYTES) {
        why->text = "the module is larger than this device takes";
        return WB_RC_NOMEM;
    }
    uint32_t number = find(digest);
    if (number != FLASH_MODULES && header_of(number)->bytes == bytes &&
        memcmp(header_of(number)->content, content, WB_DIGEST_SIZE) == 0) {
        if (is_whole(number)) {
            *offset = bytes;
            return WB_RC_OK;
        }
        if (is_erased(object_at(number), object_room(number))) {
            uploading = (uint8_t)(number + 1);
            *offset = received(number);
            return WB_RC_OK;
        }
    }
    number = number != FLASH_MODULES ? number : choose();
    if (number == FLASH_MODULES) {
        why->text = "every place for a module is in use or kept for an update on trial";
        return WB_RC_NOMEM;
    }
    struct module_header header = {.magic = MODULE_MAGIC, .bytes = bytes};
    memcpy(header.digest, digest, WB_DIGEST_SIZE);
    memcpy(header.content, content, WB_DIGEST_SIZE);
    header.crc = crc32(0, &header, offsetof(struct module_header, crc));
    if (flash_erase_range(place(number), FLASH_MODULE_BYTES) != FLASH_OK ||
        flash_program(place(number), (const uint8_t *)&header, sizeof header) != FLASH_OK) {
        why->text = "the flash failed";
        return WB_RC_UNKNOWN;
    }
    uploading = (uint8_t)(number + 1);
    *offset = 0;
    return WB_RC_OK;
}

enum wb_rc modules_write(void *context, uint32_t offset, const uint8_t *data, uint32_t length, struct wb_why *why) {
    (void)context;
    if (uploading == 0 || flash_program(raw_at(uploading - 1u) + offset, data, length) != FLASH_OK) {
        why->text = "the flash failed";
        return WB_RC_UNKNOWN;
    }
    return WB_RC_OK;
}

static bool program(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    return flash_program(*(const uint32_t *)context + offset, data, length) == FLASH_OK;
}

static void forget(uint32_t number) {
    static const uint8_t nothing[4];
    (void)flash_program(place(number), nothing, sizeof nothing);
}

static bool has_digest(uint32_t number) {
    br_sha256_context context;
    uint8_t digest[br_sha256_SIZE];
    br_sha256_init(&context);
    br_sha256_update(&context, flash_at(raw_at(number)), header_of(number)->bytes);
    br_sha256_out(&context, digest);
    return memcmp(digest, header_of(number)->content, sizeof digest) == 0;
}

/* Validates and translates in one pass, out of the flash into the flash. */
static enum wbi_status translate(uint32_t number, struct wb_why *why) {
    uint32_t room;
    uint8_t *scratch = instances_borrow(&room);
    struct wbi_loader *loader = (void *)scratch;
    uint32_t object = object_at(number);
    const struct wbi_flash flash = {&object, flash_at(object), object_room(number), program};
    const struct wbi_load_limits limits = {.memory_bytes = APP_MEMORY_BYTES, .stack_bytes = APP_STACK_BYTES};
    const uint32_t loader_bytes = (sizeof *loader + 7u) & ~7u;
    enum wbi_status status = wbi_load_begin(loader, &flash, scratch + loader_bytes, room - loader_bytes, &limits);
    if (status == WBI_OK) {
        status = wbi_load_feed(loader, flash_at(raw_at(number)), header_of(number)->bytes);
    }
    if (status == WBI_OK) {
        status = wbi_load_finish(loader, header_of(number)->digest);
    }
    if (status != WBI_OK) {
        why->text = wbi_status_name(status);
        why->name = (struct wb_text){loader->error.reason, (uint32_t)strlen(loader->error.reason)};
    }
    return status;
}

enum wb_rc modules_end(void *context, struct wb_why *why) {
    (void)context;
    if (uploading == 0) {
        return WB_RC_BADSTATE;
    }
    const uint32_t number = uploading - 1u;
    uploading = 0;
    if (!has_digest(number)) {
        forget(number);
        why->text = "the module does not have its digest";
        return WB_RC_CORRUPT;
    }
    const enum wbi_status status = translate(number, why);
    if (status == WBI_OK) {
        return WB_RC_OK;
    }
    forget(number);
    return status == WBI_FLASH_FAILED ? WB_RC_UNKNOWN : status == WBI_FLASH_FULL ? WB_RC_NOMEM : WB_RC_CORRUPT;
}

uint32_t modules_count(void *context) {
    (void)context;
    uint32_t count = 0;
    for (uint32_t i = 0; i < FLASH_MODULES; i++) {
        count += is_whole(i);
    }
    return count;
}

bool modules_row(void *context, uint32_t index, struct wb_module_row *row) {
    (void)context;
    for (uint32_t i = 0; i < FLASH_MODULES; i++) {
        if (is_whole(i) && index-- == 0) {
            row->digest = header_of(i)->digest;
            row->bytes = header_of(i)->bytes;
            return true;
        }
    }
    return false;
}

enum wb_rc modules_remove(void *context, const uint8_t *digest) {
    (void)context;
    const uint32_t number = find(digest);
    if (number == FLASH_MODULES) {
        return WB_RC_NOENT;
    }
    if (instances_use(digest)) {
        return WB_RC_BUSY;
    }
    forget(number);
    return WB_RC_OK;
}

const uint8_t *modules_object(const uint8_t *digest) {
    const uint32_t number = find(digest);
    return number != FLASH_MODULES && is_whole(number) ? flash_at(object_at(number)) : NULL;
}
