/* Writing the object: one small buffer, NOR rules (a place is programmed once, from 0xff). */
#include <string.h>

#include "internal.h"

const char flash_full[] = "flash full";
static const char program_failed[] = "flash failed";

void note(struct wbi_loader *l, enum wbi_status status, const char *reason) {
    if (l->error.status == WBI_OK) {
        l->error.status = (uint8_t)status;
        l->error.reason = reason;
        l->error.function = l->section == SECTION_CODE ? l->body.index : WBI_NO_FUNCTION;
        l->error.offset = l->pos;
    }
}

void refuse(struct wbi_loader *l, enum wbi_status status, const char *reason) {
    note(l, status, reason);
    __builtin_longjmp(l->escape, 1);
}

void out_flush(struct wbi_loader *l) {
    if (l->page_used != 0) {
        if (!l->flash.program(l->flash.context, l->flushed, l->page, l->page_used)) {
            refuse(l, WBI_FLASH_FAILED, program_failed);
        }
        l->flushed += l->page_used;
        l->page_used = 0;
    }
}

void out_bytes(struct wbi_loader *l, const void *data, uint32_t length) {
    const uint8_t *from = data;
    if (length > l->flash.capacity - l->out) {
        refuse(l, WBI_FLASH_FULL, flash_full);
    }
    l->out += length;
    while (length != 0) {
        uint32_t room = WBI_PAGE_BYTES - l->page_used;
        uint32_t part = length < room ? length : room;
        memcpy(l->page + l->page_used, from, part);
        l->page_used = (uint8_t)(l->page_used + part);
        from += part;
        length -= part;
        if (l->page_used == WBI_PAGE_BYTES) {
            out_flush(l);
        }
    }
}

void out_u16(struct wbi_loader *l, uint32_t value) {
    const uint16_t half = (uint16_t)value;
    out_bytes(l, &half, 2);
}

void out_reserve(struct wbi_loader *l, uint32_t length) {
    if (length > l->flash.capacity - l->out) {
        refuse(l, WBI_FLASH_FULL, flash_full);
    }
    out_flush(l);
    l->out += length;
    l->flushed = l->out;
}

void out_align(struct wbi_loader *l, uint32_t alignment) {
    static const uint8_t erased[4] = {0xff, 0xff, 0xff, 0xff};
    const uint32_t over = l->out & (alignment - 1);
    if (over != 0) {
        out_bytes(l, erased, alignment - over);
    }
}

void out_patch(struct wbi_loader *l, uint32_t offset, const void *data, uint32_t length) {
    if (offset >= l->flushed) {
        memcpy(l->page + (offset - l->flushed), data, length);
        return;
    }
    if (offset + length > l->flushed) { /* lies on both sides: the buffer goes out first */
        out_flush(l);
    }
    if (!l->flash.program(l->flash.context, offset, data, length)) {
        refuse(l, WBI_FLASH_FAILED, program_failed);
    }
}

void out_patch_u16(struct wbi_loader *l, uint32_t offset, uint32_t value) {
    const uint16_t half = (uint16_t)value;
    out_patch(l, offset, &half, 2);
}

void out_patch_u32(struct wbi_loader *l, uint32_t offset, uint32_t value) { out_patch(l, offset, &value, 4); }
