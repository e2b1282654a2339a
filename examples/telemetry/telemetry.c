/* Watches over an autopilot: running statistics of its telemetry, anomalies at once, a report from time to time. See
 * README.md.
 */
#define WB_TEXT_MAX 160
#include "statistics.h"
#include "wasmbed_cbor.h"
#include "wasmbed_env.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { REPORT_TIMER = 0, RESEND_TIMER = 1, PAGE_TIMER = 2 };
enum { VOLTAGE, CURRENT, HEAT, RATE, CLIMB, SPEED, HDOP, SATELLITES, CHANNELS };

#define RESEND_MS 5000
/* A report goes one channel at a time: a microcontroller has 8 messages under way at most. */
#define PAGE_MS 50
#define WAITING 4

struct channel {
    struct moments moments;
    struct quantile median, high;
    struct baseline baseline;
    uint32_t refused, anomalies;
};

/* An anomaly that the cloud has not confirmed. */
struct finding {
    int64_t time_ns;
    float value, mean, deviation;
    int32_t token;
    uint8_t channel, kind;
    bool used;
};

static const struct {
    const char *name;
    float least, most; /* anything else is not a measurement */
    float grain;       /* the smallest standard deviation that is believed */
} about[CHANNELS] = {
    {"battery voltage", 0.0f, 100.0f, 0.02f}, {"battery current", -100.0f, 1000.0f, 0.1f},
    {"battery temperature", -60.0f, 150.0f, 0.1f}, {"turn rate", 0.0f, 60.0f, 0.01f},
    {"climb", -100.0f, 100.0f, 0.05f}, {"speed", 0.0f, 300.0f, 0.05f},
    {"hdop", 0.0f, 100.0f, 0.05f}, {"satellites", 0.0f, 100.0f, 0.5f},
};
static const char *const kinds[] = {"none", "spike", "drift"};
static struct channel channels[CHANNELS];
static struct finding findings[WAITING];
static struct wb_text line;
static uint8_t message[224];
static uint32_t overrun, reports_lost;
static int32_t flying = -1;
static int32_t interval_ms;
static bool subscribed;
static int32_t page = CHANNELS; /* the channel that is reported next */

static void send_finding(struct finding *finding) {
    struct wb_cbor cbor;
    wb_cbor_begin(&cbor, message, (int32_t)sizeof message);
    wb_cbor_map(&cbor, 6);
    wb_cbor_text(&cbor, "anomaly");
    wb_cbor_text(&cbor, kinds[finding->kind]);
    wb_cbor_text(&cbor, "channel");
    wb_cbor_text(&cbor, about[finding->channel].name);
    wb_cbor_text(&cbor, "time_ns");
    wb_cbor_int(&cbor, finding->time_ns);
    wb_cbor_text(&cbor, "value");
    wb_cbor_float(&cbor, finding->value);
    wb_cbor_text(&cbor, "mean");
    wb_cbor_float(&cbor, finding->mean);
    wb_cbor_text(&cbor, "sd");
    wb_cbor_float(&cbor, finding->deviation);
    /* Refused at once is tried again by the timer, like a failure that is told later. */
    finding->token = cbor.overflow ? 0 : wb_secure_send(message, cbor.length);
}

static void found(int32_t channel, uint8_t kind, int64_t time_ns, float value, const struct baseline *before) {
    struct finding *place = &findings[0];
    for (int32_t i = 0; i < WAITING; i++) {
        if (!findings[i].used) {
            place = &findings[i];
            break;
        }
        if (findings[i].time_ns < place->time_ns) {
            place = &findings[i];
        }
    }
    overrun += place->used;
    *place = (struct finding){time_ns, value, before->mean, wb_sqrtf(before->variance),
                              0,       (uint8_t)channel, kind, true};
    channels[channel].anomalies++;
    wb_text_clear(&line);
    wb_text_add(&line, kinds[kind]);
    wb_text_add(&line, " of ");
    wb_text_add(&line, about[channel].name);
    wb_text_add(&line, ": ");
    wb_text_add_decimal(&line, (double)value, 3);
    wb_text_add(&line, ", normal is ");
    wb_text_add_decimal(&line, (double)before->mean, 3);
    wb_text_add(&line, " +- ");
    wb_text_add_decimal(&line, (double)place->deviation, 3);
    wb_text_log(WB_WARN, &line);
    send_finding(place);
}

static void take(int32_t at, int64_t time_ns, float value) {
    struct channel *channel = &channels[at];
    if (value != value) {
        return; /* the autopilot does not know it */
    }
    if (!(value >= about[at].least && value <= about[at].most)) {
        channel->refused++;
        return;
    }
    moments_add(&channel->moments, value);
    quantile_add(&channel->median, 0.5f, channel->moments.count, value);
    quantile_add(&channel->high, 0.95f, channel->moments.count, value);
    const struct baseline before = channel->baseline;
    const uint8_t kind = baseline_judge(&channel->baseline, value, about[at].grain);
    if (kind != ANOMALY_NONE) {
        found(at, kind, time_ns, value, &before);
    }
}

/* On the ground other values are normal than in the air. */
static void status(const struct wb_px4_status *status) {
    const int32_t now = status->in_air ? 2 : status->armed ? 1 : 0;
    if (now != flying) {
        for (int32_t i = 0; i < CHANNELS; i++) {
            channels[i].baseline = (struct baseline){0};
        }
        flying = now;
    }
}

static void telemetry(int32_t kind, int32_t length) {
    static const int32_t bytes[] = {
        [WB_STATUS] = sizeof(struct wb_px4_status),     [WB_LOCAL] = sizeof(struct wb_px4_local),
        [WB_ATTITUDE] = sizeof(struct wb_px4_attitude), [WB_BATTERY] = sizeof(struct wb_px4_battery),
        [WB_GPS] = sizeof(struct wb_px4_gps),
    };
    union {
        struct wb_px4_status status;
        struct wb_px4_local local;
        struct wb_px4_attitude attitude;
        struct wb_px4_battery battery;
        struct wb_px4_gps gps;
    } record;
    if (kind < 0 || kind > WB_GPS || bytes[kind] == 0 || length != bytes[kind] ||
        wb_event_read(0, &record, (int32_t)sizeof record) != length) {
        return;
    }
    switch (kind) {
    case WB_STATUS:
        status(&record.status);
        break;
    case WB_BATTERY:
        take(VOLTAGE, record.battery.time_ns, record.battery.voltage);
        take(CURRENT, record.battery.time_ns, record.battery.current);
        take(HEAT, record.battery.time_ns, record.battery.temperature);
        break;
    case WB_ATTITUDE: {
        const float *rates = record.attitude.rates;
        take(RATE, record.attitude.time_ns, wb_sqrtf(rates[0] * rates[0] + rates[1] * rates[1] + rates[2] * rates[2]));
        break;
    }
    case WB_LOCAL:
        take(CLIMB, record.local.time_ns, -record.local.vz);
        take(SPEED, record.local.time_ns,
             wb_sqrtf(record.local.vx * record.local.vx + record.local.vy * record.local.vy));
        break;
    case WB_GPS:
        take(HDOP, record.gps.time_ns, record.gps.hdop);
        take(SATELLITES, record.gps.time_ns, (float)record.gps.satellites);
        break;
    default:
        break;
    }
}

static void report_line(const struct channel *channel, const char *name, float median, float high) {
    wb_text_clear(&line);
    wb_text_add(&line, name);
    wb_text_add(&line, " ");
    wb_text_add_decimal(&line, (double)channel->moments.mean, 3);
    wb_text_add(&line, " +- ");
    wb_text_add_decimal(&line, (double)moments_deviation(&channel->moments), 3);
    wb_text_add(&line, ", half below ");
    wb_text_add_decimal(&line, (double)median, 3);
    wb_text_add(&line, ", 95 % below ");
    wb_text_add_decimal(&line, (double)high, 3);
    wb_text_add(&line, ", n ");
    wb_text_add_number(&line, channel->moments.count);
    wb_text_log(WB_INFO, &line);
}

/* False when the host takes nothing more for now. */
static bool report_channel(struct channel *channel, const char *name) {
    const uint32_t count = channel->moments.count;
    const float median = quantile_value(&channel->median, 0.5f, count);
    const float high = quantile_value(&channel->high, 0.95f, count);
    struct wb_cbor cbor;
    wb_cbor_begin(&cbor, message, (int32_t)sizeof message);
    wb_cbor_map(&cbor, 10);
    wb_cbor_text(&cbor, "channel");
    wb_cbor_text(&cbor, name);
    const struct {
        const char *name;
        uint32_t value;
    } counts[3] = {{"n", count}, {"refused", channel->refused}, {"anomalies", channel->anomalies}};
    for (int32_t i = 0; i < 3; i++) {
        wb_cbor_text(&cbor, counts[i].name);
        wb_cbor_int(&cbor, (int64_t)counts[i].value);
    }
    const struct {
        const char *name;
        float value;
    } values[6] = {{"mean", channel->moments.mean},   {"sd", moments_deviation(&channel->moments)},
                   {"min", channel->moments.minimum}, {"max", channel->moments.maximum},
                   {"p50", median},                   {"p95", high}};
    for (int32_t i = 0; i < 6; i++) {
        wb_cbor_text(&cbor, values[i].name);
        wb_cbor_float(&cbor, values[i].value);
    }
    const int32_t sent = cbor.overflow ? WB_ETOOBIG : wb_secure_send(message, cbor.length);
    if (sent == WB_EAGAIN || sent == WB_ERATE) {
        return false; /* later */
    }
    reports_lost += sent < 0;
    report_line(channel, name, median, high);
    channel->moments = (struct moments){0};
    channel->refused = channel->anomalies = 0;
    return true;
}

static void report_losses(void) {
    const uint32_t dropped = (uint32_t)wb_dropped();
    if (dropped != 0 || overrun != 0 || reports_lost != 0) {
        wb_text_clear(&line);
        wb_text_add(&line, "lost: events ");
        wb_text_add_number(&line, dropped);
        wb_text_add(&line, ", anomalies ");
        wb_text_add_number(&line, overrun);
        wb_text_add(&line, ", reports ");
        wb_text_add_number(&line, reports_lost);
        wb_text_log(WB_WARN, &line);
        overrun = reports_lost = 0;
    }
}

static void report_page(void) {
    while (page < CHANNELS && channels[page].moments.count == 0 && channels[page].refused == 0) {
        page++;
    }
    if (page == CHANNELS) {
        wb_timer_set(PAGE_TIMER, 0, 0);
        report_losses();
    } else if (report_channel(&channels[page], about[page].name)) {
        page++;
    }
}

static void report(void) {
    /* One that the last report could not send is in this one. */
    page = 0;
    wb_timer_set(PAGE_TIMER, PAGE_MS, PAGE_MS);
}

static void result(int32_t token) {
    struct wb_result result;
    if (wb_event_read(0, &result, (int32_t)sizeof result) < (int32_t)sizeof result) {
        return;
    }
    for (int32_t i = 0; i < WAITING; i++) {
        if (findings[i].used && findings[i].token == token) {
            findings[i].token = 0;
            findings[i].used = result.status != 0;
        }
    }
}

static void resend(void) {
    for (int32_t i = 0; i < WAITING; i++) {
        if (findings[i].used && findings[i].token <= 0) {
            send_finding(&findings[i]);
        }
    }
}

/* The autopilot may come later than the application. */
static void subscribe(void) {
    static const int32_t wanted[] = {WB_STATUS, WB_BATTERY, WB_ATTITUDE, WB_LOCAL, WB_GPS};
    subscribed = true;
    for (uint32_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        subscribed = wb_px4_subscribe(wanted[i], interval_ms) >= 0 && subscribed;
    }
}

WB_INIT {
    double interval_s, report_s;
    if (!wb_env_decimal("INTERVAL_S", 0.2, 0.0, 3600.0, &interval_s) ||
        !wb_env_decimal("REPORT_S", 60.0, 1.0, 86400.0, &report_s)) {
        return WB_EINVALID;
    }
    interval_ms = (int32_t)(interval_s * 1000.0);
    subscribe();
    if (!subscribed) {
        wb_log(WB_WARN, "no autopilot yet");
    }
    const int32_t report_ms = (int32_t)(report_s * 1000.0);
    wb_timer_set(REPORT_TIMER, report_ms, report_ms);
    wb_timer_set(RESEND_TIMER, RESEND_MS, RESEND_MS);
    wb_text_clear(&line);
    wb_text_add(&line, "watching the autopilot of ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_TELEMETRY) {
        telemetry(source, length);
    } else if (type == WB_TIMER && source == REPORT_TIMER) {
        report();
    } else if (type == WB_TIMER && source == PAGE_TIMER) {
        report_page();
    } else if (type == WB_TIMER) {
        if (!subscribed) {
            subscribe();
        }
        resend();
    } else if (type == WB_RESULT) {
        result(source);
    }
    return 0;
}
