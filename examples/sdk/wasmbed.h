/* Application ABI 1 of Wasmbed: the same on a gateway, a Linux device (mpu) and a microcontroller. docs/abi.md explains it.
 * Compile for wasm32 without a C library; scripts/build-example shows the flags.
 *
 * WB_APPLICATION   once in every application: the marker of the ABI it was built for
 * An application exports wasmbed_init or wasmbed_event or both, and wasmbed_stop and wasmbed_save if it wants:
 *   WB_INIT   called first; a result other than 0 is a failure
 *   WB_EVENT  called for every event; a negative result is a failure
 *   WB_STOP   called before an orderly end, with a tenth of the CPU time of a call, at most 1 s
 *   WB_SAVE   called before an update; hands state over with wb_state_put; a negative result: nothing to hand over
 * Every call has the CPU time of its device class; a call that takes longer is ended and the application restarted.
 * No function waits. One that returns a token (> 0) tells the outcome in an event WB_RESULT with that source.
 *
 * Results below zero are WB_E* codes. A pointer outside the application's memory ends the call with a trap.
 */
#ifndef WASMBED_H
#define WASMBED_H

#include <stddef.h>
#include <stdint.h>

#define WB_ABI 1

enum wb_error {
    WB_EDENIED = -1,       /* not granted, or not the owner that this needs */
    WB_ENOTFOUND = -2,
    WB_EIO = -5,
    WB_EAGAIN = -11,       /* nothing there yet, or a queue is full */
    WB_EBUSY = -16,        /* another application owns it */
    WB_EUNAVAILABLE = -19, /* no bridge, no link, no such hardware */
    WB_EINVALID = -22,
    WB_ETIMEOUT = -62,
    WB_EREJECTED = -71,    /* the other side refused */
    WB_ERATE = -75,        /* called more often than its limit */
    WB_ETOOBIG = -90
};

enum wb_event {
    WB_TIMER = 1,     /* source: timer; data: struct wb_timer_event */
    WB_MESSAGE = 2,   /* source: handle of wb_subscribe; data: the message */
    WB_TELEMETRY = 3, /* source: enum wb_telemetry; data: its struct */
    WB_SENSOR = 4,    /* source: index of the sensor; data: struct wb_sample and its values or pixels */
    WB_ROS2 = 5,      /* source: handle of wb_ros2_open; data: struct wb_ros2_header and the payload */
    WB_RESULT = 6,    /* source: token; data: struct wb_result and details of the call */
    WB_SECURE = 7,    /* source: 0; data: an opened message from the cloud */
    WB_LINK = 8,      /* source: 1 the link to the gateway is up, 0 it is lost */
    WB_OWNER = 9      /* source: 0 the autopilot is no longer owned; data: one byte, enum wb_owner_loss */
};

enum wb_level { WB_ERROR = 0, WB_WARN = 1, WB_INFO = 2, WB_DEBUG = 3, WB_TRACE = 4 };

/* Bounds in bytes unless the name says otherwise; the small ones hold on mcu and riscv. */
#define WB_LOG_MAX 4096
#define WB_RANDOM_MAX 256
#define WB_TOPIC_MAX 64
#define WB_TOPICS 16
#define WB_MESSAGE_MAX 4096
#define WB_SMALL_MESSAGE_MAX 256
#define WB_ROS2_MAX 1048576
#define WB_ENV_NAME_MAX 256
#define WB_PARAMETER_NAME_MAX 16
#define WB_ALIAS_MAX 64
#define WB_STATE_MAX 65536
#define WB_SMALL_STATE_MAX 256
#define WB_SECURE_MAX 4096
#define WB_ENVELOPE_MAX 640
#define WB_WAYPOINTS 256
#define WB_SAMPLE_MAX 8388608
#define WB_TIMERS 16
#define WB_TIMER_MIN_MS 10
#define WB_TIMER_MAX_MS 86400000
#define WB_INTERVAL_MAX_MS 86400000
#define WB_TOKENS 64

#define WB_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define WB_EXPORT(name) __attribute__((export_name(name)))
/* The marker is never called; its export says which ABI the module was built for. */
#define WB_APPLICATION                                                                                                         \
    WB_EXPORT("wasmbed_abi_1") void wasmbed_abi_1(void);                                                                       \
    void wasmbed_abi_1(void) {                                                                                                 \
    }                                                                                                                          \
    _Static_assert(WB_ABI == 1, "one marker for the ABI of this header")
#define WB_INIT WB_EXPORT("wasmbed_init") int32_t wasmbed_init(void)
#define WB_EVENT WB_EXPORT("wasmbed_event") int32_t wasmbed_event(int32_t type, int32_t source, int32_t length)
#define WB_STOP WB_EXPORT("wasmbed_stop") void wasmbed_stop(void)
#define WB_SAVE WB_EXPORT("wasmbed_save") int32_t wasmbed_save(void)

/* ---- wasmbed:sys: every application --------------------------------------------------------------------------------- */

struct wb_timer_event {
    uint32_t missed; /* times the timer was due while the application was busy or waiting, this one not counted */
};

struct wb_result {
    int32_t status; /* 0 or a WB_E* code; details follow where the call says so */
};

/* Writes a line of up to WB_LOG_MAX bytes to the journal; 100 lines a second, then a count of the dropped ones. */
WB_IMPORT("wasmbed:sys", "log") void wb_log_bytes(int32_t level, const char *text, int32_t length);
/* Nanoseconds since an arbitrary start, never going back. */
WB_IMPORT("wasmbed:sys", "clock_monotonic_ns") int64_t wb_clock_monotonic_ns(void);
/* Nanoseconds since 1970-01-01 UTC. */
WB_IMPORT("wasmbed:sys", "clock_realtime_ns") int64_t wb_clock_realtime_ns(void);
/* Fills up to WB_RANDOM_MAX bytes from the host's random source; their number. */
WB_IMPORT("wasmbed:sys", "random") int32_t wb_random(void *buffer, int32_t length);
/* Writes namespace/name of the device this application serves; its length. */
WB_IMPORT("wasmbed:sys", "device_name") int32_t wb_device_name(char *buffer, int32_t capacity);
/* Writes the value of an environment variable of the manifest; its length, WB_ENOTFOUND when it is not set. */
WB_IMPORT("wasmbed:sys", "env") int32_t wb_env_bytes(const char *name, int32_t name_length, char *buffer, int32_t capacity);
/* Sets timer 0..15: due in first_ms, then every period_ms (0: once); both 0 clear it. Each 10 ms to a day. */
WB_IMPORT("wasmbed:sys", "timer_set") int32_t wb_timer_set(int32_t timer, int32_t first_ms, int32_t period_ms);
/* Reads a topic of this application from now on: the handle that is the source of its WB_MESSAGE events. */
WB_IMPORT("wasmbed:sys", "subscribe") int32_t wb_subscribe_bytes(const char *topic, int32_t length);
/* Sends to the other instances of this application on this host that read the topic: to how many. */
WB_IMPORT("wasmbed:sys", "send")
int32_t wb_send_bytes(const char *topic, int32_t topic_length, const void *data, int32_t length);
/* Copies the data of the event in hand from an offset on; how many bytes. */
WB_IMPORT("wasmbed:sys", "event_read") int32_t wb_event_read(int32_t offset, void *buffer, int32_t capacity);
/* How many events were dropped since the last call. */
WB_IMPORT("wasmbed:sys", "dropped") int32_t wb_dropped(void);
/* In wasmbed_save: the state for the next version; replaces what was put before. */
WB_IMPORT("wasmbed:sys", "state_put") int32_t wb_state_put(const void *state, int32_t length);
/* In wasmbed_init: the state the version before put; its length, WB_ENOTFOUND without one, WB_ETOOBIG. */
WB_IMPORT("wasmbed:sys", "state_get") int32_t wb_state_get(void *buffer, int32_t capacity);

static inline int32_t wb_strlen(const char *text) {
    int32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static inline void wb_log(enum wb_level level, const char *text) {
    wb_log_bytes((int32_t)level, text, wb_strlen(text));
}

static inline int32_t wb_env(const char *name, char *buffer, int32_t capacity) {
    return wb_env_bytes(name, wb_strlen(name), buffer, capacity);
}

static inline int32_t wb_subscribe(const char *topic) {
    return wb_subscribe_bytes(topic, wb_strlen(topic));
}

static inline int32_t wb_send(const char *topic, const void *data, int32_t length) {
    return wb_send_bytes(topic, wb_strlen(topic), data, length);
}

/* ---- wasmbed:px4: spec.communication.px4.enabled and the device's capability px4 ------------------------------------ */

enum wb_telemetry {
    WB_STATUS = 1,
    WB_POSITION = 2,
    WB_LOCAL = 3,
    WB_ATTITUDE = 4,
    WB_BATTERY = 5,
    WB_GPS = 6,
    WB_HOME = 7,
    WB_MISSION = 8
};

enum wb_mode {
    WB_MODE_UNKNOWN = 0,
    WB_MODE_MANUAL = 1,
    WB_MODE_ALTITUDE = 2,
    WB_MODE_POSITION = 3,
    WB_MODE_TAKEOFF = 4,
    WB_MODE_HOLD = 5,
    WB_MODE_MISSION = 6,
    WB_MODE_RETURN = 7,
    WB_MODE_LAND = 8,
    WB_MODE_OFFBOARD = 9,
    WB_MODE_ACRO = 10,
    WB_MODE_STABILIZED = 11,
    WB_MODE_OTHER = 12
};

enum wb_owner_loss { WB_LOSS_SUSPENDED = 1, WB_LOSS_GUARD = 2, WB_LOSS_UPDATED = 3, WB_LOSS_BRIDGE = 4 };
enum wb_setpoint_kind { WB_SETPOINT_POSITION = 1, WB_SETPOINT_VELOCITY = 2, WB_SETPOINT_GLOBAL = 3, WB_SETPOINT_ATTITUDE = 4 };

/* Times are nanoseconds since 1970-01-01 UTC, lengths metres, angles of places degrees and of attitudes radians,
 * velocities m/s north, east, down. An unknown floating point value is NaN. */
struct wb_px4_status {
    int64_t time_ns;
    uint8_t armed;
    uint8_t in_air;
    uint8_t mode; /* enum wb_mode */
    uint8_t offboard;
    uint8_t failsafe;
    uint8_t landed_state; /* MAV_LANDED_STATE: 1 on the ground, 2 in the air, 3 taking off, 4 landing */
    uint16_t system_id;
    uint32_t custom_mode;
    uint32_t reserved;
};

struct wb_px4_position {
    int64_t time_ns;
    double latitude, longitude;
    float altitude_msl, altitude_home, vx, vy, vz, heading;
};

struct wb_px4_local {
    int64_t time_ns;
    float x, y, z, vx, vy, vz;
};

struct wb_px4_attitude {
    int64_t time_ns;
    float q[4]; /* w, x, y, z */
    float rates[3];
    uint32_t reserved;
};

struct wb_px4_battery {
    int64_t time_ns;
    float voltage, current, remaining, temperature; /* V, A, 0 to 1, degC */
};

struct wb_px4_gps {
    int64_t time_ns;
    uint8_t fix; /* GPS_FIX_TYPE: 3 and more is a position */
    uint8_t satellites;
    uint8_t reserved[2];
    float hdop, vdop;
    uint32_t reserved2;
};

struct wb_px4_home {
    int64_t time_ns;
    double latitude, longitude;
    float altitude_msl;
    uint32_t reserved;
};

struct wb_px4_mission {
    int64_t time_ns;
    uint16_t current, total;
    uint8_t state;   /* MISSION_STATE: 1 no mission, 2 not started, 3 active, 4 paused, 5 complete */
    uint8_t reached; /* the current item was reached */
    uint8_t reserved[2];
};

struct wb_px4_command {
    uint16_t command; /* MAV_CMD */
    uint8_t frame;    /* MAV_FRAME of x, y, z */
    uint8_t reserved;
    float p1, p2, p3, p4;
    double x; /* latitude, or the fifth parameter */
    double y; /* longitude, or the sixth parameter */
    float z;
    uint32_t reserved2;
};

struct wb_px4_command_result {
    int32_t status;
    uint8_t result; /* MAV_RESULT */
    uint8_t progress;
};

struct wb_px4_parameter_result {
    int32_t status;
    uint8_t type; /* 1 integer, 2 real */
    uint8_t reserved[3];
    double value;
};

struct wb_px4_setpoint {
    uint8_t kind; /* enum wb_setpoint_kind */
    uint8_t reserved[3];
    float v[8]; /* x, y, z, vx, vy, vz, yaw, yaw rate; attitude: w, x, y, z, thrust; NaN: not set */
    double latitude, longitude;
};

struct wb_px4_waypoint {
    uint16_t command;
    uint8_t frame;
    uint8_t autocontinue;
    float p1, p2, p3, p4;
    double latitude, longitude;
    float altitude;
    uint32_t reserved;
};

_Static_assert(sizeof(struct wb_px4_command) == 48 && sizeof(struct wb_px4_setpoint) == 56, "laid out as the ABI says");
_Static_assert(sizeof(struct wb_px4_waypoint) == 48 && sizeof(struct wb_px4_parameter_result) == 16, "as the ABI says");
_Static_assert(sizeof(struct wb_px4_status) == 24 && sizeof(struct wb_px4_position) == 48, "as the ABI says");
_Static_assert(sizeof(struct wb_px4_attitude) == 40 && sizeof(struct wb_px4_home) == 32, "as the ABI says");

/* Takes the device's autopilot; one application owns it at a time: 0, WB_EBUSY, WB_EUNAVAILABLE, WB_EDENIED. */
WB_IMPORT("wasmbed:px4", "acquire") int32_t wb_px4_acquire(void);
WB_IMPORT("wasmbed:px4", "release") int32_t wb_px4_release(void);
/* Has telemetry of a kind delivered at most every interval_ms (0: as it comes, -1: no more). */
WB_IMPORT("wasmbed:px4", "subscribe") int32_t wb_px4_subscribe(int32_t kind, int32_t interval_ms);
/* Writes the newest telemetry of a kind; its length, WB_EAGAIN when none has come since the first read. */
WB_IMPORT("wasmbed:px4", "read") int32_t wb_px4_read(int32_t kind, void *buffer, int32_t capacity);
/* The following act on the vehicle and need ownership. Tokens tell the outcome in WB_RESULT. */
WB_IMPORT("wasmbed:px4", "command") int32_t wb_px4_command(const struct wb_px4_command *command);
/* Renews the setpoint, which is valid for 500 ms; 0. */
WB_IMPORT("wasmbed:px4", "setpoint") int32_t wb_px4_setpoint(const struct wb_px4_setpoint *setpoint);
/* Starts (1) or ends (0) offboard control; a token. */
WB_IMPORT("wasmbed:px4", "offboard") int32_t wb_px4_offboard(int32_t start);
/* Needs no ownership. A token; its result is struct wb_px4_parameter_result. */
WB_IMPORT("wasmbed:px4", "param_get") int32_t wb_px4_param_get_bytes(const char *name, int32_t length);
WB_IMPORT("wasmbed:px4", "param_set") int32_t wb_px4_param_set_bytes(const char *name, int32_t length, double value);
/* Replaces the mission, or clears it (NULL, 0); a token. */
WB_IMPORT("wasmbed:px4", "mission") int32_t wb_px4_mission(const struct wb_px4_waypoint *items, int32_t count);

#define WB_NAN __builtin_nanf("")
#define WB_FRAME_GLOBAL 0          /* altitude above sea level */
#define WB_FRAME_GLOBAL_RELATIVE 3 /* altitude above home */
#define WB_CMD_WAYPOINT 16
#define WB_CMD_RETURN 20
#define WB_CMD_LAND 21
#define WB_CMD_TAKEOFF 22
#define WB_CMD_REPOSITION 192
#define WB_CMD_ARM 400

static inline int32_t wb_px4_do(uint16_t id, float p1, float p2, float p4, double x, double y, float z) {
    struct wb_px4_command command = {0};
    command.command = id;
    command.frame = WB_FRAME_GLOBAL;
    command.p1 = p1;
    command.p2 = p2;
    command.p4 = p4;
    command.x = x;
    command.y = y;
    command.z = z;
    return wb_px4_command(&command);
}

/* Arms (1) or disarms (0): a token, as from all of these. */
static inline int32_t wb_arm(int32_t arm) {
    return wb_px4_do(WB_CMD_ARM, arm ? 1.0F : 0.0F, 0.0F, 0.0F, 0.0, 0.0, 0.0F);
}

/* Takes off to a height in metres above home; WB_EAGAIN as long as the height of home is not known. */
static inline int32_t wb_takeoff(float height) {
    struct wb_px4_home home;
    int32_t length = wb_px4_read(WB_HOME, &home, (int32_t)sizeof home);
    if (length < 0) {
        return length;
    }
    return wb_px4_do(WB_CMD_TAKEOFF, WB_NAN, 0.0F, WB_NAN, (double)WB_NAN, (double)WB_NAN, home.altitude_msl + height);
}

/* Flies to a place at a height in metres above home and stays there; the heading in radians or WB_NAN. */
static inline int32_t wb_goto(double latitude, double longitude, float height, float heading) {
    struct wb_px4_home home;
    int32_t length = wb_px4_read(WB_HOME, &home, (int32_t)sizeof home);
    if (length < 0) {
        return length;
    }
    return wb_px4_do(WB_CMD_REPOSITION, -1.0F, 1.0F, heading, latitude, longitude, home.altitude_msl + height);
}

/* Lands where the vehicle is. */
static inline int32_t wb_land(void) {
    return wb_px4_do(WB_CMD_LAND, 0.0F, 0.0F, WB_NAN, (double)WB_NAN, (double)WB_NAN, WB_NAN);
}

/* Flies home and lands there. */
static inline int32_t wb_rtl(void) {
    return wb_px4_do(WB_CMD_RETURN, 0.0F, 0.0F, 0.0F, 0.0, 0.0, 0.0F);
}

static inline int32_t wb_px4_param_get(const char *name) {
    return wb_px4_param_get_bytes(name, wb_strlen(name));
}

static inline int32_t wb_px4_param_set(const char *name, double value) {
    return wb_px4_param_set_bytes(name, wb_strlen(name), value);
}

/* ---- wasmbed:ros2: spec.communication.ros2.enabled and the routes it declares --------------------------------------- */

enum wb_ros2_kind {
    WB_ROS2_MESSAGE = 1,
    WB_ROS2_REPLY = 2,
    WB_ROS2_FAILURE = 3,
    WB_ROS2_REQUEST = 4,
    WB_ROS2_ACCEPTED = 5,
    WB_ROS2_REJECTED = 6,
    WB_ROS2_FEEDBACK = 7,
    WB_ROS2_RESULT = 8,
    WB_ROS2_GOAL = 9,
    WB_ROS2_CANCEL = 10
};

struct wb_ros2_header {
    uint8_t kind; /* enum wb_ros2_kind */
    uint8_t reserved[3];
    int32_t status;
    int64_t token;
    int64_t time_ns;
};

_Static_assert(sizeof(struct wb_ros2_header) == 24, "as the ABI says");

/* Opens a route by its alias: a handle. Routes that subscribe or serve deliver events from then on. */
WB_IMPORT("wasmbed:ros2", "open") int32_t wb_ros2_open_bytes(const char *alias, int32_t length);
WB_IMPORT("wasmbed:ros2", "close") int32_t wb_ros2_close(int32_t handle);
/* Payloads are encoded as the route declares: cdr, cbor or json. */
WB_IMPORT("wasmbed:ros2", "publish") int32_t wb_ros2_publish(int32_t handle, const void *data, int32_t length);
/* Calls a service or sends a goal: the token that its WB_ROS2 events carry. */
WB_IMPORT("wasmbed:ros2", "call") int32_t wb_ros2_call(int32_t handle, const void *data, int32_t length);
/* Answers a WB_ROS2_REQUEST or ends a WB_ROS2_GOAL. */
WB_IMPORT("wasmbed:ros2", "respond")
int32_t wb_ros2_respond(int32_t handle, int64_t token, int32_t status, const void *data, int32_t length);
WB_IMPORT("wasmbed:ros2", "feedback")
int32_t wb_ros2_feedback(int32_t handle, int64_t token, const void *data, int32_t length);
WB_IMPORT("wasmbed:ros2", "cancel") int32_t wb_ros2_cancel(int32_t handle, int64_t token);

static inline int32_t wb_ros2_open(const char *alias) {
    return wb_ros2_open_bytes(alias, wb_strlen(alias));
}

/* ---- wasmbed:sensor: the device's capabilities but px4 -------------------------------------------------------------- */

enum wb_sensor_kind {
    WB_IMU = 1,
    WB_BAROMETER = 2,
    WB_SENSOR_GPS = 3,
    WB_SENSOR_BATTERY = 4,
    WB_TEMPERATURE = 5,
    WB_CAMERA = 6,
    WB_HUMIDITY = 7,
    WB_GENERIC = 8
};
enum wb_format { WB_F32 = 0, WB_GREY8 = 1, WB_YUV420 = 2, WB_RGB24 = 3, WB_F64 = 4 };

struct wb_sensor_info {
    uint16_t kind;
    uint16_t values;
    uint32_t rate_millihz;
    uint32_t max_bytes; /* of a sample with its header */
    char name[20];      /* ends with a zero byte */
};

struct wb_sample {
    int64_t time_ns;
    uint16_t kind;
    uint16_t count; /* of values; 0 for pixels */
    uint16_t width;
    uint16_t height;
    uint32_t format; /* enum wb_format of what follows */
    uint32_t bytes;  /* of what follows */
};

_Static_assert(sizeof(struct wb_sensor_info) == 32 && sizeof(struct wb_sample) == 24, "as the ABI says");

WB_IMPORT("wasmbed:sensor", "count") int32_t wb_sensor_count(void);
WB_IMPORT("wasmbed:sensor", "info") int32_t wb_sensor_info(int32_t index, struct wb_sensor_info *info, int32_t capacity);
/* Writes the newest sample; its length, WB_EAGAIN when none has come since the first read, WB_ETOOBIG. */
WB_IMPORT("wasmbed:sensor", "read") int32_t wb_sensor_read(int32_t index, void *buffer, int32_t capacity);
/* Has samples delivered at most every interval_ms (0: every one, -1: no more). */
WB_IMPORT("wasmbed:sensor", "subscribe") int32_t wb_sensor_subscribe(int32_t index, int32_t interval_ms);

/* ---- wasmbed:secure: where the gateway has a sealing key ------------------------------------------------------------ */

/* Seals up to WB_SECURE_MAX bytes for the cloud, or opens what was sealed with this application's key; the length written,
 * WB_EINVALID when it is not authentic. A sealed message has at most WB_ENVELOPE_MAX bytes more. */
WB_IMPORT("wasmbed:secure", "seal") int32_t wb_seal(const void *data, int32_t length, void *buffer, int32_t capacity);
WB_IMPORT("wasmbed:secure", "unseal") int32_t wb_unseal(const void *data, int32_t length, void *buffer, int32_t capacity);
/* Seals and hands to the uplink: a token, whose result is 0 once gateway or device has spooled it durably. */
WB_IMPORT("wasmbed:secure", "send") int32_t wb_secure_send(const void *data, int32_t length);

#endif
