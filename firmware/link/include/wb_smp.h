/* Messages inside the secure link: SMP (MCUmgr) with the published groups OS and image, and the Wasmbed group.
 *
 * The link takes requests apart and calls the application part of the firmware (struct wb_app), which runs modules,
 * writes flash and keeps records. All functions of struct wb_app are called from wb_link_input, wb_link_output or
 * wb_link_poll, never from an interrupt; one that is a null pointer answers "not supported". Pointers in their
 * arguments are good until they return. Message forms: docs/link.md.
 */
#ifndef WB_SMP_H
#define WB_SMP_H

#include "wb_cbor.h"

#define WB_DIGEST_SIZE 32u
#define WB_NAME_MAX 64u /* of an instance */
#define WB_LONG_NAME_MAX 317u /* of an application or device: namespace/name as Kubernetes allows them */
#define WB_MESSAGE_TEXT_MAX 96u

/* Results as MCUmgr numbers them. */
enum wb_rc {
    WB_RC_OK = 0,
    WB_RC_UNKNOWN = 1,
    WB_RC_NOMEM = 2,   /* no room: flash, RAM or instances */
    WB_RC_INVAL = 3,   /* the request is not what its description says */
    WB_RC_TIMEOUT = 4,
    WB_RC_NOENT = 5,   /* no such module, instance, record */
    WB_RC_BADSTATE = 6,
    WB_RC_MSGSIZE = 7,
    WB_RC_NOTSUP = 8,
    WB_RC_CORRUPT = 9, /* a module or image is refused: digest, validation, signature */
    WB_RC_BUSY = 10,   /* ask again later */
    WB_RC_ACCESS = 11, /* not granted */
    /* Errors of the image group, as MCUmgr numbers them there. */
    WB_RC_IMAGE = 0x100,
    WB_RC_IMAGE_HASH_NOT_FOUND = WB_RC_IMAGE + 8,
    WB_RC_IMAGE_NO_FREE_SLOT = WB_RC_IMAGE + 9,
    WB_RC_IMAGE_INVALID_SLOT = WB_RC_IMAGE + 14,
    WB_RC_IMAGE_TEST_OF_ACTIVE = WB_RC_IMAGE + 33
};

struct wb_text {
    const char *data; /* not terminated */
    uint32_t length;
};

/* Why something is refused or failed, for people: "text" or "text: name". Both stay where they are (flash). */
struct wb_why {
    const char *text; /* null: nothing to add to the result */
    struct wb_text name;
};

/* Grants of a start request, as bits. */
#define WB_GRANT_SYS 1u
#define WB_GRANT_PX4 2u
#define WB_GRANT_ROS2 4u
#define WB_GRANT_SENSOR 8u
#define WB_GRANT_SECURE 16u
/* What an application may do to the autopilot. */
#define WB_RIGHT_COMMAND 1u
#define WB_RIGHT_OFFBOARD 2u
#define WB_RIGHT_PARAMETERS 4u
#define WB_RIGHT_MISSION 8u
#define WB_RIGHT_DANGEROUS 16u

/* What wasmbed.runtime calls a StartRequest. Limits of 0 mean the board's. */
struct wb_start {
    struct wb_text instance, application, device;
    const uint8_t *digest; /* WB_DIGEST_SIZE */
    const uint8_t *key;    /* 32 bytes: digest of the whole request, given back in the list */
    uint32_t grants;       /* WB_GRANT_* */
    uint32_t rights;       /* WB_RIGHT_* */
    uint32_t memory_bytes, stack_bytes, cpu_ms;
    uint32_t cpu_share;    /* thousandths of the core; 0: no bound */
    struct wb_cbor env;    /* pairs of texts: wb_cbor_next gives name, value, name, value */
    struct wb_cbor routes; /* in the order of their handles: alias, direction, kind, alias, ... */
    /* The request as it came, to be kept in flash and read again after a reset by wb_smp_read_start. */
    const uint8_t *record;
    uint32_t record_bytes;
};
/* Checks and takes apart a start request; false when it is not one. */
bool wb_smp_read_start(const uint8_t *record, uint32_t record_bytes, struct wb_start *start);

enum wb_instance_state { WB_STARTING = 0, WB_RUNNING = 1, WB_FAILED = 2, WB_STOPPED = 3 };
enum wb_reason { WB_REASON_NONE = 0, WB_REASON_INVALID_MODULE = 1, WB_REASON_DEVICE_ERROR = 2 };

struct wb_instance_row {
    struct wb_text instance, application;
    const uint8_t *digest, *key; /* 32 bytes each */
    uint32_t grants, restarts;
    uint32_t memory_bytes, cpu_ms, dropped; /* as InstanceStatus of wasmbed.runtime has them */
    struct wb_why why;
    const uint8_t *previous; /* key of the start request that was tried and taken back; null without one */
    uint8_t state;  /* enum wb_instance_state */
    uint8_t reason; /* enum wb_reason */
};

struct wb_module_row {
    const uint8_t *digest;
    uint32_t bytes; /* of the module as it came */
};

/* What kind of device this is; const, in flash. */
struct wb_info {
    const char *board;    /* "stm32", "hifive1" */
    const char *firmware; /* version */
    uint32_t module_bytes; /* largest module the flash takes */
    uint32_t memory_bytes; /* most guest memory */
    uint32_t stack_bytes;  /* most value and call stack of a guest */
    uint32_t receive_ring; /* bytes the UART takes in by interrupt while a frame is worked on */
    uint8_t instances;     /* at once */
};

struct wb_crash {
    uint32_t cause; /* the core's: ICSR exception number and CFSR, or mcause */
    uint32_t pc, address, status;
    uint32_t uptime_s;
    uint32_t count; /* crashes since the record was cleared */
    struct wb_text what; /* what was running: an instance, or empty */
};

/* An image slot, for the image group. */
struct wb_image {
    uint8_t hash[WB_DIGEST_SIZE];
    char version[16];    /* "1.2.3" */
    bool bootable, pending, confirmed, active, permanent;
};

enum wb_reset_reason { WB_RESET_POWER = 0, WB_RESET_PIN, WB_RESET_SOFTWARE, WB_RESET_WATCHDOG, WB_RESET_CRASH };

struct wb_health {
    uint32_t uptime_s;
    uint32_t changes; /* counts every change of an instance's state: when it differs from the last, the gateway lists */
    uint8_t reset_reason; /* enum wb_reset_reason */
    bool crashed;         /* a crash record waits */
};

/* Messages of the device to the gateway. The gateway answers requests only. */
enum wb_note {
    WB_NOTE_NONE = 0,
    WB_NOTE_LOG = 33,       /* {0: instance, 1: level, 2: text, 3: dropped before, 4: number} */
    WB_NOTE_STATE = 34,     /* {0: instance, 1: state, 2: reason, 3: message, 4: restarts, 5: key of the update that was taken back} */
    WB_NOTE_TELEMETRY = 35, /* {0: name, 1: time since boot in ms, 2: bytes}: of the device itself */
    /* {0: number, 1: instance, 2: module, 3: operation, 4: token, 5: [arguments], 6: bytes}, the HostRequest of
     * wasmbed.runtime: modules and operations as in docs/abi.md ("px4", "command"), arguments are texts and integers. */
    WB_NOTE_REQUEST = 36
};

struct wb_app {
    void *context;
    const struct wb_info *info;

    /* Modules. Their name is the digest of their image; content is the SHA-256 of the bytes, to be checked. A begin for an
     * upload that broke off gives the offset to go on from; for a module that is there, its length. Writes come in order
     * without gaps. The last byte is followed by upload_end, which checks and validates. */
    enum wb_rc (*upload_begin)(void *context, const uint8_t *digest, const uint8_t *content, uint32_t bytes,
                               uint32_t *offset, struct wb_why *why);
    enum wb_rc (*upload_write)(void *context, uint32_t offset, const uint8_t *data, uint32_t length,
                               struct wb_why *why);
    enum wb_rc (*upload_end)(void *context, struct wb_why *why);
    uint32_t (*module_count)(void *context);
    bool (*module_row)(void *context, uint32_t index, struct wb_module_row *row);
    enum wb_rc (*module_remove)(void *context, const uint8_t *digest);

    /* Instances. A start of the same instance and key is done already; a stop of none is done. */
    enum wb_rc (*start)(void *context, const struct wb_start *start, struct wb_why *why);
    enum wb_rc (*stop)(void *context, struct wb_text instance);
    uint32_t (*instance_count)(void *context);
    bool (*instance_row)(void *context, uint32_t index, struct wb_instance_row *row);
    /* An event for an application (type, source and data as in docs/abi.md); each comes once in a session. The outcome
     * of a request with a token is one, of type RESULT. WB_RC_BUSY: no room now, it is sent again. */
    enum wb_rc (*deliver)(void *context, struct wb_text instance, uint32_t type, uint32_t source, const uint8_t *data,
                          uint32_t length);
    /* What is behind the host modules from now on: WB_GRANT_* bits of those that the gateway serves. */
    enum wb_rc (*provide)(void *context, uint32_t available);
    /* The sealing key of an application (32 bytes) and the first of 1,000 numbers reserved for it. */
    enum wb_rc (*secret)(void *context, struct wb_text application, const uint8_t *key, uint64_t sequence);
    /* A sample for a sensor that the gateway feeds. */
    enum wb_rc (*sensor)(void *context, uint32_t sensor, uint64_t time_us, const uint8_t *data, uint32_t length);

    /* The gateway has the WB_NOTE_REQUEST or WB_NOTE_LOG of this number. */
    void (*accepted)(void *context, uint32_t number);
    /* Asked when the line is free for a message of the device's own and no answer is due: writes one message (requests
     * before states before logs before telemetry) and gives its kind, or WB_NOTE_NONE. Nothing is sent again by
     * itself. A request or line that was not accepted within a second or two is written again with its number: the
     * gateway takes each number once. Numbers start at random (wb_link_random) with each boot and count up. */
    enum wb_note (*next)(void *context, struct wb_cbor_out *out);

    /* Records and control. */
    void (*health)(void *context, struct wb_health *health);
    bool (*crash)(void *context, struct wb_crash *crash);
    enum wb_rc (*crash_clear)(void *context);
    /* Adds pairs (uint key >= 64, uint value) to the statistics; the number of pairs. */
    uint32_t (*statistics)(void *context, struct wb_cbor_out *out);
    /* Restarts the device after its answer has left: sets a flag for the main loop. */
    void (*reset)(void *context);

    /* Firmware images (image group). Slot 0 runs, slot 1 takes uploads; image_write and image_end are called after an
     * image_begin that gave WB_RC_OK only. */
    bool (*image)(void *context, uint32_t slot, struct wb_image *image);
    /* hash null: the running one. */
    enum wb_rc (*image_set)(void *context, const uint8_t *hash, bool confirm);
    enum wb_rc (*image_begin)(void *context, uint32_t bytes, const uint8_t *hash, uint32_t *offset);
    enum wb_rc (*image_write)(void *context, uint32_t offset, const uint8_t *data, uint32_t length);
    enum wb_rc (*image_end)(void *context);
    enum wb_rc (*image_erase)(void *context, uint32_t slot);
};

#endif
