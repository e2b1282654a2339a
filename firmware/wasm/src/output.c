/* Writing the object: one small buffer, NOR rules (a place is programmed once, from 0xff). */
#include <string.h>

#include "internal.h"

bool refuse(struct wbi_loader *l, enum wbi_status status, const char *reason) {
    if (l->error.status == WBI_OK) {
        l->error.status = (uint8_t)status;
        l->error.reason = reason;
        l->error.function = l->section == SECTION_CODE ? l->body.index : WBI_NO_FUNCTION;
        l->error.offset = l->pos;
    }
    return false;
}

bool out_flush(struct wbi_loader *l) {
    if (l->page_used != 0) {
        if (!l->flash.program(l->flash.context, l->flushed, l->page, l->page_used)) {
            return refuse(l, WBI_FLASH_FAILED, "flash could not be programmed");
        }
        l->flushed += l->page_used;
        l->page_used = 0;
    }
    return true;
}

bool out_bytes(struct wbi_loader *l, const void *data, uint32_t length) {
    const uint8_t *from = data;
    if (length > l->flash.capacity - l->out) {
        return refuse(l, WBI_FLASH_FULL, "the module does not fit into its flash");
    }
    l->out += length;
    while (length != 0) {
        uint32_t room = WBI_PAGE_BYTES - l->page_used;
        uint32_t part = length < room ? length : room;
        memcpy(l->page + l->page_used, from, part);
        l->page_used = (uint8_t)(l->page_used + part);
        from += part;
        length -= part;
        if (l->page_used == WBI_PAGE_BYTES && !out_flush(l)) {
            return false;
        }
    }
    return true;
}

bool out_u16(struct wbi_loader *l, uint32_t value) {
    const uint16_t half = (uint16_t)value;
    return out_bytes(l, &half, 2);
}

bool out_reserve(struct wbi_loader *l, uint32_t length) {
    if (length > l->flash.capacity - l->out) {
        return refuse(l, WBI_FLASH_FULL, "the module does not fit into its flash");
    }
    if (!out_flush(l)) {
        return false;
    }
    l->out += length;
    l->flushed = l->out;
    return true;
}

bool out_align(struct wbi_loader *l, uint32_t alignment) {
    static const uint8_t erased[4] = {0xff, 0xff, 0xff, 0xff};
    const uint32_t over = l->out & (alignment - 1);
    return over == 0 || out_bytes(l, erased, alignment - over);
}

bool out_patch(struct wbi_loader *l, uint32_t offset, const void *data, uint32_t length) {
    if (offset >= l->flushed) {
        memcpy(l->page + (offset - l->flushed), data, length);
        return true;
    }
    if (offset + length > l->flushed) { /* lies on both sides: the buffer goes out first */
        if (!out_flush(l)) {
            return false;
        }
    }
    if (!l->flash.program(l->flash.context, offset, data, length)) {
        return refuse(l, WBI_FLASH_FAILED, "flash could not be programmed");
    }
    return true;
}

bool out_patch_u16(struct wbi_loader *l, uint32_t offset, uint32_t value) {
    const uint16_t half = (uint16_t)value;
    return out_patch(l, offset, &half, 2);
}

bool out_patch_u32(struct wbi_loader *l, uint32_t offset, uint32_t value) { return out_patch(l, offset, &value, 4); }
