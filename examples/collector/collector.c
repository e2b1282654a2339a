/* Collects what the device measures and delivers it to the cloud: at least once, in order, over pauses of the link and
 * updates of itself. See README.md.
 */
#define WB_TEXT_MAX 160
#include "ring.h"
#include "string.h"
#include "wasmbed_cbor.h"
#include "wasmbed_env.h"
#include "wasmbed_math.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { FLUSH_TIMER = 0, RETRY_TIMER = 1, REPORT_TIMER = 2 };

#ifdef WB_SMALL
#define BATCH_BYTES WB_SMALL_MESSAGE_MAX
#define STATE_BYTES WB_SMALL_STATE_MAX
#else
#define BATCH_BYTES WB_SECURE_MAX
#define STATE_BYTES WB_STATE_MAX
#endif
#define RETRY_FIRST_MS 1000
#define RETRY_MOST_MS 60000
/* Without a result for so long a batch counts as lost. */
#define RESULT_MS 60000
#define STATE_VERSION 1

/* What one version hands to the next; records follow. */
struct state {
    uint32_t version, epoch, next_sequence, lost, count, reserved;
};
#define STATE_RECORDS ((STATE_BYTES - (int32_t)sizeof(struct state)) / (int32_t)sizeof(struct record))

static struct ring ring;
static struct wb_text line;
static uint8_t batch[BATCH_BYTES];
static uint32_t epoch, delivered, resent, refused;
static int32_t token;         /* of the batch under way, 0: none */
static uint32_t batch_last;   /* sequence of its last record */
static int32_t retry_ms = RETRY_FIRST_MS;
static bool waiting;          /* for the retry timer */
static bool flush;            /* send also less than a full batch */
static bool handed_over;
static int32_t interval_ms;
static uint64_t subscribed; /* a bit for each sensor */
static union {
    struct state head;
    uint8_t bytes[STATE_BYTES];
} state;

/* Encodes records from number `from` of the ring on, as many as fit; returns how many. */
static uint32_t encode(uint32_t from, int32_t *length) {
    struct wb_cbor cbor;
    wb_cbor_begin(&cbor, batch, BATCH_BYTES - 1); /* the last byte is for the end mark */
    wb_cbor_array(&cbor, 4);
    wb_cbor_int(&cbor, STATE_VERSION);
    wb_cbor_int(&cbor, (int64_t)epoch);
    wb_cbor_int(&cbor, (int64_t)ring.lost);
    wb_cbor_put(&cbor, 0x9f, 0, 0); /* an array whose length shows at its end */
    uint32_t count = 0;
    for (; from + count < ring.count; count++) {
        const struct record *record = ring_at(&ring, from + count);
        const int32_t before = cbor.length;
        wb_cbor_array(&cbor, 4 + record->count);
        wb_cbor_int(&cbor, (int64_t)record->sequence);
        wb_cbor_int(&cbor, record->time_ns);
        wb_cbor_int(&cbor, record->kind);
        wb_cbor_int(&cbor, record->sensor);
        for (int32_t i = 0; i < record->count; i++) {
            if (record->wide) {
                wb_cbor_double(&cbor, record->values.wide[i]);
            } else {
                wb_cbor_float(&cbor, record->values.narrow[i]);
            }
        }
        if (cbor.overflow) {
            cbor.length = before;
            break;
        }
    }
    batch[cbor.length] = 0xff;
    *length = cbor.length + 1;
    return count;
}

static void wait_and_retry(void) {
    resent++;
    waiting = true;
    wb_timer_set(RETRY_TIMER, retry_ms, 0);
    retry_ms = retry_ms * 2 < RETRY_MOST_MS ? retry_ms * 2 : RETRY_MOST_MS;
}

/* Sends the oldest records when there is a batch of them, or when they have waited long enough. */
static void deliver(void) {
    int32_t length;
    if (token > 0 || waiting || ring.count == 0) {
        return;
    }
    const uint32_t count = encode(0, &length);
    if (count == ring.count && !flush) {
        return; /* more would fit */
    }
    token = wb_secure_send(batch, length);
    if (token > 0) {
        batch_last = ring_at(&ring, count - 1)->sequence;
        wb_timer_set(RETRY_TIMER, RESULT_MS, 0);
    } else {
        token = 0;
        wait_and_retry();
    }
}

static void result(int32_t source) {
    struct wb_result result;
    if (source != token || wb_event_read(0, &result, (int32_t)sizeof result) < (int32_t)sizeof result) {
        return;
    }
    token = 0;
    if (result.status != 0) {
        wait_and_retry();
        return;
    }
    const uint32_t before = ring.count;
    ring_confirm(&ring, batch_last);
    delivered += before - ring.count;
    flush = flush && ring.count > 0;
    retry_ms = RETRY_FIRST_MS;
    wb_timer_set(RETRY_TIMER, 0, 0);
    deliver();
}

static void retry(void) {
    /* Either the pause is over, or no result came. */
    if (token > 0) {
        token = 0;
        resent++;
    }
    waiting = false;
    deliver();
}

static bool finite(const struct record *record) {
    for (int32_t i = 0; i < record->count; i++) {
        if (!wb_finite(record->wide ? record->values.wide[i] : (double)record->values.narrow[i])) {
            return false;
        }
    }
    return true;
}

static void sample(int32_t sensor, int32_t length) {
    struct wb_sample head;
    struct record record = {0};
    const int32_t head_bytes = (int32_t)sizeof head;
    if (length < head_bytes || wb_event_read(0, &head, head_bytes) < head_bytes) {
        refused++;
        return;
    }
    const bool wide = head.format == WB_F64;
    const int32_t most = wide ? RECORD_VALUES / 2 : RECORD_VALUES;
    const int32_t bytes = head.count * (wide ? 8 : 4);
    record.time_ns = head.time_ns;
    record.sensor = (uint8_t)sensor;
    record.kind = (uint8_t)head.kind;
    record.count = (uint8_t)head.count;
    record.wide = wide;
    if ((head.format != WB_F32 && !wide) || head.count == 0 || head.count > most || head.kind > 255 || sensor > 255 ||
        wb_event_read(head_bytes, &record.values, bytes) < bytes || !finite(&record)) {
        refused++;
        return;
    }
    ring_add(&ring, &record);
    deliver();
}

static void report(void) {
    wb_text_clear(&line);
    wb_text_add(&line, "delivered ");
    wb_text_add_number(&line, delivered);
    wb_text_add(&line, ", waiting ");
    wb_text_add_number(&line, ring.count);
    wb_text_add(&line, ", lost ");
    wb_text_add_number(&line, ring.lost);
    wb_text_add(&line, ", refused ");
    wb_text_add_number(&line, refused);
    wb_text_add(&line, ", sent again ");
    wb_text_add_number(&line, resent);
    wb_text_log(WB_INFO, &line);
}

/* Takes over from the version before; false when its state is not ours. */
static bool take_over(void) {
    const int32_t head = (int32_t)sizeof state.head;
    const int32_t length = wb_state_get(&state, STATE_BYTES);
    if (length < head || state.head.version != STATE_VERSION || state.head.count > RING_RECORDS ||
        length != head + (int32_t)(state.head.count * sizeof(struct record))) {
        return false;
    }
    memcpy(ring.records, state.bytes + head, state.head.count * sizeof(struct record));
    for (uint32_t i = 0; i < state.head.count; i++) {
        const struct record *record = &ring.records[i];
        if (record->count > RECORD_VALUES / (record->wide ? 2 : 1) ||
            record->sequence != ring.records[0].sequence + i) {
            return false;
        }
    }
    epoch = state.head.epoch;
    ring.first = 0;
    ring.count = state.head.count;
    ring.lost = state.head.lost;
    ring.next_sequence = state.head.next_sequence;
    return true;
}

/* Subscribes to what is new; how many sensors are read. Sensors may come later than the application. */
static uint32_t find_sensors(void) {
    uint32_t found = 0;
    const int32_t sensors = wb_sensor_count();
    for (int32_t i = 0; i < sensors && i < 64; i++) {
        struct wb_sensor_info info;
        if ((subscribed >> i & 1) == 0 && wb_sensor_info(i, &info, (int32_t)sizeof info) >= 0 &&
            info.kind != WB_CAMERA && wb_sensor_subscribe(i, interval_ms) == 0) {
            subscribed |= (uint64_t)1 << i;
        }
        found += subscribed >> i & 1;
    }
    return found;
}

WB_INIT {
    double interval_s, flush_s, report_s;
    if (!wb_env_decimal("INTERVAL_S", 1.0, 0.0, 3600.0, &interval_s) ||
        !wb_env_decimal("FLUSH_S", 10.0, 0.01, 3600.0, &flush_s) ||
        !wb_env_decimal("REPORT_S", 60.0, 0.1, 86400.0, &report_s)) {
        return WB_EINVALID;
    }
    if (take_over()) {
        wb_text_clear(&line);
        wb_text_add(&line, "took over, waiting ");
        wb_text_add_number(&line, ring.count);
        wb_text_log(WB_INFO, &line);
    } else {
        /* Sequences begin anew: the epoch tells them apart. */
        memset(&ring, 0, sizeof ring);
        wb_random(&epoch, (int32_t)sizeof epoch);
    }
    interval_ms = (int32_t)(interval_s * 1000.0);
    wb_timer_set(FLUSH_TIMER, (int32_t)(flush_s * 1000.0), (int32_t)(flush_s * 1000.0));
    wb_timer_set(REPORT_TIMER, (int32_t)(report_s * 1000.0), (int32_t)(report_s * 1000.0));
    wb_text_clear(&line);
    wb_text_add(&line, "collecting from ");
    wb_text_add_device(&line);
    wb_text_add(&line, ", sensors ");
    wb_text_add_number(&line, find_sensors());
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_SENSOR) {
        sample(source, length);
    } else if (type == WB_RESULT) {
        result(source);
    } else if (type == WB_LINK && source == 1) {
        retry_ms = RETRY_FIRST_MS;
        if (waiting) {
            retry();
        }
    } else if (type == WB_TIMER && source == FLUSH_TIMER) {
        flush = true;
        find_sensors();
        deliver();
    } else if (type == WB_TIMER && source == RETRY_TIMER) {
        retry();
    } else if (type == WB_TIMER) {
        report();
    }
    return 0;
}

/* Sends without waiting for results what would be lost otherwise. */
static uint32_t send_from(uint32_t from) {
    int32_t length;
    while (from < ring.count) {
        const uint32_t count = encode(from, &length);
        if (count == 0 || wb_secure_send(batch, length) <= 0) {
            break;
        }
        from += count;
    }
    return from;
}

WB_SAVE {
    const uint32_t kept = ring.count < STATE_RECORDS ? ring.count : STATE_RECORDS;
    const uint32_t sent = send_from(kept);
    state.head = (struct state){STATE_VERSION, epoch, ring.next_sequence, ring.lost + (ring.count - sent), kept, 0};
    for (uint32_t i = 0; i < kept; i++) {
        memcpy(state.bytes + sizeof state.head + i * sizeof(struct record), ring_at(&ring, i), sizeof(struct record));
    }
    handed_over = true;
    return wb_state_put(&state, (int32_t)(sizeof state.head + kept * sizeof(struct record)));
}

WB_STOP {
    if (!handed_over) {
        const uint32_t sent = send_from(0);
        wb_text_clear(&line);
        wb_text_add(&line, "stopped: sent ");
        wb_text_add_number(&line, sent);
        wb_text_add(&line, ", lost ");
        wb_text_add_number(&line, ring.count - sent);
        wb_text_log(WB_INFO, &line);
    }
}
