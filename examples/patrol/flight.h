/* What is known of the vehicle, and the orders that need more than one line. */
#ifndef FLIGHT_H
#define FLIGHT_H

#include "route.h"
#include "wasmbed.h"

struct flight {
    struct wb_px4_status status;
    struct wb_px4_position position;
    struct wb_px4_battery battery;
    struct wb_px4_gps gps;
    struct wb_px4_home home;
    struct wb_px4_mission mission;
    uint32_t have;     /* a bit for each kind that came */
    int64_t heard_ns;  /* when the last good position came */
};

/* Subscribes to all that a flight needs. */
static inline bool flight_subscribe(void) {
    static const struct {
        uint8_t kind;
        int16_t interval_ms;
    } wanted[] = {{WB_STATUS, 200}, {WB_POSITION, 200}, {WB_BATTERY, 1000},
                  {WB_GPS, 1000},   {WB_HOME, 0},       {WB_MISSION, 200}};
    for (uint32_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (wb_px4_subscribe(wanted[i].kind, wanted[i].interval_ms) < 0) {
            return false;
        }
    }
    return true;
}

static inline bool flight_read(void *record, int32_t bytes, int32_t length) {
    return length == bytes && wb_event_read(0, record, bytes) == bytes;
}

/* Takes the telemetry event in hand; false when it is none of ours or no measurement. */
static inline bool flight_take(struct flight *flight, int32_t kind, int32_t length) {
    bool good = false;
    if (kind == WB_STATUS) {
        good = flight_read(&flight->status, (int32_t)sizeof flight->status, length);
    } else if (kind == WB_POSITION) {
        struct wb_px4_position position;
        good = flight_read(&position, (int32_t)sizeof position, length) && wb_fabs(position.latitude) <= 90.0 &&
               wb_fabs(position.longitude) <= 180.0 && wb_finite((double)position.altitude_home);
        if (good) {
            flight->position = position;
            flight->heard_ns = wb_clock_monotonic_ns();
        }
    } else if (kind == WB_BATTERY) {
        good = flight_read(&flight->battery, (int32_t)sizeof flight->battery, length);
    } else if (kind == WB_GPS) {
        good = flight_read(&flight->gps, (int32_t)sizeof flight->gps, length);
    } else if (kind == WB_HOME) {
        struct wb_px4_home home;
        good = flight_read(&home, (int32_t)sizeof home, length) && wb_finite(home.latitude) &&
               wb_finite(home.longitude) && wb_finite((double)home.altitude_msl);
        if (good) {
            flight->home = home;
        }
    } else if (kind == WB_MISSION) {
        good = flight_read(&flight->mission, (int32_t)sizeof flight->mission, length);
    }
    flight->have |= good ? 1u << kind : 0u;
    return good;
}

static inline bool flight_known(const struct flight *flight) {
    return (flight->have & 1u << WB_STATUS) != 0;
}

/* Why it cannot take off yet, or NULL. */
static inline const char *flight_missing(const struct flight *flight) {
    const uint32_t needed = 1u << WB_STATUS | 1u << WB_POSITION | 1u << WB_BATTERY | 1u << WB_GPS | 1u << WB_HOME;
    if ((flight->have & needed) != needed) {
        return "no telemetry of status, position, battery, gps or home yet";
    }
    if (flight->gps.fix < 3) {
        return "no position fix";
    }
    return flight->status.failsafe ? "the autopilot is in failsafe" : NULL;
}

/* Uploads the points as a mission; a token. */
static inline int32_t flight_upload(const struct point *points, int32_t count) {
    static struct wb_px4_waypoint items[ROUTE_POINTS];
    for (int32_t i = 0; i < count; i++) {
        items[i] = (struct wb_px4_waypoint){WB_CMD_WAYPOINT, WB_FRAME_GLOBAL_RELATIVE, 1, 0.0f, 0.0f, 0.0f, WB_NAN,
                                            points[i].latitude, points[i].longitude, points[i].height, 0};
    }
    return wb_px4_mission(items, count);
}

static inline int32_t flight_start_mission(void) {
    return wb_px4_do(300, 0.0f, 0.0f, 0.0f, 0.0, 0.0, 0.0f); /* MAV_CMD_MISSION_START */
}

/* Between its first and its last item, so that an end seen later is the end of this run. */
static inline bool flight_mission_runs(const struct flight *flight, int32_t count) {
    return (flight->have & 1u << WB_MISSION) != 0 &&
           (flight->mission.state == 3 || (flight->mission.state != 5 && flight->mission.current + 1 < count));
}

static inline bool flight_mission_done(const struct flight *flight, int32_t count) {
    const struct wb_px4_mission *mission = &flight->mission;
    return (flight->have & 1u << WB_MISSION) != 0 &&
           (mission->state == 5 || (mission->total == count && mission->current + 1 >= count && mission->reached != 0));
}

#endif
