/* Listens to an inertial sensor of ROS 2 and tells ROS 2 of shocks, of free fall and of a sensor that is silent. See
 * README.md.
 */
#define WB_TEXT_MAX 160
#include "imu.h"
#include "wasmbed_env.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { CHECK_TIMER = 0, REPORT_TIMER = 1 };
enum alarm { ALARM_NONE = 0, ALARM_SHOCK = 1, ALARM_FALL = 2, ALARM_SILENT = 3 };

#define CHECK_MS 200
/* A fall lasts; a single message with next to no acceleration does not make one. */
#define FALL_MESSAGES 3
/* The header, and as much CBOR as one field takes. */
#define MESSAGE_MAX 160

static const char *const names[] = {"normal", "shock", "fall", "silent"};
static uint8_t message[MESSAGE_MAX];
static struct wb_text line;
static double shock, fall; /* m/s2 */
static int64_t quiet_ns, silent_ns;
static int64_t heard_ns, alarmed_ns; /* a good message, one that was beyond a limit */
static int32_t imu = WB_EUNAVAILABLE, out = WB_EUNAVAILABLE;
static int32_t falling;
static uint32_t accepted, refused, lost;
static float peak, value;
static uint8_t alarm;
static bool unsent; /* ROS 2 does not know of the alarm's state yet */

/* The bridge may come later than the application. */
static void open_routes(void) {
    if (out < 0) {
        out = wb_ros2_open("alarm");
    }
    if (imu < 0) {
        imu = wb_ros2_open("imu");
    }
}

/* std_msgs/String as JSON. */
static void publish(void) {
    wb_text_clear(&line);
    wb_text_add(&line, "{\"data\":\"");
    wb_text_add(&line, names[alarm]);
    wb_text_add(&line, " ");
    wb_text_add_decimal(&line, (double)value, 1);
    wb_text_add(&line, " m/s2\"}");
    unsent = out < 0 || wb_ros2_publish(out, line.bytes, line.length) < 0;
}

static void change(uint8_t now) {
    alarm = now;
    wb_text_clear(&line);
    wb_text_add(&line, names[alarm]);
    wb_text_add(&line, ": ");
    wb_text_add_decimal(&line, (double)value, 1);
    wb_text_add(&line, " m/s2");
    wb_text_log(alarm == ALARM_NONE ? WB_INFO : WB_WARN, &line);
    publish();
}

static void take(float magnitude) {
    const int64_t now = wb_clock_monotonic_ns();
    const bool shaken = (double)magnitude > shock;
    falling = (double)magnitude < fall ? falling + 1 : 0;
    const bool falls = falling >= FALL_MESSAGES;
    heard_ns = now;
    value = magnitude;
    peak = wb_maxf(peak, magnitude);
    accepted++;
    if (shaken || falls) {
        alarmed_ns = now;
        const uint8_t found = shaken ? ALARM_SHOCK : ALARM_FALL;
        if (alarm != found) {
            change(found);
        }
    } else if (alarm == ALARM_SILENT || (alarm != ALARM_NONE && now - alarmed_ns >= quiet_ns)) {
        change(ALARM_NONE);
    }
}

static void receive(int32_t length) {
    const int32_t head = (int32_t)sizeof(struct wb_ros2_header);
    float magnitude;
    if (length > MESSAGE_MAX || wb_event_read(0, message, MESSAGE_MAX) != length || length < head ||
        message[0] != WB_ROS2_MESSAGE || !imu_acceleration(message + head, length - head, &magnitude) ||
        !wb_finite((double)magnitude)) {
        refused++;
        return;
    }
    take(magnitude);
}

static void check(void) {
    open_routes();
    if (alarm != ALARM_SILENT && wb_clock_monotonic_ns() - heard_ns > silent_ns) {
        falling = 0;
        change(ALARM_SILENT);
    } else if (unsent) {
        publish();
    }
}

static void report(void) {
    lost += (uint32_t)wb_dropped();
    wb_text_clear(&line);
    wb_text_add(&line, names[alarm]);
    wb_text_add(&line, ", messages ");
    wb_text_add_number(&line, accepted);
    wb_text_add(&line, ", refused ");
    wb_text_add_number(&line, refused);
    wb_text_add(&line, ", lost ");
    wb_text_add_number(&line, lost);
    wb_text_add(&line, ", peak ");
    wb_text_add_decimal(&line, (double)peak, 1);
    wb_text_log(WB_INFO, &line);
    accepted = refused = 0;
    peak = 0.0f;
}

WB_INIT {
    double quiet_s, silent_s, report_s;
    if (!wb_env_decimal("SHOCK", 25.0, 10.0, 10000.0, &shock) || !wb_env_decimal("FALL", 2.0, 0.0, 9.0, &fall) ||
        !wb_env_decimal("QUIET_S", 2.0, 0.0, 3600.0, &quiet_s) ||
        !wb_env_decimal("SILENT_S", 10.0, 0.5, 86400.0, &silent_s) ||
        !wb_env_decimal("REPORT_S", 60.0, 0.1, 86400.0, &report_s)) {
        return WB_EINVALID;
    }
    quiet_ns = (int64_t)(quiet_s * 1e9);
    silent_ns = (int64_t)(silent_s * 1e9);
    heard_ns = wb_clock_monotonic_ns();
    open_routes();
    wb_timer_set(CHECK_TIMER, CHECK_MS, CHECK_MS);
    const int32_t report_ms = (int32_t)(report_s * 1000.0);
    wb_timer_set(REPORT_TIMER, report_ms, report_ms);
    wb_text_clear(&line);
    wb_text_add(&line, "listening for shocks of ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_ROS2 && source == imu) {
        receive(length);
    } else if (type == WB_TIMER && source == CHECK_TIMER) {
        check();
    } else if (type == WB_TIMER) {
        report();
    }
    return 0;
}
