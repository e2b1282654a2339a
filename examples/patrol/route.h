/* What spec.env says of a patrol, and distances between places. */
#ifndef ROUTE_H
#define ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "string.h"
#include "wasmbed_env.h"
#include "wasmbed_math.h"

#define ROUTE_POINTS 16
#define METRES_A_DEGREE 111194.9

struct point {
    double latitude, longitude;
    float height; /* metres above home */
};

/* Metres over ground, on a flat earth: below 0.1 % off up to 20 km, but at the poles. */
static inline double distance_m(double latitude, double longitude, const struct point *to) {
    const double north = (to->latitude - latitude) * METRES_A_DEGREE;
    const double middle = (to->latitude + latitude) / 2.0 * (WB_PI / 180.0);
    const double east = (to->longitude - longitude) * METRES_A_DEGREE * wb_cos(middle);
    return wb_sqrt(north * north + east * east);
}

/* Reads "latitude,longitude,height;...": the number of points, 0 when anything is wrong. */
static inline int32_t read_route(const char *text, int32_t length, float max_height, struct point *points) {
    int32_t at = 0;
    for (int32_t count = 0; count < ROUTE_POINTS; count++) {
        double values[3];
        for (int32_t k = 0; k < 3; k++) {
            if (!wb_read_decimal(text, length, &at, &values[k])) {
                return 0;
            }
            if (k < 2 && (at >= length || text[at++] != ',')) {
                return 0;
            }
        }
        if (!(wb_fabs(values[0]) <= 85.0) || !(wb_fabs(values[1]) <= 180.0) || !(values[2] >= 2.0) ||
            values[2] > (double)max_height) {
            return 0;
        }
        points[count] = (struct point){values[0], values[1], (float)values[2]};
        if (at == length) {
            return count + 1;
        }
        if (text[at++] != ';' || at == length) {
            return 0;
        }
    }
    return 0;
}

struct plan {
    struct point points[ROUTE_POINTS];
    int32_t count;
    bool upload; /* fly an uploaded mission instead of going point by point */
    double rounds, radius_m, height_m, battery_start, battery_return, range_m, link_grace_s, speed_m_s;
};

/* Reads spec.env; what is wrong there is logged, and the result is false. */
static inline bool plan_read(struct plan *plan) {
    static char text[512];
    double most;
    if (!wb_env_decimal("MAX_HEIGHT_M", 120.0, 2.0, 500.0, &most) ||
        !wb_env_decimal("HEIGHT_M", 15.0, 2.0, most, &plan->height_m) ||
        !wb_env_decimal("ROUNDS", 1.0, 1.0, 1000.0, &plan->rounds) ||
        !wb_env_decimal("RADIUS_M", 3.0, 0.5, 100.0, &plan->radius_m) ||
        !wb_env_decimal("RANGE_M", 1000.0, 1.0, 20000.0, &plan->range_m) ||
        !wb_env_decimal("SPEED_M_S", 5.0, 0.1, 50.0, &plan->speed_m_s) ||
        !wb_env_decimal("BATTERY_START", 0.5, 0.0, 1.0, &plan->battery_start) ||
        !wb_env_decimal("BATTERY_RETURN", 0.25, 0.0, 1.0, &plan->battery_return) ||
        !wb_env_decimal("LINK_GRACE_S", 10.0, 0.0, 3600.0, &plan->link_grace_s)) {
        return false;
    }
    int32_t length = wb_env("FLY", text, (int32_t)sizeof text);
    plan->upload = length == 7 && memcmp(text, "mission", 7) == 0;
    if (length != WB_ENOTFOUND && !plan->upload && !(length == 4 && memcmp(text, "goto", 4) == 0)) {
        wb_log(WB_ERROR, "FLY must be goto or mission");
        return false;
    }
    length = wb_env("WAYPOINTS", text, (int32_t)sizeof text);
    plan->count = length > 0 ? read_route(text, length, (float)most, plan->points) : 0;
    if (plan->count == 0) {
        wb_log(WB_ERROR, "WAYPOINTS must be 1 to 16 of latitude,longitude,height; with heights of 2 to MAX_HEIGHT_M");
    }
    return plan->count > 0;
}

#endif
