/* One measured quantity: bad samples sorted out, the rest smoothed, limits watched. Knows nothing of the host. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "wasmbed_math.h"

#define WINDOW 5
/* Smoothed values beyond a limit, one after the other, until the alarm. */
#define HOLD 3
/* Share of a new median in the smoothed value. */
#define SMOOTHING 0.25f

enum alarm { ALARM_NONE = 0, ALARM_HIGH = 1, ALARM_LOW = 2, ALARM_SILENT = 3 };

struct limits {
    float least, most;  /* what the quantity can be at all; anything else is a broken sensor */
    float low, high;    /* alarm beyond these; NaN: no limit */
    float hysteresis;   /* the alarm ends this far inside the limit */
};

struct channel {
    float window[WINDOW];
    float smooth, minimum, maximum; /* extremes since the last report */
    uint32_t accepted, rejected;    /* since the last report */
    uint8_t filled, next, beyond;
    uint8_t alarm; /* enum alarm */
};

static inline float channel_median(const struct channel *channel) {
    float sorted[WINDOW];
    for (int32_t i = 0; i < channel->filled; i++) {
        int32_t k = i;
        for (; k > 0 && sorted[k - 1] > channel->window[i]; k--) {
            sorted[k] = sorted[k - 1];
        }
        sorted[k] = channel->window[i];
    }
    return sorted[channel->filled / 2];
}

static inline uint8_t channel_judge(const struct channel *channel, const struct limits *limits) {
    /* NaN limits compare false. */
    const float inside = channel->alarm == ALARM_NONE || channel->alarm == ALARM_SILENT ? 0.0f : limits->hysteresis;
    if (channel->smooth > limits->high - (channel->alarm == ALARM_HIGH ? inside : 0.0f)) {
        return ALARM_HIGH;
    }
    if (channel->smooth < limits->low + (channel->alarm == ALARM_LOW ? inside : 0.0f)) {
        return ALARM_LOW;
    }
    return ALARM_NONE;
}

/* Takes a sample; true when the alarm changed. */
static inline bool channel_take(struct channel *channel, const struct limits *limits, float value) {
    if (!(value >= limits->least && value <= limits->most)) {
        channel->rejected++;
        return false;
    }
    channel->window[channel->next] = value;
    channel->next = (uint8_t)((channel->next + 1) % WINDOW);
    channel->filled += channel->filled < WINDOW;
    const float median = channel_median(channel);
    channel->smooth = channel->filled == 1 ? median : channel->smooth + SMOOTHING * (median - channel->smooth);
    channel->minimum = channel->accepted == 0 ? channel->smooth : wb_minf(channel->minimum, channel->smooth);
    channel->maximum = channel->accepted == 0 ? channel->smooth : wb_maxf(channel->maximum, channel->smooth);
    channel->accepted++;
    const uint8_t judged = channel_judge(channel, limits);
    if (judged == channel->alarm) {
        channel->beyond = 0;
        return false;
    }
    /* An alarm must last to begin; it ends at once when it is over, and so does silence. */
    if (judged != ALARM_NONE && ++channel->beyond < HOLD) {
        return false;
    }
    channel->beyond = 0;
    channel->alarm = judged;
    return true;
}

#endif
