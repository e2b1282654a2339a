/* Flies a patrol: checks, arms, takes off, flies its waypoints, returns and lands. Gives up safely when the battery is
 * low, the gateway is lost, an order is refused or the vehicle does not do what it was told. See README.md.
 */
#define WB_TEXT_MAX 128
#include "flight.h"
#include "string.h"
#include "wasmbed_text.h"

WB_APPLICATION;

enum { TICK_TIMER = 0 };
#define TICK_MS 500
#define ORDER_TRIES 3
#define ORDER_AGAIN_MS 2000
#define GIVE_UP_AGAIN_MS 5000
#define STALE_MS 5000
#define DISARM_MS 10000
#define BATTERY_LOW_TIMES 3

enum state {
    WAITING,   /* for telemetry, a position, a charged battery and the autopilot */
    UPLOADING, /* the mission, when the vehicle flies it by itself */
    ARMING,
    TAKING_OFF,
    FLYING,
    RETURNING,
    LANDING, /* where it is: it could not return */
    FINISHED,
    FAILED,
    TAKEN /* somebody else flies; nothing is ordered any more */
};
static const char *const names[] = {"waiting", "uploading", "arming",   "taking off", "flying",
                                    "returning", "landing", "finished", "failed",     "taken over"};

static struct plan plan;
static struct flight flight;
static struct wb_text line;
static enum state state = WAITING;
static int32_t point, lap, token, tries, battery_low;
static int64_t entered_ns, limit_ms, again_ns, link_lost_ns;
static int64_t flown_ns;
/* seen_auto: the vehicle flew by itself, so a pilot's mode is news; begun: the mission runs, so its end is this lap's. */
static bool owned, ordered, resumed, seen_auto, begun, subscribed;

struct saved {
    uint32_t version;
    int32_t state, point, lap;
};

static int64_t since_ms(int64_t then_ns) {
    return (wb_clock_monotonic_ns() - then_ns) / 1000000;
}

static void say(enum wb_level level, const char *what) {
    wb_text_clear(&line);
    wb_text_add(&line, names[state]);
    wb_text_add(&line, ": ");
    wb_text_add(&line, what);
    wb_text_log(level, &line);
}

static void enter(enum state next, int64_t limit, const char *why) {
    const bool told = next != state || next == FLYING;
    state = next;
    token = tries = 0;
    ordered = begun = false;
    entered_ns = again_ns = wb_clock_monotonic_ns();
    limit_ms = limit;
    if (told) {
        say(next == FAILED || next == TAKEN ? WB_WARN : WB_INFO, why);
    }
}

static void let_go(void) {
    if (owned) {
        wb_px4_release();
        owned = false;
    }
}

/* Ends the patrol as safely as the place allows. */
static void give_up(const char *why) {
    say(WB_WARN, why);
    if (!flight_known(&flight) || flight.status.in_air) {
        enter(state == RETURNING ? LANDING : RETURNING, 600000, "giving up");
        return;
    }
    if (flight.status.armed && owned) {
        wb_arm(0);
    }
    let_go();
    enter(FAILED, 0, why);
}

/* The order of a state; 0: it has none, or all is done. */
static int32_t order(void) {
    const struct point *to = &plan.points[point];
    switch (state) {
    case UPLOADING:
        return flight_upload(plan.points, plan.count);
    case ARMING:
        return wb_arm(1);
    case TAKING_OFF:
        return wb_takeoff((float)plan.height_m);
    case FLYING:
        return plan.upload ? flight_start_mission() : wb_goto(to->latitude, to->longitude, to->height, WB_NAN);
    case RETURNING:
        return wb_rtl();
    case LANDING:
        return wb_land();
    default:
        return 0;
    }
}

static bool safe_end(void) {
    return state == RETURNING || state == LANDING;
}

static void order_failed(int32_t status) {
    token = 0;
    ordered = false;
    tries++;
    /* What ends the flight is tried for as long as it takes. */
    again_ns = wb_clock_monotonic_ns() + (int64_t)(safe_end() ? GIVE_UP_AGAIN_MS : ORDER_AGAIN_MS) * 1000000;
    wb_text_clear(&line);
    wb_text_add(&line, names[state]);
    wb_text_add(&line, ": order failed, code ");
    wb_text_add_signed(&line, status);
    wb_text_log(WB_WARN, &line);
    if (state == RETURNING && tries >= ORDER_TRIES) {
        enter(LANDING, 600000, "it does not return");
    } else if (!safe_end() && (tries >= ORDER_TRIES || status == WB_EDENIED)) {
        give_up("the order was refused");
    }
}

static void give_order(void) {
    if (ordered || token > 0 || wb_clock_monotonic_ns() < again_ns) {
        return;
    }
    const int32_t result = order();
    if (result < 0) {
        order_failed(result);
    } else {
        token = result;
        ordered = true;
        again_ns = wb_clock_monotonic_ns();
    }
}

static void fly_to(int32_t next) {
    point = next;
    const struct point *to = &plan.points[point];
    double metres = 0.0;
    if (plan.upload) {
        const struct point *from = &plan.points[plan.count - 1];
        for (int32_t i = 0; i < plan.count; i++) {
            metres += distance_m(from->latitude, from->longitude, &plan.points[i]);
            from = &plan.points[i];
        }
    }
    metres += distance_m(flight.position.latitude, flight.position.longitude, to);
    wb_text_clear(&line);
    wb_text_add(&line, plan.upload ? "mission of " : "to waypoint ");
    wb_text_add_number(&line, (uint64_t)(plan.upload ? plan.count : point + 1));
    wb_text_add(&line, ", metres ");
    wb_text_add_decimal(&line, metres, 0);
    line.bytes[line.length < WB_TEXT_MAX ? line.length : WB_TEXT_MAX - 1] = '\0';
    static char why[64];
    memcpy(why, line.bytes, sizeof why - 1);
    enter(FLYING, (int64_t)(metres / plan.speed_m_s * 2000.0) + 30000, why);
}

static void start(void) {
    /* The autopilot may come later than the application. */
    subscribed = subscribed || flight_subscribe();
    const char *missing = subscribed ? flight_missing(&flight) : "no autopilot";
    if (missing == NULL && !(flight.battery.remaining >= (float)plan.battery_start)) {
        missing = "the battery is not charged enough, or not known";
    }
    for (int32_t i = 0; missing == NULL && i < plan.count; i++) {
        if (distance_m(flight.home.latitude, flight.home.longitude, &plan.points[i]) > plan.range_m) {
            enter(FAILED, 0, "a waypoint is further from home than RANGE_M");
            return;
        }
    }
    if (missing == NULL && !owned) {
        const int32_t result = wb_px4_acquire();
        owned = result == 0;
        missing = owned ? NULL : result == WB_EBUSY ? "another application owns the autopilot" : "no autopilot";
        if (result == WB_EDENIED) {
            enter(FAILED, 0, "the autopilot is denied to this application");
            return;
        }
    }
    if (missing != NULL) {
        if (since_ms(again_ns) >= 10000) {
            again_ns = wb_clock_monotonic_ns();
            say(WB_INFO, missing);
        }
        return;
    }
    if (flight.status.in_air && resumed) {
        fly_to(point);
    } else if (flight.status.in_air || flight.status.armed) {
        let_go();
        enter(TAKEN, 0, "the vehicle is armed or in the air already");
    } else if (plan.upload) {
        enter(UPLOADING, 60000, "the mission");
    } else {
        enter(ARMING, 20000, "all checks passed");
    }
}

static void next_waypoint(void) {
    wb_text_clear(&line);
    wb_text_add(&line, "waypoint ");
    wb_text_add_number(&line, (uint64_t)point + 1);
    wb_text_add(&line, " reached, off by metres ");
    wb_text_add_decimal(&line,
                        distance_m(flight.position.latitude, flight.position.longitude, &plan.points[point]), 1);
    wb_text_log(WB_INFO, &line);
    if (point + 1 < plan.count) {
        fly_to(point + 1);
    } else if (++lap < (int32_t)plan.rounds) {
        fly_to(0);
    } else {
        enter(RETURNING, 600000, "patrol done");
    }
}

/* Goes on when the vehicle shows what was ordered, or has a mind of its own. */
static void watch(void) {
    const uint8_t mode = flight.status.mode;
    const bool in_air = flight.status.in_air;
    const bool pilot = mode == WB_MODE_MANUAL || mode == WB_MODE_ALTITUDE || mode == WB_MODE_POSITION ||
                       mode == WB_MODE_ACRO || mode == WB_MODE_STABILIZED;
    const bool flown_by_us = state == TAKING_OFF || state == FLYING;
    seen_auto = in_air && (seen_auto || (!pilot && mode != WB_MODE_UNKNOWN));
    begun = begun || (ordered && token == 0 && flight_mission_runs(&flight, plan.count));
    flown_ns = in_air ? wb_clock_monotonic_ns() : flown_ns;
    if (flown_by_us && in_air && (mode == WB_MODE_RETURN || mode == WB_MODE_LAND)) {
        enter(mode == WB_MODE_RETURN ? RETURNING : LANDING, 600000, "the autopilot does so by itself");
        ordered = true;
    } else if ((flown_by_us || safe_end()) && seen_auto && pilot) {
        let_go();
        enter(TAKEN, 0, "a pilot flies");
    } else if (state == ARMING && flight.status.armed) {
        enter(TAKING_OFF, 60000, "armed");
    } else if (state == TAKING_OFF && in_air && flight.position.altitude_home > 0.9f * (float)plan.height_m) {
        fly_to(0);
    } else if (state == FLYING && plan.upload && begun && flight_mission_done(&flight, plan.count)) {
        if (++lap < (int32_t)plan.rounds) {
            fly_to(0);
        } else {
            enter(RETURNING, 600000, "mission done");
        }
    } else if (state == FLYING && !plan.upload &&
               distance_m(flight.position.latitude, flight.position.longitude, &plan.points[point]) <= plan.radius_m &&
               wb_fabsf(flight.position.altitude_home - plan.points[point].height) <= 3.0f) {
        next_waypoint();
    } else if (safe_end() && !in_air && !flight.status.armed) {
        let_go();
        enter(FINISHED, 0, "landed");
    }
}

static void tick(void) {
    const bool in_flight = state == TAKING_OFF || state == FLYING;
    if (state >= FINISHED) {
        return;
    }
    if (state == WAITING) {
        start();
        return;
    }
    if (in_flight && since_ms(flight.heard_ns) > STALE_MS) {
        give_up("the vehicle's position is not known any more");
    } else if (in_flight && link_lost_ns != 0 && since_ms(link_lost_ns) > (int64_t)(plan.link_grace_s * 1000.0)) {
        give_up("the gateway is lost");
    } else if (in_flight && battery_low >= BATTERY_LOW_TIMES) {
        give_up("the battery is low");
    } else if (limit_ms > 0 && since_ms(entered_ns) > limit_ms) {
        give_up("it takes too long");
    }
    if (safe_end() && !flight.status.in_air) {
        /* Autopilots disarm by themselves after landing; one that does not is told to. */
        if (since_ms(flown_ns) > DISARM_MS) {
            flown_ns = wb_clock_monotonic_ns();
            wb_arm(0);
        }
        return;
    }
    /* Accepted, but not done: ordered anew. */
    if (safe_end() && token == 0 && since_ms(again_ns) > GIVE_UP_AGAIN_MS && flight.status.mode != WB_MODE_RETURN &&
        flight.status.mode != WB_MODE_LAND) {
        ordered = false;
    }
    give_order();
}

static void telemetry(int32_t kind, int32_t length) {
    if (!flight_take(&flight, kind, length)) {
        return;
    }
    if (kind == WB_BATTERY) {
        /* NaN is not low, but does not end a series of low ones either. */
        const float remaining = flight.battery.remaining;
        battery_low = remaining < (float)plan.battery_return ? battery_low + 1
                      : remaining == remaining              ? 0
                                                            : battery_low;
    }
    if (state != WAITING) {
        watch();
    }
}

static void result(int32_t source) {
    struct wb_result result;
    if (source != token || token <= 0 || wb_event_read(0, &result, (int32_t)sizeof result) < (int32_t)sizeof result) {
        return;
    }
    token = 0;
    if (result.status != 0) {
        order_failed(result.status);
    } else if (state == UPLOADING) {
        enter(ARMING, 20000, "the mission is on the vehicle");
    }
}

WB_INIT {
    struct saved saved;
    if (!plan_read(&plan)) {
        return WB_EINVALID;
    }
    if (wb_state_get(&saved, (int32_t)sizeof saved) == (int32_t)sizeof saved && saved.version == 1 &&
        saved.state == FLYING && saved.point >= 0 && saved.point < plan.count && saved.lap >= 0) {
        point = saved.point;
        lap = saved.lap;
        resumed = true;
    }
    wb_timer_set(TICK_TIMER, TICK_MS, TICK_MS);
    entered_ns = again_ns = wb_clock_monotonic_ns();
    wb_text_clear(&line);
    wb_text_add(&line, resumed ? "goes on with waypoint " : "patrol, waypoints ");
    wb_text_add_number(&line, (uint64_t)(resumed ? point + 1 : plan.count));
    wb_text_add(&line, " with ");
    wb_text_add_device(&line);
    wb_text_log(WB_INFO, &line);
    return 0;
}

WB_EVENT {
    if (type == WB_TIMER) {
        tick();
    } else if (type == WB_TELEMETRY) {
        telemetry(source, length);
    } else if (type == WB_RESULT) {
        result(source);
    } else if (type == WB_LINK) {
        link_lost_ns = source == 0 ? wb_clock_monotonic_ns() : 0;
    } else if (type == WB_OWNER && state < FINISHED && owned) {
        owned = false;
        enter(TAKEN, 0, "the autopilot was taken away");
    }
    return 0;
}

WB_SAVE {
    const struct saved saved = {1, (int32_t)state, point, lap};
    return wb_state_put(&saved, (int32_t)sizeof saved);
}

WB_STOP {
    if (state == TAKING_OFF || state == FLYING || safe_end()) {
        say(WB_WARN, "stopped in flight; the autopilot goes on with its mode");
    }
}
