/* Reads the acceleration from a sensor_msgs/Imu in CBOR, of which the route lets linear_acceleration alone through.
 * Knows nothing of the host. */
#ifndef IMU_H
#define IMU_H

#include <stdbool.h>
#include <stdint.h>

#include "string.h"
#include "wasmbed_math.h"

struct imu_reader {
    const uint8_t *at;
    int32_t left;
};

/* An initial byte of this major type and its argument. */
static inline bool imu_head(struct imu_reader *reader, uint8_t major, uint32_t *value) {
    if (reader->left < 1 || reader->at[0] >> 5 != major) {
        return false;
    }
    *value = reader->at[0] & 31;
    const int32_t more = *value < 24 ? 0 : *value == 24 ? 1 : -1; /* names and maps here are short */
    if (more < 0 || reader->left < 1 + more) {
        return false;
    }
    if (more == 1) {
        *value = reader->at[1];
    }
    reader->at += 1 + more;
    reader->left -= 1 + more;
    return true;
}

static inline bool imu_name(struct imu_reader *reader, const char *name, uint32_t length) {
    uint32_t found;
    if (!imu_head(reader, 3, &found) || found != length || reader->left < (int32_t)length ||
        memcmp(reader->at, name, length) != 0) {
        return false;
    }
    reader->at += length;
    reader->left -= (int32_t)length;
    return true;
}

/* A number of 64 bits; what the bridge writes shorter than that is not finite, and becomes NaN. */
static inline bool imu_number(struct imu_reader *reader, double *value) {
    const uint8_t first = reader->left > 0 ? reader->at[0] : 0;
    const int32_t bytes = first == 0xfb ? 8 : first == 0xf9 ? 2 : 0;
    if (bytes == 0 || reader->left < 1 + bytes) {
        return false;
    }
    uint64_t bits = 0;
    for (int32_t i = 1; i <= bytes; i++) {
        bits = bits << 8 | reader->at[i];
    }
    if (bytes == 8) {
        __builtin_memcpy(value, &bits, sizeof bits);
    } else {
        *value = (double)WB_NAN;
    }
    reader->at += 1 + bytes;
    reader->left -= 1 + bytes;
    return true;
}

/* The magnitude of the acceleration in m/s2, NaN when it is not known; false for anything but the one field. */
static inline bool imu_acceleration(const uint8_t *message, int32_t length, float *magnitude) {
    struct imu_reader reader = {message, length};
    uint32_t fields;
    double axes[3];
    if (!imu_head(&reader, 5, &fields) || fields != 1 || !imu_name(&reader, "linear_acceleration", 19) ||
        !imu_head(&reader, 5, &fields) || fields != 3) {
        return false;
    }
    for (int32_t i = 0; i < 3; i++) {
        if (!imu_name(&reader, &"xyz"[i], 1) || !imu_number(&reader, &axes[i])) {
            return false;
        }
    }
    *magnitude = (float)wb_sqrt(axes[0] * axes[0] + axes[1] * axes[1] + axes[2] * axes[2]);
    return reader.left == 0;
}

#endif
