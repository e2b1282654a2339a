/* The image group of MCUmgr: state, upload, erase, as smpclient and mcumgr speak it. */
#include "internal.h"

enum { IMAGE_STATE = 0, IMAGE_UPLOAD = 1, IMAGE_ERASE = 5, SLOTS = 2 };

static void flag(struct wb_cbor_out *out, const char *name, bool value) {
    if (value) {
        wb_put_text(out, name);
        wb_put_bool(out, true);
    }
}

/* Flags that are false are left out, as the published protocol allows. */
static enum wb_rc read_state(struct wb_link *link, struct wb_cbor_out *out) {
    const struct wb_app *app = link->app;
    struct wb_image image;
    size_t count = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        count += app->image(app->context, slot, &image);
    }
    wb_put_map(out, 1);
    wb_put_text(out, "images");
    wb_put_array(out, count);
    for (uint32_t slot = 0; slot < SLOTS && count != 0; slot++) {
        if (!app->image(app->context, slot, &image)) {
            continue;
        }
        count--;
        const size_t flags = (size_t)image.bootable + image.pending + image.confirmed + image.active + image.permanent;
        size_t version = 0;
        while (version < sizeof image.version && image.version[version] != '\0') {
            version++;
        }
        wb_put_map(out, 3 + flags);
        wb_put_text(out, "slot");
        wb_put_uint(out, slot);
        wb_put_text(out, "version");
        wb_put_text_bytes(out, image.version, version);
        wb_put_text(out, "hash");
        wb_put_bytes(out, image.hash, WB_DIGEST_SIZE);
        flag(out, "bootable", image.bootable);
        flag(out, "pending", image.pending);
        flag(out, "confirmed", image.confirmed);
        flag(out, "active", image.active);
        flag(out, "permanent", image.permanent);
    }
    return WB_RC_OK;
}

static enum wb_rc upload(struct wb_link *link, struct wb_cbor map, struct wb_cbor_out *out) {
    const struct wb_app *app = link->app;
    struct wb_item offset;
    struct wb_item data;
    struct wb_item item;
    enum wb_rc rc = WB_RC_OK;
    if (!wb_cbor_get_named(map, "off", &offset) || offset.type != WB_CBOR_UINT ||
        !wb_cbor_get_named(map, "data", &data) || data.type != WB_CBOR_BYTES) {
        return WB_RC_INVAL;
    }
    if (wb_cbor_get_named(map, "image", &item) && (item.type != WB_CBOR_UINT || item.value > 1)) {
        return WB_RC_NOENT;
    }
    if (offset.value == 0) {
        const uint8_t *hash = NULL;
        if (!wb_cbor_get_named(map, "len", &item) || item.type != WB_CBOR_UINT || item.value == 0 ||
            item.value > UINT32_MAX) {
            return WB_RC_INVAL;
        }
        const uint32_t bytes = (uint32_t)item.value;
        if (wb_cbor_get_named(map, "sha", &item)) {
            if (item.type != WB_CBOR_BYTES || item.value != WB_DIGEST_SIZE) {
                return WB_RC_INVAL;
            }
            hash = item.data;
        }
        link->image_bytes = 0;
        link->image_at = 0;
        uint32_t at = 0;
        rc = app->image_begin(app->context, bytes, hash, &at);
        if (rc != WB_RC_OK) {
            return rc;
        }
        link->image_bytes = bytes;
        link->image_at = at <= bytes ? at : 0;
    } else if (link->image_bytes == 0) {
        return WB_RC_BADSTATE;
    }
    if (offset.value == link->image_at && data.value != 0 && link->image_at < link->image_bytes) {
        if (data.value > link->image_bytes - link->image_at) {
            return WB_RC_INVAL;
        }
        rc = app->image_write(app->context, link->image_at, data.data, (uint32_t)data.value);
        if (rc != WB_RC_OK) {
            return rc;
        }
        link->image_at += (uint32_t)data.value;
        if (link->image_at == link->image_bytes) {
            rc = app->image_end(app->context);
            if (rc != WB_RC_OK) {
                link->image_bytes = 0;
                return rc;
            }
        }
    }
    const bool whole = link->image_at == link->image_bytes;
    wb_put_map(out, 1 + (size_t)whole);
    wb_put_text(out, "off");
    wb_put_uint(out, link->image_at);
    flag(out, "match", whole);
    return WB_RC_OK;
}

enum wb_rc wb_group_image(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                          struct wb_cbor_out *out) {
    const struct wb_app *app = link->app;
    struct wb_item item;
    if (app->image == NULL) {
        return WB_RC_NOTSUP;
    }
    switch (header->id) {
    case IMAGE_STATE:
        if (header->op == OP_WRITE) {
            const uint8_t *hash = NULL;
            if (app->image_set == NULL) {
                return WB_RC_NOTSUP;
            }
            if (wb_cbor_get_named(map, "hash", &item) && item.type == WB_CBOR_BYTES) {
                if (item.value != WB_DIGEST_SIZE) {
                    return WB_RC_INVAL;
                }
                hash = item.data;
            }
            const bool confirm = wb_cbor_get_named(map, "confirm", &item) && item.type == WB_CBOR_BOOL && item.value;
            if (hash == NULL && !confirm) {
                return WB_RC_INVAL;
            }
            const enum wb_rc rc = app->image_set(app->context, hash, confirm);
            if (rc != WB_RC_OK) {
                return rc;
            }
        }
        return read_state(link, out);
    case IMAGE_UPLOAD:
        if (header->op != OP_WRITE || app->image_begin == NULL) {
            return WB_RC_NOTSUP;
        }
        return upload(link, map, out);
    case IMAGE_ERASE: {
        uint32_t slot = 1;
        if (header->op != OP_WRITE || app->image_erase == NULL) {
            return WB_RC_NOTSUP;
        }
        if (wb_cbor_get_named(map, "slot", &item)) {
            if (item.type != WB_CBOR_UINT || item.value >= SLOTS) {
                return WB_RC_IMAGE_INVALID_SLOT;
            }
            slot = (uint32_t)item.value;
        }
        link->image_bytes = 0;
        const enum wb_rc rc = app->image_erase(app->context, slot);
        if (rc == WB_RC_OK) {
            wb_put_map(out, 0);
        }
        return rc;
    }
    default:
        return WB_RC_NOTSUP;
    }
}
