/* Updates that have to prove themselves. The start request of the version before stays in the store, and its module with
 * it, until the new one has run for a minute; one that fails before is replaced by it again, and kept by its key and the
 * reason. Three records an instance, each written whole, so that a power cut anywhere leaves one of these:
 *   START new, BEFORE old                  on trial
 *   START new, BEFORE old, FAILED of new   taken back: trials_boot goes on with it
 *   START old, BEFORE old                  not begun, or taken back: BEFORE is cleared */
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "store.h"

#define KEY_BYTES 32u
#define DIGEST_SHOWN 6u /* bytes */

struct failed {
    uint8_t key[KEY_BYTES]; /* of the start request */
    char text[WB_MESSAGE_TEXT_MAX];
};

static enum store_type type_of(const struct instance *instance, enum store_type first) {
    return (enum store_type)((uint32_t)first + (uint32_t)(instance - app_instances));
}

static void clear(const struct instance *instance, enum store_type first) {
    uint32_t length = 0;
    if (store_get(type_of(instance, first), &length) != NULL && length != 0) {
        (void)store_put(type_of(instance, first), "", 0);
    }
}

static const struct failed *failed_of(const struct instance *instance) {
    uint32_t length = 0;
    const uint8_t *record = store_get(type_of(instance, STORE_FAILED_0), &length);
    return record != NULL && length > KEY_BYTES && record[length - 1] == '\0' ? (const void *)record : NULL;
}

bool trial_before(const struct instance *instance, struct wb_start *before) {
    struct wb_start now;
    uint32_t length = 0;
    const uint8_t *record = store_get(type_of(instance, STORE_BEFORE_0), &length);
    return record != NULL && length != 0 && wb_smp_read_start(record, length, before) &&
           instance_record(instance, &now) && memcmp(now.key, before->key, KEY_BYTES) != 0;
}

/* Has the version before run from now on. */
static bool restore(const struct instance *instance) {
    struct wb_start before;
    if (!trial_before(instance, &before) ||
        !store_put(type_of(instance, STORE_START_0), before.record, before.record_bytes)) {
        return false;
    }
    clear(instance, STORE_BEFORE_0);
    return true;
}

void trial_boot(struct instance *instance) {
    struct wb_start now;
    struct wb_start before;
    const struct failed *failed = failed_of(instance);
    if (!instance_record(instance, &now)) {
        trial_drop(instance);
        return;
    }
    if (failed != NULL && memcmp(failed->key, now.key, KEY_BYTES) == 0) {
        (void)restore(instance);
    }
    trial_order(instance);
    if (!trial_before(instance, &before)) {
        clear(instance, STORE_BEFORE_0);
    }
}

void trial_prepare(struct instance *instance, bool update) {
    struct wb_start now;
    struct wb_start before;
    clear(instance, STORE_FAILED_0);
    instance->rolled_back = false;
    if (!update) {
        clear(instance, STORE_BEFORE_0);
        return;
    }
    /* During a trial the version before stays the one to go back to, without a state that another one has saved. */
    instance->trial_state = !trial_before(instance, &before);
    if (instance->trial_state && instance_record(instance, &now)) {
        /* Without room for both requests there is no way back. */
        (void)store_put(type_of(instance, STORE_BEFORE_0), now.record, now.record_bytes);
    }
}

void trial_order(struct instance *instance) {
    struct wb_start before;
    instance->on_trial = trial_before(instance, &before);
    instance->trying = false;
}

void trial_started(struct instance *instance) {
    if (instance->on_trial) {
        instance->trial_state = instance->trial_state && instance->handed_over;
        instance->trial_ms = app_now_ms();
        instance->trying = true;
    }
}

void trial_check(struct instance *instance) {
    if (instance->trying && app_now_ms() - instance->trial_ms >= APP_TRIAL_MS) {
        instance->on_trial = instance->trying = false;
        clear(instance, STORE_BEFORE_0);
    }
}

void trial_drop(struct instance *instance) {
    instance->on_trial = instance->trying = instance->rolled_back = false;
    clear(instance, STORE_BEFORE_0);
    clear(instance, STORE_FAILED_0);
}

static uint32_t append(struct failed *failed, uint32_t at, const char *text, uint32_t most) {
    while (*text != '\0' && at < most) {
        failed->text[at++] = *text++;
    }
    return at;
}

bool trial_failed(struct instance *instance, const char *why) {
    static const char digits[] = "0123456789abcdef";
    static const char again[] = " runs again";
    struct failed failed;
    struct wb_start now;
    struct wb_start before;
    if (!instance->trying || !instance_record(instance, &now) || !trial_before(instance, &before)) {
        return false;
    }
    instance->on_trial = instance->trying = false;
    memcpy(failed.key, now.key, KEY_BYTES);
    /* The words that a gateway's runtime has for it, and the version in any case. */
    const uint32_t room = WB_MESSAGE_TEXT_MAX - (uint32_t)sizeof "; sha256:" - 2 * DIGEST_SHOWN - (uint32_t)sizeof again;
    uint32_t at = append(&failed, 0, "update failed: ", room);
    at = append(&failed, at, why, room);
    if (instance->why_name[0] != '\0') {
        at = append(&failed, at, ": ", room);
        at = append(&failed, at, instance->why_name, room);
    }
    at = append(&failed, at, "; sha256:", WB_MESSAGE_TEXT_MAX);
    for (uint32_t i = 0; i < DIGEST_SHOWN; i++) {
        failed.text[at++] = digits[before.digest[i] >> 4];
        failed.text[at++] = digits[before.digest[i] & 15];
    }
    at = append(&failed, at, again, WB_MESSAGE_TEXT_MAX);
    failed.text[at++] = '\0';
    if (!store_put(type_of(instance, STORE_FAILED_0), &failed, KEY_BYTES + at) || !restore(instance)) {
        return false;
    }
    instance->rolled_back = true;
    return true;
}

const uint8_t *trial_rolled_back(const struct instance *instance, const char **why) {
    const struct failed *failed = failed_of(instance);
    *why = failed != NULL ? failed->text : NULL;
    return failed != NULL ? failed->key : NULL;
}
