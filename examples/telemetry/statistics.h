/* Running statistics of one quantity without keeping its values. Knows nothing of the host. Values are finite. */
#ifndef STATISTICS_H
#define STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

#include "wasmbed_math.h"

/* Mean and variance by Welford's method. */
struct moments {
    uint32_t count;
    float mean, squares;
    float minimum, maximum;
};

static inline void moments_add(struct moments *moments, float value) {
    const float before = value - moments->mean;
    moments->minimum = moments->count == 0 ? value : wb_minf(moments->minimum, value);
    moments->maximum = moments->count == 0 ? value : wb_maxf(moments->maximum, value);
    moments->count++;
    moments->mean += before / (float)moments->count;
    moments->squares += before * (value - moments->mean);
}

/* Standard deviation of the sample; 0 below two values. */
static inline float moments_deviation(const struct moments *moments) {
    return moments->count < 2 ? 0.0f : wb_sqrtf(wb_maxf(0.0f, moments->squares) / (float)(moments->count - 1));
}

/* One quantile by the P-square algorithm (Jain and Chlamtac, 1985): five markers, moved by parabolas. */
struct quantile {
    float height[5];
    int32_t place[5];
};

static inline float quantile_parabola(const struct quantile *q, int32_t i, int32_t step) {
    const float before = (float)(q->place[i] - q->place[i - 1]);
    const float behind = (float)(q->place[i + 1] - q->place[i]);
    const float move = (float)step;
    return q->height[i] + move / (before + behind) *
                              ((before + move) * (q->height[i + 1] - q->height[i]) / behind +
                               (behind - move) * (q->height[i] - q->height[i - 1]) / before);
}

/* Takes value number `count` (1 for the first) of the quantile `share`. */
static inline void quantile_add(struct quantile *q, float share, uint32_t count, float value) {
    if (count <= 5) {
        int32_t i = (int32_t)count - 1;
        for (; i > 0 && q->height[i - 1] > value; i--) {
            q->height[i] = q->height[i - 1];
        }
        q->height[i] = value;
        q->place[count - 1] = (int32_t)count;
        return;
    }
    int32_t cell = 0;
    if (value < q->height[0]) {
        q->height[0] = value;
    } else if (value >= q->height[4]) {
        q->height[4] = value;
        cell = 3;
    } else {
        while (cell < 3 && value >= q->height[cell + 1]) {
            cell++;
        }
    }
    for (int32_t i = cell + 1; i < 5; i++) {
        q->place[i]++;
    }
    const float wanted[3] = {share / 2.0f, share, (1.0f + share) / 2.0f};
    for (int32_t i = 1; i < 4; i++) {
        const float off = 1.0f + (float)(count - 1) * wanted[i - 1] - (float)q->place[i];
        const int32_t step = off >= 1.0f && q->place[i + 1] - q->place[i] > 1    ? 1
                             : off <= -1.0f && q->place[i - 1] - q->place[i] < -1 ? -1
                                                                                   : 0;
        if (step == 0) {
            continue;
        }
        float height = quantile_parabola(q, i, step);
        if (!(q->height[i - 1] < height && height < q->height[i + 1])) {
            height = q->height[i] + (float)step * (q->height[i + step] - q->height[i]) /
                                        (float)(q->place[i + step] - q->place[i]);
        }
        q->height[i] = height;
        q->place[i] += step;
    }
}

/* The quantile after `count` values; exact up to five, NaN without one. */
static inline float quantile_value(const struct quantile *q, float share, uint32_t count) {
    if (count == 0) {
        return WB_NAN;
    }
    return count > 5 ? q->height[2] : q->height[(int32_t)(share * (float)(count - 1) + 0.5f)];
}

/* What is normal, learnt from the first values and carried along; tells when it is not. */
#define LEARN 32
#define FOLLOW 0.01f
#define SPIKE 6.0f    /* standard deviations, twice in a row */
#define SLACK 0.75f   /* CUSUM: what of each value's deviation does not count */
#define DECISION 16.0f /* CUSUM: the sum that is a drift */

enum anomaly { ANOMALY_NONE = 0, ANOMALY_SPIKE = 1, ANOMALY_DRIFT = 2 };

struct baseline {
    struct moments learnt; /* of the first LEARN values */
    float mean, variance;  /* then, exponentially weighted */
    float above, below;    /* CUSUM to both sides */
    uint8_t spikes;
};

/* Takes a value; least: the smallest standard deviation that is assumed. After an anomaly it learns anew. */
static inline uint8_t baseline_judge(struct baseline *base, float value, float least) {
    if (base->learnt.count < LEARN) {
        moments_add(&base->learnt, value);
        if (base->learnt.count == LEARN) {
            const float deviation = moments_deviation(&base->learnt);
            base->mean = base->learnt.mean;
            base->variance = deviation * deviation;
        }
        return ANOMALY_NONE;
    }
    const float off = value - base->mean;
    const float z = off / wb_maxf(least, wb_sqrtf(base->variance));
    if (wb_fabsf(z) > SPIKE) {
        /* A single one may be a fault of the link; the model learns nothing from it. */
        if (++base->spikes < 2) {
            return ANOMALY_NONE;
        }
        *base = (struct baseline){0};
        return ANOMALY_SPIKE;
    }
    base->spikes = 0;
    base->above = wb_maxf(0.0f, base->above + z - SLACK);
    base->below = wb_maxf(0.0f, base->below - z - SLACK);
    if (base->above > DECISION || base->below > DECISION) {
        *base = (struct baseline){0};
        return ANOMALY_DRIFT;
    }
    base->mean += FOLLOW * off;
    base->variance += FOLLOW * (off * off - base->variance);
    return ANOMALY_NONE;
}

#endif
