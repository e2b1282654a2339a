/* SMP messages: headers, dispatch, errors. Header: {version and op, flags, length, group, sequence, id}, big-endian. */
#include <string.h>

#include "internal.h"

bool wb_smp_read_header(const uint8_t *message, size_t length, struct wb_smp_header *header) {
    if (length < SMP_HEADER || (size_t)(message[2] << 8 | message[3]) != length - SMP_HEADER) {
        return false;
    }
    header->op = message[0] & 7;
    header->version = message[0] >> 3 & 3;
    header->group = (uint16_t)(message[4] << 8 | message[5]);
    header->seq = message[6];
    header->id = message[7];
    return header->op <= OP_WRITE_ANSWER;
}

void wb_smp_write_header(uint8_t *message, const struct wb_smp_header *header, size_t length) {
    message[0] = (uint8_t)(header->version << 3 | header->op);
    message[1] = 0;
    message[2] = (uint8_t)(length >> 8);
    message[3] = (uint8_t)length;
    message[4] = (uint8_t)(header->group >> 8);
    message[5] = (uint8_t)header->group;
    message[6] = header->seq;
    message[7] = header->id;
}

static const char *const results[] = {
    "",          "unknown error", "no room",       "malformed request", "timed out", "not found", "wrong state",
    "too long",  "not supported", "refused as it is not sound", "busy", "not granted",
};

/* {"err": {"group": group, "rc": error}}: an error of a group; for a peer of the first version what MCUmgr gives for it. */
static void put_group_error(struct wb_cbor_out *out, const struct wb_smp_header *header, enum wb_rc rc) {
    if (header->version == 0) {
        wb_put_map(out, 1);
        wb_put_text(out, "rc");
        wb_put_uint(out, rc == WB_RC_IMAGE_NO_FREE_SLOT   ? WB_RC_BADSTATE
                         : rc == WB_RC_IMAGE_INVALID_SLOT ? WB_RC_INVAL
                                                          : WB_RC_UNKNOWN);
        return;
    }
    wb_put_map(out, 1);
    wb_put_text(out, "err");
    wb_put_map(out, 2);
    wb_put_text(out, "group");
    wb_put_uint(out, header->group);
    wb_put_text(out, "rc");
    wb_put_uint(out, (uint32_t)rc - WB_RC_IMAGE);
}

/* {"rc": result, "rsn": why}: MCUmgr's error, the same for every group. */
static void put_error(struct wb_cbor_out *out, enum wb_rc rc, const struct wb_why *why) {
    const char *text = why->text != NULL ? why->text : rc <= WB_RC_ACCESS ? results[rc] : results[WB_RC_UNKNOWN];
    wb_put_map(out, 2);
    wb_put_text(out, "rc");
    wb_put_uint(out, (uint32_t)rc);
    wb_put_text(out, "rsn");
    wb_put_why(out, text, &why->name);
}

void wb_put_why(struct wb_cbor_out *out, const char *text, const struct wb_text *name) {
    uint8_t joined[WB_MESSAGE_TEXT_MAX];
    const size_t left = (size_t)(out->end - out->at);
    const size_t room = left < sizeof joined + 2 ? left - (left < 2 ? left : 2) : sizeof joined;
    const size_t length = strlen(text);
    size_t used = length < room ? length : room;
    memcpy(joined, text, used);
    if (name->length != 0 && used + 2 < room) {
        joined[used++] = ':';
        joined[used++] = ' ';
        const size_t more = name->length < room - used ? name->length : room - used;
        memcpy(joined + used, name->data, more);
        used += more;
    }
    wb_put_text_bytes(out, joined, used);
}

void wb_smp_new_session(struct wb_link *link) {
    link->last_delivery = 0;
    link->upload_bytes = 0;
    link->upload_at = 0;
    link->image_bytes = 0;
    link->image_at = 0;
}

size_t wb_smp_handle(struct wb_link *link, const uint8_t *message, size_t length, uint8_t *out, size_t room,
                     uint32_t now_ms) {
    struct wb_smp_header header;
    struct wb_cbor map;
    struct wb_why why = {NULL, {NULL, 0}};
    if (!wb_smp_read_header(message, length, &header)) {
        link->counters[WB_COUNT_BAD_REQUESTS]++;
        return 0;
    }
    const uint8_t *body = message + SMP_HEADER;
    length -= SMP_HEADER;
    const bool readable = wb_cbor_map(body, length, &map);
    if (header.op == OP_READ_ANSWER || header.op == OP_WRITE_ANSWER) {
        if (readable && header.group == GROUP_WASMBED) {
            wb_wasmbed_answer(link, &header, map, now_ms);
        }
        return 0;
    }
    enum wb_rc rc = WB_RC_INVAL;
    struct wb_cbor_out writer = {out + SMP_HEADER, out + room, false};
    link->counters[WB_COUNT_REQUESTS]++;
    if (readable) {
        switch (header.group) {
        case GROUP_OS:
            rc = wb_group_os(link, &header, map, &writer);
            break;
        case GROUP_IMAGE:
            rc = wb_group_image(link, &header, map, &writer);
            break;
        case GROUP_WASMBED:
            rc = wb_group_wasmbed(link, &header, map, &writer, &why, body, (uint32_t)length, now_ms);
            break;
        default:
            rc = WB_RC_NOTSUP;
            break;
        }
    }
    if (rc == WB_RC_OK && writer.full) {
        rc = WB_RC_MSGSIZE;
    }
    if (rc != WB_RC_OK) {
        link->counters[WB_COUNT_BAD_REQUESTS]++;
        writer = (struct wb_cbor_out){out + SMP_HEADER, out + room, false};
        if (rc >= WB_RC_IMAGE) {
            put_group_error(&writer, &header, rc);
        } else {
            put_error(&writer, rc, &why);
        }
    }
    const size_t used = (size_t)(writer.at - out) - SMP_HEADER;
    header.op++;
    wb_smp_write_header(out, &header, used);
    return used + SMP_HEADER;
}

static size_t finish_own(struct wb_link *link, uint8_t *out, struct wb_cbor_out *writer, uint8_t id) {
    const struct wb_smp_header header = {OP_WRITE, 1, link->note_seq++, id, GROUP_WASMBED};
    if (writer->full) {
        return 0;
    }
    const size_t used = (size_t)(writer->at - out) - SMP_HEADER;
    wb_smp_write_header(out, &header, used);
    return used + SMP_HEADER;
}

size_t wb_smp_heartbeat(struct wb_link *link, uint8_t *out, size_t room, uint32_t now_ms) {
    struct wb_cbor_out writer = {out + SMP_HEADER, out + room, false};
    struct wb_health health = {now_ms / 1000, 0, WB_RESET_POWER, false};
    if (link->app->health != NULL) {
        link->app->health(link->app->context, &health);
    }
    link->flags = (uint16_t)((link->flags & ~LINK_HEARTBEAT) | LINK_HEARTBEAT_SENT);
    link->heartbeat_ms = now_ms;
    link->heartbeat_sent_ms = now_ms;
    link->heartbeat_seq = link->note_seq;
    wb_put_map(&writer, 4);
    wb_put_uint(&writer, 0);
    wb_put_uint(&writer, health.uptime_s);
    wb_put_uint(&writer, 1);
    wb_put_uint(&writer, health.changes);
    wb_put_uint(&writer, 2);
    wb_put_uint(&writer, health.reset_reason);
    wb_put_uint(&writer, 3);
    wb_put_bool(&writer, health.crashed);
    return finish_own(link, out, &writer, ID_HEARTBEAT);
}

size_t wb_smp_note(struct wb_link *link, uint8_t *out, size_t room) {
    struct wb_cbor_out writer = {out + SMP_HEADER, out + room, false};
    if (link->app->next == NULL) {
        return 0;
    }
    const enum wb_note note = link->app->next(link->app->context, &writer);
    return note == WB_NOTE_NONE ? 0 : finish_own(link, out, &writer, (uint8_t)note);
}

/* ---- OS group --------------------------------------------------------------------------------------------- */

enum { OS_ECHO = 0, OS_RESET = 5, OS_PARAMETERS = 6 };

enum wb_rc wb_group_os(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                       struct wb_cbor_out *out) {
    struct wb_item item;
    switch (header->id) {
    case OS_ECHO:
        if (!wb_cbor_get_named(map, "d", &item) || item.type != WB_CBOR_TEXT) {
            return WB_RC_INVAL;
        }
        wb_put_map(out, 1);
        wb_put_text(out, "r");
        wb_put_text_bytes(out, item.data, (size_t)item.value);
        return WB_RC_OK;
    case OS_RESET:
        if (header->op != OP_WRITE || link->app->reset == NULL) {
            return WB_RC_NOTSUP;
        }
        link->flags |= LINK_RESET;
        wb_put_map(out, 0);
        return WB_RC_OK;
    case OS_PARAMETERS:
        wb_put_map(out, 2);
        wb_put_text(out, "buf_size");
        wb_put_uint(out, WB_LINK_RX_BYTES);
        wb_put_text(out, "buf_count");
        wb_put_uint(out, 1);
        return WB_RC_OK;
    default:
        return WB_RC_NOTSUP;
    }
}
