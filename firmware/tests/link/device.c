#include "device.h"

#include <bearssl.h>
#include <string.h>

#include "../../link/src/noise.h"

static const struct wb_identity *identity(void *context) { return &((struct device *)context)->identity; }

static bool store_identity(void *context, const struct wb_identity *identity) {
    struct device *device = context;
    device->identity = *identity;
    device->identity_stores++;
    return true;
}

static bool seed_read(void *context, uint32_t slot, uint8_t record[WB_SEED_RECORD_BYTES]) {
    memcpy(record, ((struct device *)context)->seeds[slot], WB_SEED_RECORD_BYTES);
    return true;
}

/* Erase, then program byte after byte, until the power fails. */
static bool seed_write(void *context, uint32_t slot, const uint8_t record[WB_SEED_RECORD_BYTES]) {
    struct device *device = context;
    memset(device->seeds[slot], 0xff, WB_SEED_RECORD_BYTES);
    for (uint32_t i = 0; i < WB_SEED_RECORD_BYTES; i++) {
        if (device->seed_bytes_left-- == 0) {
            device->seed_cut = true;
            return false;
        }
        device->seeds[slot][i] = record[i];
    }
    return true;
}

static void changed(void *context, bool up) {
    struct device *device = context;
    device->ups += up;
    device->losses += !up;
}

/* ---- modules ---------------------------------------------------------------------------------------------- */

static enum wb_rc upload_begin(void *context, const uint8_t *digest, const uint8_t *content, uint32_t bytes,
                               uint32_t *offset, struct wb_why *why) {
    struct device *device = context;
    if (bytes > sizeof device->module) {
        why->text = "the module is larger than the flash";
        return WB_RC_NOMEM;
    }
    if (device->module_bytes != bytes || memcmp(device->digest, digest, 32) != 0) {
        memcpy(device->digest, digest, 32);
        memcpy(device->content, content, 32);
        device->module_bytes = bytes;
        device->module_at = 0;
        device->module_whole = false;
    }
    *offset = device->module_at;
    return WB_RC_OK;
}

static enum wb_rc upload_write(void *context, uint32_t offset, const uint8_t *data, uint32_t length,
                               struct wb_why *why) {
    struct device *device = context;
    (void)why;
    if (offset != device->module_at || length > device->module_bytes - offset) {
        return WB_RC_BADSTATE;
    }
    memcpy(device->module + offset, data, length);
    device->module_at += length;
    return WB_RC_OK;
}

static enum wb_rc upload_end(void *context, struct wb_why *why) {
    struct device *device = context;
    uint8_t digest[32];
    br_sha256_context hash;
    br_sha256_init(&hash);
    br_sha256_update(&hash, device->module, device->module_bytes);
    br_sha256_out(&hash, digest);
    if (memcmp(digest, device->content, 32) != 0 || device->module[0] != 0) {
        why->text = memcmp(digest, device->content, 32) != 0 ? "the digest is another" : "unknown import";
        why->name = (struct wb_text){"wasmbed:moon.land", 17};
        device->module_bytes = 0;
        device->module_at = 0;
        return WB_RC_CORRUPT;
    }
    device->module_whole = true;
    return WB_RC_OK;
}

static uint32_t module_count(void *context) { return ((struct device *)context)->module_whole; }

static bool module_row(void *context, uint32_t index, struct wb_module_row *row) {
    struct device *device = context;
    row->digest = device->digest;
    row->bytes = device->module_bytes;
    return index < module_count(context);
}

static enum wb_rc module_remove(void *context, const uint8_t *digest) {
    struct device *device = context;
    if (!device->module_whole || memcmp(digest, device->digest, 32) != 0) {
        return WB_RC_NOENT;
    }
    device->module_whole = false;
    device->module_bytes = 0;
    device->module_at = 0;
    device->removed++;
    return WB_RC_OK;
}

/* ---- instances -------------------------------------------------------------------------------------------- */

static struct device_instance *find(struct device *device, struct wb_text name) {
    for (uint32_t i = 0; i < DEVICE_INSTANCES; i++) {
        struct device_instance *instance = &device->instances[i];
        if (instance->there && instance->start.instance.length == name.length &&
            memcmp(instance->start.instance.data, name.data, name.length) == 0) {
            return instance;
        }
    }
    return NULL;
}

static enum wb_rc start(void *context, const struct wb_start *start, struct wb_why *why) {
    struct device *device = context;
    if (!device->module_whole || memcmp(start->digest, device->digest, 32) != 0) {
        return WB_RC_NOENT;
    }
    if ((start->grants & ~(WB_GRANT_SYS | WB_GRANT_PX4 | WB_GRANT_ROS2)) != 0) {
        why->text = "not granted";
        why->name = (struct wb_text){"wasmbed:secure", 14};
        return WB_RC_ACCESS;
    }
    struct device_instance *instance = find(device, start->instance);
    for (uint32_t i = 0; instance == NULL && i < DEVICE_INSTANCES; i++) {
        instance = device->instances[i].there ? NULL : &device->instances[i];
    }
    if (instance == NULL || start->record_bytes > sizeof instance->record) {
        return WB_RC_NOMEM;
    }
    memcpy(instance->record, start->record, start->record_bytes);
    instance->there = wb_smp_read_start(instance->record, start->record_bytes, &instance->start);
    instance->state = WB_RUNNING;
    device->state_told |= 1u << (instance - device->instances);
    device->changes++;
    return WB_RC_OK;
}

static enum wb_rc stop(void *context, struct wb_text name) {
    struct device *device = context;
    struct device_instance *instance = find(device, name);
    if (instance != NULL) {
        instance->there = false;
        device->changes++;
    }
    return WB_RC_OK;
}

static uint32_t instance_count(void *context) {
    struct device *device = context;
    uint32_t count = 0;
    for (uint32_t i = 0; i < DEVICE_INSTANCES; i++) {
        count += device->instances[i].there;
    }
    return count;
}

static bool instance_row(void *context, uint32_t index, struct wb_instance_row *row) {
    struct device *device = context;
    for (uint32_t i = 0; i < DEVICE_INSTANCES; i++) {
        const struct device_instance *instance = &device->instances[i];
        if (instance->there && index-- == 0) {
            row->instance = instance->start.instance;
            row->application = instance->start.application;
            row->digest = instance->start.digest;
            row->key = instance->start.key;
            row->grants = instance->start.grants;
            row->memory_bytes = 4096;
            row->state = instance->state;
            row->why.text = "it is well";
            return true;
        }
    }
    return false;
}

static enum wb_rc deliver(void *context, struct wb_text name, uint32_t type, uint32_t source, const uint8_t *data,
                          uint32_t length) {
    struct device *device = context;
    const struct device_instance *instance = find(device, name);
    (void)type;
    (void)source;
    if (instance == NULL) {
        return WB_RC_NOENT;
    }
    if (device->note_kind != WB_NOTE_NONE || length > sizeof device->note) {
        device->busy++;
        return WB_RC_BUSY;
    }
    device->deliveries++;
    device->note_instance = (uint8_t)(instance - device->instances);
    device->note_kind = length != 0 && data[0] == '!' ? WB_NOTE_REQUEST : WB_NOTE_LOG;
    device->note_bytes = length;
    device->request_sent = false;
    device->request_number++;
    if (length != 0) {
        memcpy(device->note, data, length);
    }
    return WB_RC_OK;
}

static enum wb_rc provide(void *context, uint32_t available) {
    ((struct device *)context)->available = available;
    return WB_RC_OK;
}

static enum wb_rc secret(void *context, struct wb_text application, const uint8_t *key, uint64_t sequence) {
    (void)application;
    ((struct device *)context)->secret_sequence = key[0] == key[31] ? sequence : 0;
    return WB_RC_OK;
}

static enum wb_rc sensor(void *context, uint32_t kind, uint64_t time_us, const uint8_t *data, uint32_t length) {
    (void)kind;
    (void)time_us;
    (void)data;
    (void)length;
    ((struct device *)context)->sensor_samples++;
    return WB_RC_OK;
}

static void accepted(void *context, uint32_t number) {
    struct device *device = context;
    if (device->note_kind == WB_NOTE_REQUEST && number == device->request_number) {
        device->note_kind = WB_NOTE_NONE;
        device->accepted++;
    }
}

static void put_instance(struct wb_cbor_out *out, const struct device_instance *instance) {
    wb_put_text_bytes(out, instance->start.instance.data, instance->start.instance.length);
}

static enum wb_note request(struct device *device, struct wb_cbor_out *out) {
    if (device->request_sent && device->now_ms - device->request_ms < 1000) {
        return WB_NOTE_NONE;
    }
    device->request_sent = true;
    device->request_ms = device->now_ms;
    wb_put_map(out, 7);
    wb_put_uint(out, 0);
    wb_put_uint(out, device->request_number);
    wb_put_uint(out, 1);
    put_instance(out, &device->instances[device->note_instance]);
    wb_put_uint(out, 2);
    wb_put_text(out, "ros2");
    wb_put_uint(out, 3);
    wb_put_text(out, "publish");
    wb_put_uint(out, 4);
    wb_put_uint(out, 0);
    wb_put_uint(out, 5);
    wb_put_array(out, 1);
    wb_put_int(out, -7);
    wb_put_uint(out, 6);
    wb_put_bytes(out, device->note + 1, device->note_bytes - 1);
    return WB_NOTE_REQUEST;
}

static enum wb_note next(void *context, struct wb_cbor_out *out) {
    struct device *device = context;
    if (device->note_kind == WB_NOTE_REQUEST) {
        const enum wb_note note = request(device, out);
        if (note != WB_NOTE_NONE) {
            return note;
        }
    }
    for (uint32_t i = 0; i < DEVICE_INSTANCES; i++) {
        if ((device->state_told & 1u << i) != 0) {
            device->state_told &= ~(1u << i);
            wb_put_map(out, 5);
            wb_put_uint(out, 0);
            put_instance(out, &device->instances[i]);
            wb_put_uint(out, 1);
            wb_put_uint(out, device->instances[i].state);
            wb_put_uint(out, 2);
            wb_put_uint(out, WB_REASON_NONE);
            wb_put_uint(out, 3);
            wb_put_text(out, "");
            wb_put_uint(out, 4);
            wb_put_uint(out, 0);
            return WB_NOTE_STATE;
        }
    }
    if (device->note_kind == WB_NOTE_LOG) {
        device->note_kind = WB_NOTE_NONE;
        wb_put_map(out, 4);
        wb_put_uint(out, 0);
        put_instance(out, &device->instances[device->note_instance]);
        wb_put_uint(out, 1);
        wb_put_uint(out, 2);
        wb_put_uint(out, 2);
        wb_put_text_bytes(out, device->note, device->note_bytes);
        wb_put_uint(out, 3);
        wb_put_uint(out, 0);
        return WB_NOTE_LOG;
    }
    if (device->telemetry_every_ms != 0 && device->now_ms - device->telemetry_ms >= device->telemetry_every_ms) {
        device->telemetry_ms = device->now_ms;
        wb_put_map(out, 3);
        wb_put_uint(out, 0);
        wb_put_text(out, "imu");
        wb_put_uint(out, 1);
        wb_put_uint(out, device->now_ms);
        wb_put_uint(out, 2);
        wb_put_bytes(out, device->seeds, 24); /* any bytes that need no story */
        return WB_NOTE_TELEMETRY;
    }
    return WB_NOTE_NONE;
}

static void health(void *context, struct wb_health *health) {
    struct device *device = context;
    health->changes = device->changes;
    health->crashed = device->crashed;
}

static bool crash(void *context, struct wb_crash *record) {
    record->cause = 5;
    record->pc = 0x20010000;
    record->count = 1;
    record->what = (struct wb_text){"main", 4};
    return ((struct device *)context)->crashed;
}

static enum wb_rc crash_clear(void *context) {
    ((struct device *)context)->crashed = false;
    return WB_RC_OK;
}

static uint32_t statistics(void *context, struct wb_cbor_out *out) {
    wb_put_uint(out, 64);
    wb_put_uint(out, ((struct device *)context)->deliveries);
    return 1;
}

static void reset(void *context) { ((struct device *)context)->resets++; }

/* ---- images: the second slot is the module's memory -------------------------------------------------------- */

static bool image(void *context, uint32_t slot, struct wb_image *image) {
    struct device *device = context;
    memset(image, 0, sizeof *image);
    memcpy(image->version, "1.2.3", 6);
    memcpy(image->hash, device->digest, sizeof image->hash);
    image->bootable = true;
    image->active = image->confirmed = slot == 0;
    return slot == 0 || device->module_whole;
}

static enum wb_rc image_set(void *context, const uint8_t *hash, bool confirm) {
    (void)confirm;
    return hash == NULL || memcmp(hash, ((struct device *)context)->digest, 32) == 0 ? WB_RC_OK : WB_RC_NOENT;
}

static enum wb_rc image_begin(void *context, uint32_t bytes, const uint8_t *hash, uint32_t *offset) {
    static const uint8_t none[32];
    struct wb_why why;
    hash = hash != NULL ? hash : none;
    return upload_begin(context, hash, hash, bytes, offset, &why);
}

static enum wb_rc image_write(void *context, uint32_t offset, const uint8_t *data, uint32_t length) {
    struct wb_why why;
    return upload_write(context, offset, data, length, &why);
}

static enum wb_rc image_end(void *context) {
    struct wb_why why;
    return upload_end(context, &why);
}

static enum wb_rc image_erase(void *context, uint32_t slot) {
    struct device *device = context;
    device->module_whole = false;
    device->module_bytes = 0;
    return slot == 1 ? WB_RC_OK : WB_RC_BADSTATE;
}

void device_clear(struct device *device) {
    memset(device, 0, sizeof *device);
    device->seed_bytes_left = UINT32_MAX;
    device->info = (struct wb_info){"test", "1.2.3", DEVICE_MODULE_BYTES, 4096, 2048, 256, DEVICE_INSTANCES};
    device->host = (struct wb_link_host){device, identity, store_identity, seed_read, seed_write, changed};
    device->app = (struct wb_app){
        .context = device, .info = &device->info, .upload_begin = upload_begin, .upload_write = upload_write,
        .upload_end = upload_end, .module_count = module_count, .module_row = module_row,
        .module_remove = module_remove, .start = start, .stop = stop, .instance_count = instance_count,
        .instance_row = instance_row, .deliver = deliver, .provide = provide, .secret = secret, .sensor = sensor,
        .accepted = accepted, .next = next, .health = health, .crash = crash, .crash_clear = crash_clear,
        .statistics = statistics, .reset = reset, .image = image, .image_set = image_set,
        .image_begin = image_begin, .image_write = image_write, .image_end = image_end, .image_erase = image_erase,
    };
}

bool device_boot(struct device *device, uint32_t now_ms) {
    device->now_ms = now_ms;
    device->note_kind = WB_NOTE_NONE;
    const bool ready = wb_link_init(&device->link, &device->host, &device->app, now_ms);
    wb_link_random(&device->link, (uint8_t *)&device->request_number, 3);
    return ready;
}

void device_provision(struct device *device, uint32_t number) {
    struct wb_identity *identity = &device->identity;
    uint8_t seed[32];
    memset(identity, 0, sizeof *identity);
    memset(identity->device_private, (int)(0x41 + number), 32);
    wb_x25519_public(identity->device_private, identity->device_public);
    memset(seed, 0x7a, sizeof seed); /* the test gateway's private key */
    wb_x25519_public(seed, identity->gateway_public);
    memcpy(identity->device_id, "fleet/device-0", 14);
    identity->device_id[13] = (uint8_t)('0' + number);
    identity->device_id_bytes = 14;
    memcpy(identity->gateway_id, "gateway-1", 9);
    identity->gateway_id_bytes = 9;
    memset(seed, (int)(0x10 + number), sizeof seed);
    wb_seed_make(device->seeds[0], 1, seed);
    memset(device->seeds[1], 0xff, WB_SEED_RECORD_BYTES);
}
