/* Watches with a camera that stands still: tells what moves, raises an alarm while something does. See README.md. */
#define WB_TEXT_MAX 224
#include "motion.h"
#include "string.h"
#include "wasmbed_env.h"
#include "wasmbed_math.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { REPORT_TIMER = 0, RESEND_TIMER = 1 };
/* At least one row of cells of the largest frame: 35 rows of 4,096 pixels. */
#define STRIP_BYTES 163840
#define RESEND_MS 5000

static struct wb_text line;
static uint8_t strip[STRIP_BYTES * 3]; /* rows of pixels, of three bytes at most */
static struct motion_result motion;
static int32_t camera = -1, motion_route = -1, activity_route = -1;
static int32_t width, height, quiet_frames, frames, refused, changes, alarms;
static uint32_t dropped;
static int32_t interval_ms;
static double min_share, quiet_wanted;
static bool alarmed;
/* The alarm's newest state on its way to the cloud. */
static struct wb_text notice;
static int32_t notice_token;
static bool notice_waits;

static void send_notice(void) {
    notice_token = wb_secure_send(notice.bytes, notice.length);
    notice_waits = notice_token <= 0;
}

static void add_number(struct wb_text *text, const char *name, int32_t value) {
    wb_text_add(text, name);
    wb_text_add_signed(text, value);
}

static void tell_alarm(int64_t time_ns) {
    const struct motion_box *box = &motion.boxes[0];
    wb_text_clear(&notice);
    wb_text_add(&notice, alarmed ? "{\"alarm\":true" : "{\"alarm\":false");
    if (alarmed) {
        add_number(&notice, ",\"x\":", box->x);
        add_number(&notice, ",\"y\":", box->y);
        add_number(&notice, ",\"width\":", box->width);
        add_number(&notice, ",\"height\":", box->height);
        add_number(&notice, ",\"objects\":", motion.count);
    }
    wb_text_add(&notice, ",\"time_ns\":");
    wb_text_add_signed(&notice, time_ns);
    wb_text_add(&notice, "}");
    send_notice();
    wb_text_clear(&line);
    wb_text_add(&line, alarmed ? "alarm: motion" : "quiet again");
    if (alarmed) {
        add_number(&line, " at ", box->x);
        add_number(&line, ",", box->y);
        add_number(&line, " of ", box->width);
        add_number(&line, "x", box->height);
    }
    wb_text_log(alarmed ? WB_WARN : WB_INFO, &line);
}

/* Publishes sensor_msgs/RegionOfInterest for each object and std_msgs/Float32 for each frame, as JSON. */
static void publish(void) {
    for (int32_t i = 0; motion_route >= 0 && i < motion.count; i++) {
        const struct motion_box *box = &motion.boxes[i];
        wb_text_clear(&line);
        add_number(&line, "{\"x_offset\":", box->x);
        add_number(&line, ",\"y_offset\":", box->y);
        add_number(&line, ",\"height\":", box->height);
        add_number(&line, ",\"width\":", box->width);
        wb_text_add(&line, ",\"do_rectify\":false}");
        wb_ros2_publish(motion_route, line.bytes, line.length);
    }
    if (activity_route >= 0) {
        wb_text_clear(&line);
        wb_text_add(&line, "{\"data\":");
        wb_text_add_json(&line, (double)motion.activity, 4);
        wb_text_add(&line, "}");
        wb_ros2_publish(activity_route, line.bytes, line.length);
    }
}

/* Brightness of packed colours (ITU-R BT.601), in place. */
static void to_luma(int32_t pixels) {
    for (int32_t i = 0; i < pixels; i++) {
        const uint8_t *colour = strip + 3 * i;
        strip[i] = (uint8_t)((77 * colour[0] + 150 * colour[1] + 29 * colour[2]) >> 8);
    }
}

/* Reads the brightness of the frame in hand, some rows at a time; false when it is shorter than it says. */
static bool read_frame(const struct wb_sample *head) {
    const int32_t colours = head->format == WB_RGB24 ? 3 : 1;
    const int32_t cell = motion_cell_pixels();
    const int32_t rows_at_once = STRIP_BYTES / width / cell * cell;
    for (int32_t row = 0; row < height; row += rows_at_once) {
        const int32_t rows = rows_at_once < height - row ? rows_at_once : height - row;
        const int32_t bytes = rows * width * colours;
        if (wb_event_read((int32_t)sizeof *head + row * width * colours, strip, bytes) != bytes) {
            return false;
        }
        if (colours == 3) {
            to_luma(rows * width);
        }
        motion_rows(strip, rows);
    }
    return true;
}

static bool is_frame(const struct wb_sample *head, int32_t length) {
    const int64_t pixels = (int64_t)head->width * head->height;
    const int64_t bytes = head->format == WB_GREY8    ? pixels
                          : head->format == WB_YUV420 ? pixels + 2 * ((head->width + 1) / 2) * ((head->height + 1) / 2)
                          : head->format == WB_RGB24  ? 3 * pixels
                                                      : -1;
    return bytes > 0 && bytes == head->bytes && bytes == length - (int64_t)sizeof *head;
}

static void frame(int32_t length) {
    struct wb_sample head;
    if (wb_event_read(0, &head, (int32_t)sizeof head) != (int32_t)sizeof head || !is_frame(&head, length)) {
        refused++;
        return;
    }
    if (head.width != width || head.height != height) {
        if (!motion_begin(head.width, head.height, (float)min_share)) {
            refused++;
            return;
        }
        width = head.width;
        height = head.height;
        quiet_frames = 0;
    }
    if (!read_frame(&head)) {
        refused++;
    }
    motion_frame(&motion);
    frames++;
    if (motion.changed) {
        changes++;
        wb_log(WB_INFO, "the scene changed as a whole: learning it anew");
    }
    quiet_frames = motion.count > 0 ? 0 : quiet_frames + 1;
    if (motion.count > 0 && !alarmed) {
        alarmed = true;
        alarms++;
        tell_alarm(head.time_ns);
    } else if (alarmed && quiet_frames >= (int32_t)quiet_wanted) {
        alarmed = false;
        tell_alarm(head.time_ns);
    }
    publish();
}

static void report(void) {
    dropped += (uint32_t)wb_dropped();
    wb_text_clear(&line);
    add_number(&line, "frames ", frames);
    add_number(&line, ", lost ", (int32_t)dropped);
    add_number(&line, ", refused ", refused);
    add_number(&line, ", alarms ", alarms);
    add_number(&line, ", scene changes ", changes);
    wb_text_log(WB_INFO, &line);
}

static void result(int32_t token) {
    struct wb_result result;
    if (token == notice_token && wb_event_read(0, &result, (int32_t)sizeof result) == (int32_t)sizeof result) {
        notice_token = 0;
        notice_waits = result.status != 0;
    }
}

/* Subscribes to the first camera. It may come later than the application. */
static void find_camera(void) {
    const int32_t count = wb_sensor_count();
    for (int32_t i = 0; i < count && camera < 0; i++) {
        struct wb_sensor_info info;
        if (wb_sensor_info(i, &info, (int32_t)sizeof info) >= 0 && info.kind == WB_CAMERA &&
            wb_sensor_subscribe(i, interval_ms) == 0) {
            camera = i;
        }
    }
}

WB_INIT {
    double interval_s, report_s;
    if (!wb_env_decimal("INTERVAL_S", 0.1, 0.0, 3600.0, &interval_s) ||
        !wb_env_decimal("REPORT_S", 60.0, 0.1, 86400.0, &report_s) ||
        !wb_env_decimal("MIN_SHARE", 0.002, 0.0001, 0.5, &min_share) ||
        !wb_env_decimal("QUIET_FRAMES", 20.0, 1.0, 100000.0, &quiet_wanted)) {
        return WB_EINVALID;
    }
    interval_ms = (int32_t)(interval_s * 1000.0);
    find_camera();
    if (camera < 0) {
        wb_log(WB_WARN, "no camera yet");
    }
    motion_route = wb_ros2_open("motion");
    activity_route = wb_ros2_open("activity");
    wb_timer_set(REPORT_TIMER, (int32_t)(report_s * 1000.0), (int32_t)(report_s * 1000.0));
    wb_timer_set(RESEND_TIMER, RESEND_MS, RESEND_MS);
    wb_text_clear(&line);
    wb_text_add(&line, "watching the camera of ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_SENSOR && source == camera) {
        frame(length);
    } else if (type == WB_TIMER && source == REPORT_TIMER) {
        report();
    } else if (type == WB_TIMER) {
        find_camera();
        if (notice_waits) {
            send_notice();
        }
    } else if (type == WB_RESULT) {
        result(source);
    }
    return 0;
}
