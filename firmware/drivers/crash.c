#include "crash.h"

#include <stddef.h>

#include "crc32.h"
#include "hal.h"

#define KEPT_MAGIC 0x504b4257u /* "WBKP" */

/* Laid by the linker scripts where no start-up writes. */
static struct {
    uint32_t magic;
    uint32_t boots;
    uint32_t next; /* what ends this run; RESET_EXTERNAL until a reset of our own is near */
    struct crash_record record;
    uint32_t crc;
} kept __attribute__((section(".noinit")));
static enum reset_reason reason;

static uint32_t kept_crc(void) { return crc32(0, &kept, offsetof(__typeof__(kept), crc)); }

enum reset_reason crash_boot(void) {
    if (kept.magic == KEPT_MAGIC && kept.crc == kept_crc() && kept.next < RESET_REASONS) {
        reason = (enum reset_reason)kept.next;
    } else {
        kept.magic = KEPT_MAGIC;
        kept.boots = 0;
        kept.record = (struct crash_record){0};
        reason = RESET_POWER;
    }
    kept.boots++;
    kept.next = RESET_EXTERNAL;
    kept.crc = kept_crc();
    return reason;
}

enum reset_reason crash_reason(void) { return reason; }
uint32_t crash_boots(void) { return kept.boots; }

bool crash_get(struct crash_record *record) {
    *record = kept.record;
    return kept.record.kind != CRASH_NONE;
}

void crash_clear(void) {
    kept.record.kind = CRASH_NONE;
    kept.crc = kept_crc();
}

void crash_note_reset(enum reset_reason why) {
    kept.next = why;
    kept.crc = kept_crc();
}

/* The place of hal_alive, kept by supervise.c. */
extern volatile uint16_t supervise_place;

void crash_now(enum crash_kind kind, const struct crash_registers *registers) {
    const enum reset_reason why = kind == CRASH_SUPERVISION ? RESET_SUPERVISION : RESET_FAULT;
    kept.record = (struct crash_record){
        .sequence = kept.record.sequence + 1,
        .kind = (uint8_t)kind,
        .reason = (uint8_t)why,
        .place = supervise_place,
        .cause = registers->cause,
        .pc = registers->pc,
        .lr = registers->lr,
        .sp = registers->sp,
        .address = registers->address,
        .uptime_ms = (uint32_t)(hal_now_us() / 1000u),
    };
    hal_reset(why);
}

const char *reset_reason_name(enum reset_reason why) {
    static const char *const names[RESET_REASONS] = {"power", "external", "request", "fault", "supervision"};
    return names[why < RESET_REASONS ? why : RESET_POWER];
}

const char *crash_kind_name(enum crash_kind kind) {
    static const char *const names[CRASH_KINDS] = {"none",       "stack", "access",      "alignment", "instruction",
                                                   "arithmetic", "panic", "supervision", "other"};
    return names[kind < CRASH_KINDS ? kind : CRASH_OTHER];
}
