/* Watches temperature, humidity and air pressure: filters the samples, raises an alarm beyond limits and when a sensor
 * falls silent, and reports. See README.md.
 */
#define WB_TEXT_MAX 160
#include "channel.h"
#include "string.h"
#include "wasmbed_env.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { CHECK_TIMER = 0, REPORT_TIMER = 1 };
enum { TEMPERATURE, HUMIDITY, PRESSURE, QUANTITIES };

struct quantity {
    struct channel channel;
    struct limits limits;
    int32_t sensor; /* negative: the device has none */
    int32_t unconfirmed; /* token of the alarm under way to the cloud */
    bool unsent;         /* the alarm's state is not known to the cloud yet */
    int64_t heard_ns;
};

static const char *const names[QUANTITIES] = {"temperature", "humidity", "pressure"};
static const char *const alarms[] = {"normal", "high", "low", "silent"};
static const uint16_t kinds[QUANTITIES] = {WB_TEMPERATURE, WB_HUMIDITY, WB_BAROMETER};
static struct quantity quantities[QUANTITIES];
static struct wb_text line;
static int64_t silent_ns;
static int32_t interval_ms;
static int32_t route = WB_EUNAVAILABLE;
static uint32_t lost;

static bool configure(void) {
    static const struct limits defaults[QUANTITIES] = {
        {-90.0f, 150.0f, -20.0f, 60.0f, 2.0f},
        {0.0f, 100.0f, 5.0f, 95.0f, 3.0f},
        {30000.0f, 110000.0f, 60000.0f, 108000.0f, 200.0f},
    };
    static const char *const variables[QUANTITIES][3] = {
        {"TEMPERATURE_LOW", "TEMPERATURE_HIGH", "TEMPERATURE_HYSTERESIS"},
        {"HUMIDITY_LOW", "HUMIDITY_HIGH", "HUMIDITY_HYSTERESIS"},
        {"PRESSURE_LOW", "PRESSURE_HIGH", "PRESSURE_HYSTERESIS"},
    };
    for (int32_t i = 0; i < QUANTITIES; i++) {
        struct limits *limits = &quantities[i].limits;
        *limits = defaults[i];
        quantities[i].sensor = -1;
        float *const places[3] = {&limits->low, &limits->high, &limits->hysteresis};
        for (int32_t k = 0; k < 3; k++) {
            double value;
            if (!wb_env_decimal(variables[i][k], (double)*places[k], (double)limits->least, (double)limits->most,
                                &value)) {
                return false;
            }
            *places[k] = (float)value;
        }
    }
    return true;
}

/* Subscribes to the first sensor of each kind that has none yet; how many kinds have one. Sensors may come later than
 * the application. */
static int32_t find_sensors(void) {
    int32_t found = 0;
    const int64_t now = wb_clock_monotonic_ns();
    const int32_t count = wb_sensor_count();
    for (int32_t i = 0; i < QUANTITIES; i++) {
        for (int32_t k = 0; k < count && quantities[i].sensor < 0; k++) {
            struct wb_sensor_info info;
            if (wb_sensor_info(k, &info, (int32_t)sizeof info) >= 0 && info.kind == kinds[i] &&
                wb_sensor_subscribe(k, interval_ms) == 0) {
                quantities[i].sensor = k;
                quantities[i].heard_ns = now;
            }
        }
        found += quantities[i].sensor >= 0;
    }
    return found;
}

/* Tells the other instances, ROS and the cloud of an alarm or its end. */
static void tell(int32_t i) {
    struct quantity *quantity = &quantities[i];
    wb_text_clear(&line);
    wb_text_add(&line, "{\"quantity\":\"");
    wb_text_add(&line, names[i]);
    wb_text_add(&line, "\",\"state\":\"");
    wb_text_add(&line, alarms[quantity->channel.alarm]);
    wb_text_add(&line, "\",\"value\":");
    wb_text_add_json(&line, (double)quantity->channel.smooth, 2);
    wb_text_add(&line, "}");
    quantity->unconfirmed = wb_secure_send(line.bytes, line.length);
    quantity->unsent = quantity->unconfirmed <= 0;
}

static void alarm_changed(int32_t i) {
    const struct channel *channel = &quantities[i].channel;
    wb_text_clear(&line);
    wb_text_add(&line, names[i]);
    wb_text_add(&line, " ");
    wb_text_add(&line, alarms[channel->alarm]);
    wb_text_add(&line, ": ");
    wb_text_add_decimal(&line, (double)channel->smooth, 2);
    wb_text_log(channel->alarm == ALARM_NONE ? WB_INFO : WB_WARN, &line);
    tell(i);
    wb_send("alarm", line.bytes, line.length);
    if (route >= 0) {
        /* std_msgs/String as JSON: the quotation marks of the inner text are escaped. */
        static struct wb_text message;
        wb_text_clear(&message);
        wb_text_add(&message, "{\"data\":\"");
        for (int32_t k = 0; k < line.length; k++) {
            wb_text_add(&message, line.bytes[k] == '"' ? "\\" : "");
            wb_text_add_bytes(&message, &line.bytes[k], 1);
        }
        wb_text_add(&message, "\"}");
        wb_ros2_publish(route, message.bytes, message.length);
    }
}

static void sample(int32_t sensor, int32_t length) {
    struct {
        struct wb_sample head;
        float value;
    } sample;
    const int32_t least = (int32_t)sizeof sample.head + 4;
    if (length < least || wb_event_read(0, &sample, (int32_t)sizeof sample) < least) {
        return;
    }
    for (int32_t i = 0; i < QUANTITIES; i++) {
        struct quantity *quantity = &quantities[i];
        if (quantity->sensor != sensor || sample.head.kind != kinds[i] || sample.head.format != WB_F32 ||
            sample.head.count == 0) {
            continue;
        }
        const uint32_t before = quantity->channel.accepted;
        if (channel_take(&quantity->channel, &quantity->limits, sample.value)) {
            alarm_changed(i);
        }
        if (quantity->channel.accepted != before) {
            quantity->heard_ns = wb_clock_monotonic_ns();
        }
    }
}

static void check(void) {
    find_sensors();
    const int64_t now = wb_clock_monotonic_ns();
    for (int32_t i = 0; i < QUANTITIES; i++) {
        struct quantity *quantity = &quantities[i];
        if (quantity->sensor >= 0 && now - quantity->heard_ns > silent_ns && quantity->channel.alarm != ALARM_SILENT) {
            quantity->channel.alarm = ALARM_SILENT;
            quantity->channel.filled = quantity->channel.next = 0;
            alarm_changed(i);
        } else if (quantity->unsent) {
            tell(i);
        }
    }
}

static void report(void) {
    lost += (uint32_t)wb_dropped();
    for (int32_t i = 0; i < QUANTITIES; i++) {
        struct channel *channel = &quantities[i].channel;
        if (quantities[i].sensor < 0) {
            continue;
        }
        wb_text_clear(&line);
        wb_text_add(&line, names[i]);
        wb_text_add(&line, " ");
        wb_text_add_decimal(&line, (double)channel->smooth, 2);
        wb_text_add(&line, " (");
        wb_text_add_decimal(&line, (double)channel->minimum, 2);
        wb_text_add(&line, " to ");
        wb_text_add_decimal(&line, (double)channel->maximum, 2);
        wb_text_add(&line, "), samples ");
        wb_text_add_number(&line, channel->accepted);
        wb_text_add(&line, ", refused ");
        wb_text_add_number(&line, channel->rejected);
        wb_text_add(&line, ", events lost ");
        wb_text_add_number(&line, lost);
        wb_text_log(WB_INFO, &line);
        channel->accepted = channel->rejected = 0;
    }
}

static void result(int32_t token) {
    struct wb_result result;
    if (wb_event_read(0, &result, (int32_t)sizeof result) < (int32_t)sizeof result) {
        return;
    }
    for (int32_t i = 0; i < QUANTITIES; i++) {
        if (quantities[i].unconfirmed == token) {
            quantities[i].unconfirmed = 0;
            quantities[i].unsent = result.status != 0;
        }
    }
}

WB_INIT {
    double interval_s, report_s, silent_s;
    if (!configure() || !wb_env_decimal("INTERVAL_S", 1.0, 0.01, 3600.0, &interval_s) ||
        !wb_env_decimal("REPORT_S", 60.0, 0.1, 86400.0, &report_s) ||
        !wb_env_decimal("SILENT_S", 30.0, 0.1, 86400.0, &silent_s)) {
        return WB_EINVALID;
    }
    silent_ns = (int64_t)(silent_s * 1e9);
    route = wb_ros2_open("alarms");
    interval_ms = (int32_t)(interval_s * 1000.0);
    if (find_sensors() == 0) {
        wb_log(WB_WARN, "no sensor of temperature, humidity or pressure yet");
    }
    const int32_t check_ms = (int32_t)(silent_s * 250.0);
    const int32_t report_ms = (int32_t)(report_s * 1000.0);
    wb_timer_set(CHECK_TIMER, check_ms, check_ms);
    wb_timer_set(REPORT_TIMER, report_ms, report_ms);
    wb_text_clear(&line);
    wb_text_add(&line, "watching the environment of ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_SENSOR) {
        sample(source, length);
    } else if (type == WB_TIMER && source == CHECK_TIMER) {
        check();
    } else if (type == WB_TIMER) {
        report();
    } else if (type == WB_RESULT) {
        result(source);
    }
    return 0;
}
