/* Instances: a start record in the store, a module in flash, a guest that runs in slices. A failure restarts it with
 * growing pauses; a reset of the board starts it again. */
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "hal.h"
#include "store.h"

#define PLACE_GUEST 0x100u /* hal_alive's place while an instance runs */
#define BACKOFF_MS 1000u
#define BACKOFF_MOST_MS 60000u
#define GOOD_AFTER_MS 10000u
#define STOP_MOST_US 1000000u

struct instance app_instances[APP_INSTANCES];
static uint8_t memory[APP_INSTANCES][APP_MEMORY_BYTES] __attribute__((aligned(8)));
static uint32_t stacks[APP_INSTANCES][APP_STACK_BYTES / 4] __attribute__((aligned(8)));
static uint32_t changes;

uint32_t instances_changes(void) { return changes; }

static uint32_t index_of(const struct instance *instance) { return (uint32_t)(instance - app_instances); }
static enum store_type record_of(const struct instance *instance) {
    return (enum store_type)(STORE_START_0 + index_of(instance));
}

bool instance_record(const struct instance *instance, struct wb_start *start) {
    uint32_t length = 0;
    const uint8_t *record = store_get(record_of(instance), &length);
    return record != NULL && length != 0 && wb_smp_read_start(record, length, start);
}

static bool same(struct wb_text a, struct wb_text b) { return a.length == b.length && memcmp(a.data, b.data, a.length) == 0; }

struct instance *instance_named(struct wb_text name) {
    struct wb_start start;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        if (app_instances[i].wanted && instance_record(&app_instances[i], &start) && same(start.instance, name)) {
            return &app_instances[i];
        }
    }
    return NULL;
}

bool instances_use(const uint8_t *digest) {
    struct wb_start start;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        if (instance_record(&app_instances[i], &start) && memcmp(start.digest, digest, WB_DIGEST_SIZE) == 0) {
            return true;
        }
        if (trial_before(&app_instances[i], &start) && memcmp(start.digest, digest, WB_DIGEST_SIZE) == 0) {
            return true;
        }
        /* One that is being replaced runs on out of its object. */
        const struct wbi_header *running = (const void *)app_instances[i].wbi.object;
        if (app_instances[i].phase != PHASE_NONE && memcmp(running->digest, digest, WB_DIGEST_SIZE) == 0) {
            return true;
        }
    }
    return false;
}

static void set_state(struct instance *instance, enum wb_instance_state state, enum wb_reason reason, const char *why) {
    if (instance->state != (uint8_t)state || instance->why != why) {
        instance->changed = true;
        changes++;
    }
    instance->state = (uint8_t)state;
    instance->reason = (uint8_t)reason;
    instance->why = why;
}

/* ---- starting ------------------------------------------------------------------------------------------------------ */

/* Refuses imports that this application was not granted or that do not exist, by name. */
static bool imports_granted(const uint8_t *object, uint32_t grants, struct wb_why *why) {
    const struct wbi_header *header = (const void *)object;
    for (uint32_t i = 0; i < header->import_count; i++) {
        struct wbi_import import;
        if (!wbi_import_at(object, i, &import)) {
            return false;
        }
        const uint32_t grant = host_grant(import.module, import.module_bytes);
        if (grant == 0 || (grants & grant) == 0) {
            why->text = grant == 0 ? "no such import" : "import that is not granted";
            why->name = (struct wb_text){(const char *)import.name, import.name_bytes};
            return false;
        }
    }
    return true;
}

/* An exported function of this type; WBI_NO_FUNCTION when it is not there, false when it has another one. */
static bool entry(struct instance *instance, const char *name, uint8_t parameters, uint8_t results, uint32_t *function) {
    *function = WBI_NO_FUNCTION;
    if (!wbi_find_function(&instance->wbi, name, (uint32_t)strlen(name), function)) {
        return true;
    }
    const uint8_t *type = wbi_function_type(instance->wbi.object, *function);
    if (type[2] != parameters || type[3] != results) {
        return false;
    }
    for (uint32_t i = 0; i < (uint32_t)parameters + results; i++) {
        if (type[4 + i] != 0) { /* i32 */
            return false;
        }
    }
    return true;
}

static const char *bind(struct instance *instance, const struct wb_start *start, struct wb_why *why) {
    const uint8_t *object = modules_object(start->digest);
    if (object == NULL) {
        return "the module is not on the device";
    }
    if (!imports_granted(object, start->grants, why)) {
        return why->text;
    }
    const uint32_t number = index_of(instance);
    uint32_t bytes = start->memory_bytes != 0 && start->memory_bytes < APP_MEMORY_BYTES ? start->memory_bytes : APP_MEMORY_BYTES;
    if (bytes < wbi_ram_bytes(object)) {
        bytes = APP_MEMORY_BYTES; /* the bound is of the linear memory; globals and imports come on top */
    }
    uint32_t stack = start->stack_bytes != 0 && start->stack_bytes < APP_STACK_BYTES ? start->stack_bytes : APP_STACK_BYTES;
    stack &= ~7u;
    const struct wbi_buffers buffers = {memory[number], bytes, stacks[number], stack};
    if (wbi_instantiate(&instance->wbi, object, &buffers, host_functions, host_function_count, NULL, 0) != WBI_OK) {
        struct wbi_import import;
        if (instance->wbi.error.status == WBI_UNKNOWN_IMPORT || instance->wbi.error.status == WBI_IMPORT_TYPE) {
            if (wbi_import_at(object, instance->wbi.error.offset, &import)) {
                why->name = (struct wb_text){(const char *)import.name, import.name_bytes};
            }
        }
        return instance->wbi.error.reason;
    }
    if (!entry(instance, "wasmbed_init", 0, 1, &instance->init) || !entry(instance, "wasmbed_event", 3, 1, &instance->event) ||
        !entry(instance, "wasmbed_stop", 0, 0, &instance->stop) || !entry(instance, "wasmbed_save", 0, 1, &instance->save)) {
        return "an export has another type than docs/abi.md says";
    }
    uint32_t marker;
    if (!wbi_find_function(&instance->wbi, "wasmbed_abi_1", 13, &marker)) {
        return "the module was not built for application ABI 1";
    }
    if (instance->init == WBI_NO_FUNCTION && instance->event == WBI_NO_FUNCTION) {
        return "the module exports neither wasmbed_init nor wasmbed_event";
    }
    return NULL;
}

static void keep_name(struct instance *instance, struct wb_text name) {
    const uint32_t length = name.length < sizeof instance->why_name - 1 ? name.length : (uint32_t)sizeof instance->why_name - 1;
    if (name.length != 0) {
        memcpy(instance->why_name, name.data, length);
    }
    instance->why_name[length] = '\0';
}

static void put_number(char **at, const char *text, uint32_t value) {
    char digits[10];
    uint32_t count = 0;
    while (*text != '\0') {
        *(*at)++ = *text++;
    }
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count != 0) {
        *(*at)++ = digits[--count];
    }
}

/* Ends what runs; what it asked of the host ends with it. */
static void end_run(struct instance *instance) {
    instance->phase = PHASE_NONE;
    if (instance->owner) {
        instance->owner = false;
        uint8_t reason[10] = {0x66, 's', 't', 'o', 'p', 'p', 'e', 'd'};
        if (instance->failures != 0) {
            memcpy(reason, "\146failed", 7);
        }
        notes_drop(instance);
        (void)notes_request(instance, OP_RELEASE, 0, reason, instance->failures != 0 ? 7 : 8, 1, NULL, 0);
    } else {
        notes_drop(instance);
    }
    events_clear(instance);
}

/* An update failed on trial: the version before starts again. */
static void roll_back(struct instance *instance) {
    end_run(instance);
    instance->failures = 0;
    instance->restarts++;
    instance->due_ms = app_now_ms();
    instance->handed_over = instance->trial_state;
    instance->why_name[0] = '\0';
    set_state(instance, WB_STARTING, WB_REASON_NONE, NULL);
    instance->changed = true;
    changes++;
}

static void fail(struct instance *instance, enum wb_reason reason, const char *why, struct wb_text name) {
    keep_name(instance, name);
    instance->failures = (uint8_t)(instance->failures < 7 ? instance->failures + 1 : 7);
    if (trial_failed(instance, why)) {
        roll_back(instance);
        return;
    }
    uint32_t pause = BACKOFF_MS << (instance->failures - 1u);
    pause = pause < BACKOFF_MOST_MS ? pause : BACKOFF_MOST_MS;
    instance->due_ms = app_now_ms() + pause;
    instance->failed_ms = app_now_ms();
    end_run(instance);
    instance->why = NULL; /* a failure like the last one is news, too */
    set_state(instance, WB_FAILED, reason, why);
}

static void fail_trap(struct instance *instance, enum wbi_status status) {
    /* "f4294967295 @4294967295" */
    char *at = instance->why_name;
    put_number(&at, "f", instance->wbi.error.function);
    put_number(&at, " @", instance->wbi.error.offset);
    const struct wb_text place = {instance->why_name, (uint32_t)(at - instance->why_name)};
    fail(instance, WB_REASON_DEVICE_ERROR, wbi_status_name(status), place);
}

static void begin(struct instance *instance, enum phase phase) {
    instance->phase = (uint8_t)phase;
    instance->call_us = 0;
}

static void start_now(struct instance *instance) {
    struct wb_start start;
    struct wb_why why = {NULL, {NULL, 0}};
    if (!instance_record(instance, &start)) {
        instance->wanted = false;
        return;
    }
    events_clear(instance);
    instance->started_ms = app_now_ms();
    trial_started(instance);
    const char *refused = bind(instance, &start, &why);
    if (refused != NULL) {
        fail(instance, WB_REASON_INVALID_MODULE, refused, why.name);
        return;
    }
    if (instance->state == WB_FAILED) {
        instance->restarts++;
    }
    begin(instance, PHASE_START);
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

static uint32_t call_limit_us(const struct instance *instance, const struct wb_start *start) {
    const uint32_t ms = start->cpu_ms != 0 && start->cpu_ms < APP_CPU_MS ? start->cpu_ms : APP_CPU_MS;
    const uint32_t us = ms * 1000u;
    if (instance->phase != PHASE_STOP) {
        return us;
    }
    return us / 10 < STOP_MOST_US ? us / 10 : STOP_MOST_US;
}

/* Begins the call of this phase, or goes on with it. */
static enum wbi_status run_slice(struct instance *instance) {
    uint64_t arguments[3];
    const bool fresh = instance->call_us == 0;
    wbi_set_fuel(&instance->wbi, APP_SLICE);
    if (!fresh) {
        return wbi_resume(&instance->wbi);
    }
    switch ((enum phase)instance->phase) {
    case PHASE_START:
        return wbi_start(&instance->wbi);
    case PHASE_INIT:
        return wbi_invoke(&instance->wbi, instance->init, NULL, 0);
    case PHASE_EVENT:
        arguments[0] = instance->hand_type;
        arguments[1] = instance->hand_source;
        arguments[2] = instance->hand_bytes;
        return wbi_invoke(&instance->wbi, instance->event, arguments, 3);
    case PHASE_SAVE:
        return wbi_invoke(&instance->wbi, instance->save, NULL, 0);
    case PHASE_STOP:
        return wbi_invoke(&instance->wbi, instance->stop, NULL, 0);
    default:
        return WBI_BAD_CALL;
    }
}

static bool calls_guest(const struct instance *instance) {
    return instance->phase != PHASE_NONE && instance->phase != PHASE_READY;
}

/* A share of the core: after a call the instance pauses in proportion. */
static void throttle(struct instance *instance, const struct wb_start *start) {
    if (start->cpu_share != 0 && start->cpu_share < 1000) {
        instance->due_ms = app_now_ms() + (instance->call_us / start->cpu_share * (1000 - start->cpu_share) + 999) / 1000;
    } else {
        instance->due_ms = app_now_ms();
    }
}

static void stopped(struct instance *instance) {
    end_run(instance);
    if (instance->halt) {
        instance->halt = false;
        instance->wanted = false;
        set_state(instance, WB_STOPPED, WB_REASON_NONE, NULL);
    } else {
        instance->restart = false;
        instance->due_ms = app_now_ms();
        instance->failures = 0;
        set_state(instance, WB_STARTING, WB_REASON_NONE, NULL);
    }
}

/* What follows a call that ended well. */
static void call_done(struct instance *instance, const struct wb_start *start) {
    const bool has_result = instance->phase == PHASE_INIT || instance->phase == PHASE_EVENT || instance->phase == PHASE_SAVE;
    const uint32_t function = instance->phase == PHASE_INIT ? instance->init : instance->phase == PHASE_EVENT ? instance->event : instance->save;
    const int32_t result = has_result ? (int32_t)(uint32_t)wbi_result(&instance->wbi, function, 0) : 0;
    throttle(instance, start);
    switch ((enum phase)instance->phase) {
    case PHASE_START:
        begin(instance, PHASE_READY);
        if (instance->init != WBI_NO_FUNCTION) {
            begin(instance, PHASE_INIT);
            return;
        }
        break;
    case PHASE_INIT:
        if (result != 0) {
            fail(instance, WB_REASON_DEVICE_ERROR, "wasmbed_init failed", (struct wb_text){NULL, 0});
            return;
        }
        break;
    case PHASE_EVENT:
        events_done(instance);
        if (result < 0) {
            fail(instance, WB_REASON_DEVICE_ERROR, "wasmbed_event failed", (struct wb_text){NULL, 0});
            return;
        }
        break;
    case PHASE_SAVE:
        instance->handed_over = instance->handed_over && result >= 0;
        begin(instance, instance->stop != WBI_NO_FUNCTION ? PHASE_STOP : PHASE_NONE);
        if (instance->phase == PHASE_NONE) {
            stopped(instance);
        }
        return;
    case PHASE_STOP:
        stopped(instance);
        return;
    default:
        break;
    }
    if (instance->state == WB_STARTING) {
        set_state(instance, WB_RUNNING, WB_REASON_NONE, NULL);
    }
    begin(instance, PHASE_READY);
    instance->handed_over = false;
}

static void slice(struct instance *instance) {
    struct wb_start start;
    memset(&start, 0, sizeof start); /* a stop has taken the record away: the board's limits hold */
    (void)instance_record(instance, &start);
    hal_alive((uint16_t)(PLACE_GUEST + index_of(instance)));
    const uint64_t began = hal_now_us();
    const enum wbi_status status = run_slice(instance);
    const uint32_t used = (uint32_t)(hal_now_us() - began) + 1;
    instance->call_us += used;
    instance->cpu_us += used;
    instance->cpu_ms += instance->cpu_us / 1000;
    instance->cpu_us %= 1000;
    const bool ending = instance->phase == PHASE_STOP || instance->phase == PHASE_SAVE;
    if (status == WBI_OK) {
        call_done(instance, &start);
    } else if (status != WBI_OUT_OF_FUEL || instance->call_us > call_limit_us(instance, &start)) {
        if (ending) {
            instance->handed_over = false;
            stopped(instance); /* its failure changes nothing */
        } else {
            fail_trap(instance, status == WBI_OUT_OF_FUEL ? WBI_TIMED_OUT : status);
        }
    }
}

/* Between calls: an order to stop, or the next event. */
static bool next_call(struct instance *instance) {
    const uint32_t now = app_now_ms();
    trial_check(instance);
    if (instance->state == WB_FAILED && now - instance->failed_ms > GOOD_AFTER_MS) {
        instance->failures = 0;
        set_state(instance, WB_RUNNING, WB_REASON_NONE, NULL);
    }
    if (instance->halt || instance->restart) {
        instance->handed_over = false;
        const bool saves = instance->restart && !instance->halt && instance->save != WBI_NO_FUNCTION;
        begin(instance, saves ? PHASE_SAVE : instance->stop != WBI_NO_FUNCTION ? PHASE_STOP : PHASE_NONE);
        if (instance->phase == PHASE_NONE) {
            stopped(instance);
        }
        return true;
    }
    if (instance->event == WBI_NO_FUNCTION || (int32_t)(now - instance->due_ms) < 0 || !events_take(instance, now)) {
        return false;
    }
    begin(instance, PHASE_EVENT);
    return true;
}

static bool step(struct instance *instance) {
    if (!instance->wanted && instance->phase == PHASE_NONE) {
        return false;
    }
    if (instance->phase == PHASE_NONE) {
        if (instance->halt) {
            stopped(instance);
        } else if (instance->restart || (int32_t)(app_now_ms() - instance->due_ms) >= 0) {
            instance->restart = false;
            start_now(instance);
            return true;
        }
        return false;
    }
    if (instance->phase == PHASE_READY && !next_call(instance)) {
        return false;
    }
    if (calls_guest(instance)) {
        slice(instance);
    }
    return true;
}

bool instances_step(void) {
    bool busy = false;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        busy = step(&app_instances[i]) || busy;
    }
    return busy;
}

uint32_t instances_due_ms(void) {
    uint32_t most = 1000;
    const uint32_t now = app_now_ms();
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        const struct instance *instance = &app_instances[i];
        if (instance->phase == PHASE_READY) {
            most = events_due_ms(instance, now, most);
        }
        if (instance->wanted && (instance->phase == PHASE_NONE || instance->phase == PHASE_READY)) {
            const int32_t left = (int32_t)(instance->due_ms - now);
            /* What is due while the instance pauses waits for the end of the pause. */
            if (left > 0 && (instance->phase == PHASE_NONE || most < (uint32_t)left)) {
                most = (uint32_t)left < 1000 ? (uint32_t)left : 1000;
            } else if (instance->phase == PHASE_NONE) {
                most = 0;
            }
        }
    }
    return most;
}

void *instances_borrow(uint32_t *bytes) {
    struct instance *instance = &app_instances[0];
    while (calls_guest(instance)) {
        slice(instance);
    }
    *bytes = APP_STACK_BYTES;
    return stacks[0];
}

void instances_link(bool up) {
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        struct instance *instance = &app_instances[i];
        if (instance->phase != PHASE_NONE) {
            instance->link_event = up ? 2 : 1;
            if (!up) {
                tokens_fail(instance);
            }
        }
        instance->changed = instance->changed || (up && instance->wanted);
    }
}

/* ---- orders ------------------------------------------------------------------------------------------------------------ */

void instances_boot(void) {
    struct wb_start start;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        trial_boot(&app_instances[i]);
        if (instance_record(&app_instances[i], &start)) {
            app_instances[i].wanted = true;
            app_instances[i].due_ms = app_now_ms();
        }
    }
}

enum wb_rc instances_start(void *context, const struct wb_start *start, struct wb_why *why) {
    (void)context;
    struct wb_start now;
    struct instance *instance = instance_named(start->instance);
    if (instance != NULL && instance_record(instance, &now) && memcmp(now.key, start->key, 32) == 0) {
        return WB_RC_OK;
    }
    for (uint32_t i = 0; i < APP_INSTANCES && instance == NULL; i++) {
        instance = app_instances[i].wanted ? NULL : &app_instances[i];
    }
    if (instance == NULL) {
        why->text = "the device runs as many instances as it can";
        return WB_RC_NOMEM;
    }
    const uint8_t *object = modules_object(start->digest);
    if (object == NULL) {
        return WB_RC_NOENT;
    }
    if (!imports_granted(object, start->grants, why)) {
        return WB_RC_ACCESS;
    }
    if (wbi_ram_bytes(object) > APP_MEMORY_BYTES) {
        why->text = "the module needs more memory than this device gives";
        return WB_RC_NOMEM;
    }
    const bool update = instance->wanted;
    trial_prepare(instance, update);
    if (!store_put(record_of(instance), start->record, start->record_bytes)) {
        why->text = "the flash failed";
        return WB_RC_UNKNOWN;
    }
    trial_order(instance);
    instance->wanted = true;
    instance->halt = false;
    instance->restart = update;
    if (!update) {
        instance->restarts = instance->cpu_ms = instance->dropped_all = 0;
        instance->handed_over = false;
        instance->due_ms = app_now_ms();
    }
    instance->failures = 0;
    set_state(instance, WB_STARTING, WB_REASON_NONE, NULL);
    instance->changed = true;
    return WB_RC_OK;
}

enum wb_rc instances_stop(void *context, struct wb_text name) {
    (void)context;
    struct instance *instance = instance_named(name);
    if (instance == NULL) {
        return WB_RC_OK;
    }
    if (!store_put(record_of(instance), "", 0)) {
        return WB_RC_UNKNOWN;
    }
    trial_drop(instance);
    instance->halt = true;
    return WB_RC_OK;
}

uint32_t instances_count(void *context) {
    (void)context;
    struct wb_start start;
    uint32_t count = 0;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        count += app_instances[i].wanted && instance_record(&app_instances[i], &start);
    }
    return count;
}

bool instances_row(void *context, uint32_t index, struct wb_instance_row *row) {
    (void)context;
    struct wb_start start;
    for (uint32_t i = 0; i < APP_INSTANCES; i++) {
        const struct instance *instance = &app_instances[i];
        if (!instance->wanted || !instance_record(instance, &start) || index-- != 0) {
            continue;
        }
        row->instance = start.instance;
        row->application = start.application;
        row->digest = start.digest;
        row->key = start.key;
        row->grants = start.grants;
        row->restarts = instance->restarts;
        row->memory_bytes = instance->phase != PHASE_NONE && instance->wbi.memory != NULL ? instance->wbi.memory->bytes : 0;
        row->cpu_ms = instance->cpu_ms;
        row->dropped = instance->dropped_all;
        row->state = instance->state;
        row->reason = instance->reason;
        row->previous = trial_rolled_back(instance, &row->why.text);
        if (instance->why != NULL) {
            row->why.text = instance->why;
            row->why.name = (struct wb_text){instance->why_name, (uint32_t)strlen(instance->why_name)};
        }
        return true;
    }
    return false;
}
