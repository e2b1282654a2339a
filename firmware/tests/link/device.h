/* A device for tests of the link: the real link, with an application part that keeps modules and instances in RAM and
 * runs nothing. An event whose data begins with '!' makes it send the rest as a request, any other one as a log. */
#ifndef DEVICE_H
#define DEVICE_H

#include "wb_link.h"

#ifndef DEVICE_MODULE_BYTES
#define DEVICE_MODULE_BYTES 65536u
#endif
#define DEVICE_INSTANCES 2u
#define DEVICE_NOTE_BYTES 96u
#define DEVICE_RECORD_BYTES WB_LINK_RX_BYTES

struct device_instance {
    bool there;
    uint8_t state;
    struct wb_start start;
    uint8_t record[DEVICE_RECORD_BYTES];
};

struct device {
    struct wb_link link;
    struct wb_link_host host;
    struct wb_app app;
    struct wb_info info;
    struct wb_identity identity;
    uint8_t seeds[2][WB_SEED_RECORD_BYTES];
    uint32_t seed_bytes_left; /* until the power fails in a seed write */
    bool seed_cut;            /* it did */
    uint32_t identity_stores;
    uint32_t now_ms;

    uint8_t module[DEVICE_MODULE_BYTES], digest[32], content[32];
    uint32_t module_bytes, module_at;
    bool module_whole;
    struct device_instance instances[DEVICE_INSTANCES];
    uint32_t changes, removed;

    /* What happened, for tests to look at. */
    uint32_t ups, losses, deliveries, accepted, resets, available, sensor_samples, busy;
    uint64_t secret_sequence;
    /* One note at a time; a request is repeated until it is accepted. */
    uint8_t note[DEVICE_NOTE_BYTES], note_kind, note_instance;
    uint32_t note_bytes, request_number, request_ms;
    bool request_sent;
    uint32_t state_told; /* a bit for each instance whose state is to be told */
    bool crashed;
    uint32_t telemetry_every_ms, telemetry_ms;
};

/* Everything empty; identity and seeds are the caller's. */
void device_clear(struct device *device);
/* Power on (again): RAM of the link is lost, identity, seeds and modules stay. */
bool device_boot(struct device *device, uint32_t now_ms);
/* Test identity number 0..: keys from constant scalars, "fleet/device-N" and "gateway-1"; a seed in slot 0. */
void device_provision(struct device *device, uint32_t number);

#endif
