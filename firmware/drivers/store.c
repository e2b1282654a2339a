#include "store.h"

#include <stddef.h>
#include <string.h>

#include "crc32.h"
#include "flash.h"
#include "flash_map.h"

struct sector_header {
    uint32_t magic, generation, crc;
};
struct record_header {
    uint8_t type, check; /* a torn header is not taken for a length */
    uint16_t length;
};
#define RECORD_CRC_BYTES 4u

static uint32_t sector;   /* offset of the one in use */
static uint32_t end;      /* where the next record goes, from the sector's start */
static bool torn;         /* what follows `end` is not erased */

static uint8_t check_of(uint32_t type, uint32_t length) { return (uint8_t) ~(type ^ length ^ length >> 8); }

static const struct sector_header *header_of(uint32_t offset) { return (const void *)flash_at(offset); }

static bool is_valid(uint32_t offset) {
    const struct sector_header *header = header_of(offset);
    return header->magic == STORE_MAGIC && header->crc == crc32(0, &header->generation, sizeof header->generation);
}

static uint32_t record_bytes(uint32_t length) {
    return (uint32_t)((sizeof(struct record_header) + length + RECORD_CRC_BYTES + 3u) & ~3u);
}

/* The record at `at` of the sector in use; null at the end or at one that is not whole. */
static const struct record_header *record_at(uint32_t at) {
    const struct record_header *record = (const void *)flash_at(sector + at);
    if (at + sizeof *record > FLASH_STORE_BYTES ||
        record->check != check_of(record->type, record->length) || record->length > STORE_MAX ||
        at + record_bytes(record->length) > FLASH_STORE_BYTES) {
        return NULL;
    }
    const uint32_t covered = (uint32_t)sizeof *record + record->length;
    uint32_t crc;
    memcpy(&crc, (const uint8_t *)record + covered, sizeof crc);
    return crc == crc32(0, record, covered) ? record : NULL;
}

bool store_open(void) {
    const bool a = is_valid(FLASH_STORE_A);
    const bool b = is_valid(FLASH_STORE_B);
    if (!a && !b) {
        return false;
    }
    /* Generations grow by one, so their difference says which is newer across a wrap as well. */
    const bool b_newer = a && b && (int32_t)(header_of(FLASH_STORE_B)->generation - header_of(FLASH_STORE_A)->generation) > 0;
    sector = (b && !a) || b_newer ? FLASH_STORE_B : FLASH_STORE_A;
    end = sizeof(struct sector_header);
    const struct record_header *record;
    while ((record = record_at(end)) != NULL) {
        end += record_bytes(record->length);
    }
    torn = false;
    for (uint32_t at = end; at < FLASH_STORE_BYTES && !torn; at++) {
        torn = *flash_at(sector + at) != 0xff;
    }
    return true;
}

const uint8_t *store_get(enum store_type type, uint32_t *length) {
    const uint8_t *found = NULL;
    for (uint32_t at = sizeof(struct sector_header); at < end;) {
        const struct record_header *record = (const void *)flash_at(sector + at);
        if (record->type == type) {
            found = (const uint8_t *)(record + 1);
            *length = record->length;
        }
        at += record_bytes(record->length);
    }
    return found;
}

/* Writes one record at `*at` of a sector; its check is the last thing written. */
static bool write_record(uint32_t to, uint32_t *at, uint8_t type, const uint8_t *data, uint32_t length) {
    const struct record_header header = {type, check_of(type, length), (uint16_t)length};
    const uint32_t crc = crc32(crc32(0, &header, sizeof header), data, length);
    const uint32_t body = to + *at + (uint32_t)sizeof header;
    if (flash_program(to + *at, (const uint8_t *)&header, sizeof header) != FLASH_OK ||
        flash_program(body, data, length) != FLASH_OK ||
        flash_program(body + length, (const uint8_t *)&crc, sizeof crc) != FLASH_OK) {
        return false;
    }
    *at += record_bytes(length);
    return true;
}

/* Moves the last record of each type, this one in the place of its own, to the other sector. */
static bool compact(enum store_type type, const uint8_t *data, uint32_t length) {
    const uint32_t to = sector == FLASH_STORE_A ? FLASH_STORE_B : FLASH_STORE_A;
    struct sector_header header = {STORE_MAGIC, header_of(sector)->generation + 1, 0};
    header.crc = crc32(0, &header.generation, sizeof header.generation);
    uint32_t at = sizeof header;
    if (flash_erase(to) != FLASH_OK) {
        return false;
    }
    for (uint32_t kind = 1; kind < STORE_TYPES; kind++) {
        uint32_t bytes = length;
        const uint8_t *kept = kind == (uint32_t)type ? data : store_get((enum store_type)kind, &bytes);
        if (kept != NULL && !write_record(to, &at, (uint8_t)kind, kept, bytes)) {
            return false;
        }
    }
    if (flash_program(to, (const uint8_t *)&header, sizeof header) != FLASH_OK) {
        return false;
    }
    sector = to;
    end = at;
    torn = false;
    return true;
}

bool store_put(enum store_type type, const void *data, uint32_t length) {
    if (length > STORE_MAX || (uint32_t)type == 0 || (uint32_t)type >= STORE_TYPES || end == 0) {
        return false;
    }
    if (torn || end + record_bytes(length) > FLASH_STORE_BYTES) {
        return compact(type, data, length);
    }
    if (write_record(sector, &end, (uint8_t)type, data, length)) {
        return true;
    }
    torn = true;
    return false;
}
