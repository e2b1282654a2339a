/* The Wasmbed group (64): modules, instances, events, records, keys. Maps have integer keys; docs/link.md lists them. */
#include <string.h>

#include "drbg.h"
#include "internal.h"
#include "noise.h"

enum {
    ID_INFO = 0,
    ID_UPLOAD = 1,
    ID_MODULES = 2,
    ID_REMOVE = 3,
    ID_START = 4,
    ID_STOP = 5,
    ID_INSTANCES = 6,
    ID_DELIVER = 7,
    ID_SENSOR = 8,
    ID_STATISTICS = 9,
    ID_CRASH = 10,
    ID_TIME = 11,
    ID_GATEWAY_KEY = 12,
    ID_DEVICE_KEY = 13,
    ID_PROVIDE = 14,
    ID_SECRET = 15
};

static void put_pair(struct wb_cbor_out *out, uint32_t key, uint64_t value) {
    wb_put_uint(out, key);
    wb_put_uint(out, value);
}

static bool get_text(struct wb_cbor map, uint32_t key, uint32_t limit, struct wb_text *text) {
    struct wb_item item;
    if (!wb_cbor_get(map, key, &item) || item.type != WB_CBOR_TEXT || item.value > limit) {
        return false;
    }
    text->data = (const char *)item.data;
    text->length = (uint32_t)item.value;
    return true;
}

static enum wb_rc empty(struct wb_cbor_out *out, enum wb_rc rc) {
    if (rc == WB_RC_OK) {
        wb_put_map(out, 0);
    }
    return rc;
}

/* ---- what the device is ----------------------------------------------------------------------------------- */

static enum wb_rc info(const struct wb_app *app, struct wb_cbor_out *out) {
    const struct wb_info *about = app->info;
    wb_put_map(out, 10);
    wb_put_uint(out, 0);
    wb_put_text(out, about->board);
    wb_put_uint(out, 1);
    wb_put_text(out, about->firmware);
    put_pair(out, 2, WB_LINK_VERSION);
    put_pair(out, 3, WB_LINK_RX_BYTES);
    put_pair(out, 4, WB_LINK_TX_BYTES);
    put_pair(out, 5, about->receive_ring);
    put_pair(out, 6, about->module_bytes);
    put_pair(out, 7, about->memory_bytes);
    put_pair(out, 8, about->stack_bytes);
    put_pair(out, 9, about->instances);
    return WB_RC_OK;
}

static enum wb_rc statistics(struct wb_link *link, struct wb_cbor_out *out) {
    uint8_t *head = out->at;
    wb_put_map(out, 1);
    wb_put_uint(out, 0);
    wb_put_array(out, WB_COUNT_SIZE);
    for (uint32_t i = 0; i < WB_COUNT_SIZE; i++) {
        wb_put_uint(out, link->counters[i]);
    }
    if (link->app->statistics != NULL && !out->full) {
        const uint32_t more = link->app->statistics(link->app->context, out);
        if (more > 22) {
            return WB_RC_MSGSIZE; /* a map of up to 23 pairs has a head of one byte */
        }
        *head = (uint8_t)(*head + more);
    }
    return WB_RC_OK;
}

static enum wb_rc crash(const struct wb_app *app, const struct wb_smp_header *header, struct wb_cbor_out *out) {
    struct wb_crash record;
    if (header->op == OP_WRITE) {
        return app->crash_clear == NULL ? WB_RC_NOTSUP : empty(out, app->crash_clear(app->context));
    }
    memset(&record, 0, sizeof record);
    if (app->crash == NULL || !app->crash(app->context, &record)) {
        return WB_RC_NOENT;
    }
    wb_put_map(out, 7);
    put_pair(out, 0, record.cause);
    put_pair(out, 1, record.pc);
    put_pair(out, 2, record.address);
    put_pair(out, 3, record.status);
    put_pair(out, 4, record.uptime_s);
    put_pair(out, 5, record.count);
    wb_put_uint(out, 6);
    wb_put_text_bytes(out, record.what.length != 0 ? record.what.data : "", record.what.length);
    return WB_RC_OK;
}

static enum wb_rc time_of(struct wb_link *link, struct wb_cbor_out *out, uint32_t now_ms) {
    int64_t unix_us;
    uint32_t age_ms;
    uint32_t error_us;
    if (!wb_link_time(link, now_ms, &unix_us, &age_ms, &error_us)) {
        return WB_RC_NOENT;
    }
    wb_put_map(out, 3);
    put_pair(out, 0, (uint64_t)unix_us);
    put_pair(out, 1, age_ms);
    put_pair(out, 2, error_us);
    return WB_RC_OK;
}

/* ---- modules ---------------------------------------------------------------------------------------------- */

/* {0: offset, 1: data, first also 2: length, 3: digest of the image, 4: SHA-256 of the module} -> {0: offset wanted next, 1: whole}. A gap or a repetition
 * writes nothing: the answer says where to go on. */
static enum wb_rc upload(struct wb_link *link, struct wb_cbor map, struct wb_cbor_out *out, struct wb_why *why) {
    const struct wb_app *app = link->app;
    struct wb_item data;
    uint32_t offset;
    if (!wb_cbor_get_u32(map, 0, &offset) || !wb_cbor_get(map, 1, &data) || data.type != WB_CBOR_BYTES) {
        return WB_RC_INVAL;
    }
    const uint8_t *digest;
    const uint8_t *content;
    uint32_t bytes;
    if (wb_cbor_get_u32(map, 2, &bytes)) {
        if (offset != 0 || bytes == 0 || !wb_cbor_get_bytes(map, 3, WB_DIGEST_SIZE, &digest) ||
            !wb_cbor_get_bytes(map, 4, WB_DIGEST_SIZE, &content)) {
            return WB_RC_INVAL;
        }
        link->upload_bytes = 0;
        uint32_t at = 0;
        const enum wb_rc rc = app->upload_begin(app->context, digest, content, bytes, &at, why);
        if (rc != WB_RC_OK) {
            return rc;
        }
        link->upload_bytes = bytes;
        link->upload_at = at <= bytes ? at : 0;
    } else if (link->upload_bytes == 0) {
        return WB_RC_BADSTATE; /* a restart in between: begin again */
    }
    if (offset == link->upload_at && data.value != 0 && link->upload_at < link->upload_bytes) {
        if (data.value > link->upload_bytes - link->upload_at) {
            return WB_RC_INVAL;
        }
        enum wb_rc rc = app->upload_write(app->context, offset, data.data, (uint32_t)data.value, why);
        if (rc == WB_RC_OK) {
            link->upload_at += (uint32_t)data.value;
            if (link->upload_at == link->upload_bytes) {
                rc = app->upload_end(app->context, why);
            }
        }
        if (rc != WB_RC_OK) {
            link->upload_bytes = 0;
            return rc;
        }
    }
    wb_put_map(out, 2);
    put_pair(out, 0, link->upload_at);
    wb_put_uint(out, 1);
    wb_put_bool(out, link->upload_at == link->upload_bytes);
    return WB_RC_OK;
}

/* {0: index} -> {0: count, 1: digest, 2: bytes}; an index behind the last gives the count alone. */
static enum wb_rc modules(const struct wb_app *app, struct wb_cbor map, struct wb_cbor_out *out) {
    struct wb_module_row row;
    uint32_t index = 0;
    wb_cbor_get_u32(map, 0, &index);
    const bool there = app->module_row(app->context, index, &row);
    wb_put_map(out, there ? 3 : 1);
    put_pair(out, 0, app->module_count(app->context));
    if (there) {
        wb_put_uint(out, 1);
        wb_put_bytes(out, row.digest, WB_DIGEST_SIZE);
        put_pair(out, 2, row.bytes);
    }
    return WB_RC_OK;
}

/* ---- instances -------------------------------------------------------------------------------------------- */

/* The texts in a map or array under this key, which may be missing; false when there is something else in it. */
static bool texts(struct wb_cbor map, uint32_t key, enum wb_cbor_type type, struct wb_cbor *inside) {
    struct wb_item item;
    if (!wb_cbor_get(map, key, &item)) {
        return true;
    }
    if (item.type != type) {
        return false;
    }
    *inside = wb_cbor_enter(map, &item);
    for (struct wb_cbor at = *inside; at.at < at.end;) {
        if (!wb_cbor_next(&at, &item) || item.type != WB_CBOR_TEXT) {
            return false;
        }
    }
    return true;
}

bool wb_smp_read_start(const uint8_t *record, uint32_t record_bytes, struct wb_start *start) {
    struct wb_cbor map;
    memset(start, 0, sizeof *start);
    if (!wb_cbor_map(record, record_bytes, &map) || !get_text(map, 0, WB_NAME_MAX, &start->instance) ||
        start->instance.length == 0 || !wb_cbor_get_bytes(map, 1, WB_DIGEST_SIZE, &start->digest) ||
        !wb_cbor_get_bytes(map, 2, 32, &start->key) || !wb_cbor_get_u32(map, 3, &start->grants) ||
        !get_text(map, 4, WB_LONG_NAME_MAX, &start->application) ||
        !get_text(map, 5, WB_LONG_NAME_MAX, &start->device)) {
        return false;
    }
    wb_cbor_get_u32(map, 6, &start->memory_bytes);
    wb_cbor_get_u32(map, 7, &start->stack_bytes);
    wb_cbor_get_u32(map, 8, &start->cpu_ms);
    wb_cbor_get_u32(map, 10, &start->rights);
    wb_cbor_get_u32(map, 12, &start->cpu_share);
    if (!texts(map, 9, WB_CBOR_MAP, &start->env) || !texts(map, 11, WB_CBOR_ARRAY, &start->routes)) {
        return false;
    }
    start->record = record;
    start->record_bytes = record_bytes;
    return true;
}

/* {0: index, 1: 1} -> {0: count, 1: instance, 12: application}
 * {0: index} -> {0: count, 1: instance, 2: digest, 3: state, 4: reason, 6: restarts, 7: key, 8: grants, 9: memory,
 * 10: CPU time in ms, 11: dropped events, 13: key that was taken back, 5: message}; the message is last, as long as there is room. */
static enum wb_rc instances(const struct wb_app *app, struct wb_cbor map, struct wb_cbor_out *out) {
    struct wb_instance_row row;
    uint32_t index = 0;
    wb_cbor_get_u32(map, 0, &index);
    memset(&row, 0, sizeof row);
    uint32_t detail = 0;
    wb_cbor_get_u32(map, 1, &detail);
    const bool there = app->instance_row(app->context, index, &row);
    wb_put_map(out, !there ? 1 : detail != 0 ? 3 : row.previous != NULL ? 13 : 12);
    put_pair(out, 0, app->instance_count(app->context));
    if (there) {
        wb_put_uint(out, 1);
        wb_put_text_bytes(out, row.instance.data, row.instance.length);
    }
    if (there && detail != 0) {
        wb_put_uint(out, 12);
        wb_put_text_bytes(out, row.application.data, row.application.length);
    } else if (there) {
        wb_put_uint(out, 2);
        wb_put_bytes(out, row.digest, WB_DIGEST_SIZE);
        put_pair(out, 3, row.state);
        put_pair(out, 4, row.reason);
        put_pair(out, 6, row.restarts);
        wb_put_uint(out, 7);
        wb_put_bytes(out, row.key, 32);
        put_pair(out, 8, row.grants);
        put_pair(out, 9, row.memory_bytes);
        put_pair(out, 10, row.cpu_ms);
        put_pair(out, 11, row.dropped);
        if (row.previous != NULL) {
            wb_put_uint(out, 13);
            wb_put_bytes(out, row.previous, 32);
        }
        wb_put_uint(out, 5);
        wb_put_why(out, row.why.text != NULL ? row.why.text : "", &row.why.name);
    }
    return WB_RC_OK;
}

/* {0: instance, 1: type, 2: source, 3: data, 4: number}: numbers rise in a session, so a repetition does nothing. */
static enum wb_rc deliver(struct wb_link *link, struct wb_cbor map) {
    struct wb_text instance;
    struct wb_item data;
    uint32_t type;
    uint32_t source;
    uint32_t number;
    if (!get_text(map, 0, WB_NAME_MAX, &instance) || !wb_cbor_get_u32(map, 1, &type) || !wb_cbor_get_u32(map, 2, &source) ||
        !wb_cbor_get(map, 3, &data) || data.type != WB_CBOR_BYTES || !wb_cbor_get_u32(map, 4, &number)) {
        return WB_RC_INVAL;
    }
    if (number <= link->last_delivery) {
        return WB_RC_OK;
    }
    const enum wb_rc rc =
        link->app->deliver(link->app->context, instance, type, source, data.data, (uint32_t)data.value);
    if (rc == WB_RC_OK) {
        link->last_delivery = number;
    }
    return rc;
}

static enum wb_rc provide(const struct wb_app *app, struct wb_cbor map) {
    uint32_t available;
    return wb_cbor_get_u32(map, 0, &available) ? app->provide(app->context, available) : WB_RC_INVAL;
}

/* {0: application, 1: key, 2: first number}. */
static enum wb_rc secret(const struct wb_app *app, struct wb_cbor map) {
    struct wb_text application;
    const uint8_t *key;
    uint64_t sequence;
    if (!get_text(map, 0, WB_LONG_NAME_MAX, &application) || !wb_cbor_get_bytes(map, 1, 32, &key) ||
        !wb_cbor_get_u64(map, 2, &sequence)) {
        return WB_RC_INVAL;
    }
    return app->secret(app->context, application, key, sequence);
}

static enum wb_rc sensor(const struct wb_app *app, struct wb_cbor map) {
    struct wb_item data;
    uint32_t kind;
    uint64_t time_us;
    if (!wb_cbor_get_u32(map, 0, &kind) || !wb_cbor_get_u64(map, 1, &time_us) || !wb_cbor_get(map, 2, &data) ||
        data.type != WB_CBOR_BYTES) {
        return WB_RC_INVAL;
    }
    return app->sensor(app->context, kind, time_us, data.data, (uint32_t)data.value);
}

/* ---- keys ------------------------------------------------------------------------------------------------- */

/* {0: the gateway's next public key}: used once a handshake with it succeeds; the key in use ends a rotation. */
static enum wb_rc gateway_key(struct wb_link *link, struct wb_cbor map) {
    const struct wb_link_host *host = link->host;
    const struct wb_identity *now = host->identity(host->context);
    const uint8_t *key;
    if (now == NULL || !wb_cbor_get_bytes(map, 0, WB_KEY_BYTES, &key)) {
        return WB_RC_INVAL;
    }
    if ((now->flags & WB_IDENTITY_NEXT_DEVICE) != 0) {
        return WB_RC_BUSY;
    }
    struct wb_identity next = *now;
    memcpy(next.next_gateway_public, key, WB_KEY_BYTES);
    next.flags = memcmp(key, now->gateway_public, WB_KEY_BYTES) == 0 ? 0 : WB_IDENTITY_NEXT_GATEWAY;
    return host->store_identity(host->context, &next) ? WB_RC_OK : WB_RC_UNKNOWN;
}

/* {} -> {0: the device's next public key}; asked again before its first handshake, the same key. */
static enum wb_rc device_key(struct wb_link *link, struct wb_cbor_out *out) {
    const struct wb_link_host *host = link->host;
    const struct wb_identity *now = host->identity(host->context);
    if (now == NULL || (now->flags & WB_IDENTITY_NEXT_GATEWAY) != 0) {
        return WB_RC_BUSY;
    }
    if ((now->flags & WB_IDENTITY_NEXT_DEVICE) == 0) {
        struct wb_identity next = *now;
        if (!wb_drbg_generate(&link->drbg, next.next_private, WB_KEY_BYTES)) {
            return WB_RC_BADSTATE;
        }
        wb_x25519_public(next.next_private, next.next_public);
        next.flags = WB_IDENTITY_NEXT_DEVICE;
        const bool stored = host->store_identity(host->context, &next);
        wb_wipe(&next, sizeof next);
        now = host->identity(host->context);
        if (!stored || now == NULL) {
            return WB_RC_UNKNOWN;
        }
    }
    wb_put_map(out, 1);
    wb_put_uint(out, 0);
    wb_put_bytes(out, now->next_public, WB_KEY_BYTES);
    return WB_RC_OK;
}

/* ---- dispatch --------------------------------------------------------------------------------------------- */

#define NEEDS(function)                                                                                                \
    if (app->function == NULL) {                                                                                       \
        return WB_RC_NOTSUP;                                                                                           \
    }

static enum wb_rc write_request(struct wb_link *link, uint8_t id, struct wb_cbor map, struct wb_cbor_out *out,
                                struct wb_why *why, const uint8_t *record, uint32_t record_bytes) {
    const struct wb_app *app = link->app;
    struct wb_start start;
    struct wb_text instance;
    const uint8_t *digest;
    switch (id) {
    case ID_UPLOAD:
        NEEDS(upload_begin)
        return upload(link, map, out, why);
    case ID_REMOVE:
        NEEDS(module_remove)
        return !wb_cbor_get_bytes(map, 0, WB_DIGEST_SIZE, &digest)
                   ? WB_RC_INVAL
                   : empty(out, app->module_remove(app->context, digest));
    case ID_START:
        NEEDS(start)
        return !wb_smp_read_start(record, record_bytes, &start) ? WB_RC_INVAL
                                                               : empty(out, app->start(app->context, &start, why));
    case ID_STOP:
        NEEDS(stop)
        return !get_text(map, 0, WB_NAME_MAX, &instance) ? WB_RC_INVAL : empty(out, app->stop(app->context, instance));
    case ID_DELIVER:
        NEEDS(deliver)
        return empty(out, deliver(link, map));
    case ID_PROVIDE:
        NEEDS(provide)
        return empty(out, provide(app, map));
    case ID_SECRET:
        NEEDS(secret)
        return empty(out, secret(app, map));
    case ID_SENSOR:
        NEEDS(sensor)
        return empty(out, sensor(app, map));
    case ID_GATEWAY_KEY:
        return empty(out, gateway_key(link, map));
    case ID_DEVICE_KEY:
        return device_key(link, out);
    default:
        return WB_RC_NOTSUP;
    }
}

enum wb_rc wb_group_wasmbed(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                            struct wb_cbor_out *out, struct wb_why *why, const uint8_t *record,
                            uint32_t record_bytes, uint32_t now_ms) {
    const struct wb_app *app = link->app;
    if (header->id == ID_CRASH) {
        return crash(app, header, out);
    }
    if (header->op == OP_WRITE) {
        return write_request(link, header->id, map, out, why, record, record_bytes);
    }
    switch (header->id) {
    case ID_INFO:
        NEEDS(info)
        return info(app, out);
    case ID_MODULES:
        NEEDS(module_row)
        return modules(app, map, out);
    case ID_INSTANCES:
        NEEDS(instance_row)
        return instances(app, map, out);
    case ID_STATISTICS:
        return statistics(link, out);
    case ID_TIME:
        return time_of(link, out, now_ms);
    default:
        return WB_RC_NOTSUP;
    }
}

void wb_wasmbed_answer(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map, uint32_t now_ms) {
    uint32_t value;
    uint64_t unix_us;
    if (header->id == ID_HEARTBEAT) {
        if ((link->flags & LINK_HEARTBEAT_SENT) == 0 || header->seq != link->heartbeat_seq) {
            return;
        }
        link->flags = (uint16_t)(link->flags & ~LINK_HEARTBEAT_SENT);
        if (wb_cbor_get_u32(map, 1, &value) && value >= 1 && value <= 3600) {
            link->heartbeat_every_ms = value * 1000;
        }
        if (wb_cbor_get_u64(map, 0, &unix_us)) {
            /* The gateway's time was right half the round trip ago, give or take as much and this clock's millisecond. */
            const uint32_t trip_us = (now_ms - link->heartbeat_sent_ms) * 1000;
            link->clock_unix_us = unix_us + trip_us / 2;
            link->clock_ms = now_ms;
            link->clock_error_us = trip_us / 2 + 1000;
            link->flags |= LINK_CLOCK;
        }
    } else if ((header->id == WB_NOTE_REQUEST || header->id == WB_NOTE_LOG) && link->app->accepted != NULL &&
               wb_cbor_get_u32(map, 0, &value)) {
        link->app->accepted(link->app->context, value);
    }
}
