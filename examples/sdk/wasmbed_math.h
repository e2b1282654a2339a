/* Arithmetic that C leaves to a library: instructions where WebAssembly has them, short series where it has not.
 *
 * Every function takes any value; NaN gives NaN unless it says otherwise.
 */
#ifndef WASMBED_MATH_H
#define WASMBED_MATH_H

#include <stdbool.h>

#include "wasmbed.h"

#define WB_PI 3.14159265358979323846

static inline float wb_sqrtf(float value) {
    return __builtin_sqrtf(value);
}

static inline double wb_sqrt(double value) {
    return __builtin_sqrt(value);
}

static inline float wb_fabsf(float value) {
    return __builtin_fabsf(value);
}

static inline double wb_fabs(double value) {
    return __builtin_fabs(value);
}

static inline double wb_floor(double value) {
    return __builtin_floor(value);
}

/* Neither NaN nor infinite. */
static inline bool wb_finite(double value) {
    return value - value == 0.0;
}

/* The lesser or greater one; the other one when one of them is NaN. */
static inline float wb_minf(float a, float b) {
    return a < b || b != b ? a : b;
}

static inline float wb_maxf(float a, float b) {
    return a > b || b != b ? a : b;
}

/* Into [low, high]; NaN gives low. */
static inline float wb_clampf(float value, float low, float high) {
    return value > low ? (value < high ? value : high) : low;
}

/* Sine and cosine of radians: error below 1e-11 for |angle| <= 1e4. Beyond that, and for what is not finite, NaN. */
static inline double wb_sin(double angle) {
    if (!(wb_fabs(angle) <= 10100.0)) {
        return (double)WB_NAN;
    }
    /* Into [-pi, pi], then by symmetry into [-pi/2, pi/2], where the series is short. */
    double x = angle - 2.0 * WB_PI * wb_floor(angle / (2.0 * WB_PI) + 0.5);
    if (x > WB_PI / 2) {
        x = WB_PI - x;
    } else if (x < -WB_PI / 2) {
        x = -WB_PI - x;
    }
    const double square = x * x;
    double term = x;
    double sum = x;
    for (int i = 2; i < 20; i += 2) {
        term *= -square / (i * (i + 1));
        sum += term;
    }
    return sum;
}

static inline double wb_cos(double angle) {
    return wb_sin(angle + WB_PI / 2);
}

#endif
