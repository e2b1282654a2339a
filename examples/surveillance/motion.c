/* See motion.h. Each cell has a running mean and a running mean deviation of its brightness. A cell is foreground when
 * it is further from the mean than several deviations, its neighbours' background does not explain it either (a camera
 * that trembles), and what the light does to the whole picture is taken off.
 */
#include "motion.h"

#include "string.h"
#include "wasmbed_math.h"

#define CELLS (MOTION_CELLS_ACROSS * MOTION_CELLS_DOWN)
#define LEARN_FRAMES 12
/* Shares of a difference that go into the model with each frame: background, foreground, deviation. */
#define RATE 0.06f
#define RATE_FOREGROUND 0.002f
#define RATE_DEVIATION 0.04f
#define FACTOR 4.5f
#define MIN_DIFFERENCE 9.0f
/* More foreground than this is no object. */
#define CHANGED_SHARE 0.5f
/* A region counts once a region was at its place in this many frames in a row; one is missed without beginning anew. */
#define CONFIRM_FRAMES 3
#define TRACKS 16

struct region {
    int32_t left, top, right, bottom; /* cells, right and bottom not in it */
    int32_t cells;
};

struct track {
    struct region region;
    int32_t seen, missed;
};

static int32_t size, across, down, column_pixels, filled_rows, frames;
static float least_cells;
static float cells[CELLS], mean[CELLS], deviation[CELLS];
static uint8_t candidate[CELLS], foreground[CELLS];
static uint16_t label[CELLS], parent[CELLS / 2 + 1];
static struct region regions[CELLS / 2 + 1];
static struct track tracks[TRACKS];

bool motion_begin(int32_t width, int32_t height, float min_share) {
    if (width < 16 || height < 16 || width > 4096 || height > 4096) {
        return false;
    }
    size = 1;
    while (width / size > MOTION_CELLS_ACROSS || height / size > MOTION_CELLS_DOWN) {
        size++;
    }
    across = width / size;
    down = height / size;
    column_pixels = width;
    filled_rows = frames = 0;
    least_cells = wb_maxf(4.0f, min_share * (float)(across * down));
    memset(tracks, 0, sizeof tracks);
    return true;
}

int32_t motion_cell_pixels(void) {
    return size;
}

void motion_rows(const uint8_t *luma, int32_t rows) {
    const float share = 1.0f / (float)(size * size);
    for (int32_t row = 0; row + size <= rows && filled_rows < down; row += size, filled_rows++) {
        float *to = cells + filled_rows * across;
        for (int32_t x = 0; x < across; x++) {
            int32_t sum = 0;
            for (int32_t y = 0; y < size; y++) {
                const uint8_t *from = luma + (row + y) * column_pixels + x * size;
                for (int32_t i = 0; i < size; i++) {
                    sum += from[i];
                }
            }
            to[x] = (float)sum * share;
        }
    }
}

/* What the light did to the dark and to the bright half of the picture: the median difference of each, so that an
 * object must fill more than half of one to be taken for light. */
struct light {
    float dark, bright, dark_shift, bright_shift;
};

static float median_of(const int32_t *histogram, int32_t bins, int32_t total) {
    int32_t seen = 0;
    for (int32_t i = 0; i < bins; i++) {
        if (2 * (seen + histogram[i]) >= total && histogram[i] > 0) {
            /* Inside the bin, as if its values lay evenly in it. */
            return (float)i + ((float)total / 2 - (float)seen) / (float)histogram[i];
        }
        seen += histogram[i];
    }
    return 0.0f;
}

static struct light measure_light(int32_t count) {
    static int32_t levels[256];
    static int32_t shifts[2][1024];
    memset(levels, 0, sizeof levels);
    memset(shifts, 0, sizeof shifts);
    for (int32_t i = 0; i < count; i++) {
        levels[(int32_t)wb_clampf(mean[i], 0.0f, 255.0f)]++;
    }
    const float middle = median_of(levels, 256, count);
    float sums[2] = {0.0f, 0.0f};
    int32_t counts[2] = {0, 0};
    for (int32_t i = 0; i < count; i++) {
        const int32_t half = mean[i] >= middle;
        /* Half grey levels from -256 to 255.5. */
        shifts[half][(int32_t)wb_clampf((cells[i] - mean[i] + 256.0f) * 2.0f, 0.0f, 1023.0f)]++;
        sums[half] += mean[i];
        counts[half]++;
    }
    struct light light = {0};
    for (int32_t half = 0; half < 2; half++) {
        if (counts[half] == 0) {
            continue;
        }
        const float shift = median_of(shifts[half], 1024, counts[half]) / 2.0f - 256.0f;
        const float level = sums[half] / (float)counts[half];
        if (half == 0) {
            light.dark = level;
            light.dark_shift = shift;
        } else {
            light.bright = level;
            light.bright_shift = shift;
        }
    }
    if (counts[0] == 0 || light.bright - light.dark < 8.0f) {
        light.dark_shift = light.bright_shift = counts[1] > counts[0] ? light.bright_shift : light.dark_shift;
        light.dark = 0.0f;
        light.bright = 255.0f;
    }
    return light;
}

static float expected(const struct light *light, int32_t i) {
    const float part = (mean[i] - light->dark) / (light->bright - light->dark);
    return mean[i] + light->dark_shift + wb_clampf(part, -0.5f, 1.5f) * (light->bright_shift - light->dark_shift);
}

static bool differs(const struct light *light, int32_t i, float value) {
    const float difference = wb_fabsf(value - expected(light, i));
    return difference > MIN_DIFFERENCE && difference > FACTOR * deviation[i];
}

/* Candidates that no neighbour's background explains, and of those the ones that are not alone. */
static int32_t find_foreground(const struct light *light, int32_t count) {
    int32_t marked = 0;
    memset(candidate, 0, (size_t)count);
    for (int32_t y = 1; y < down - 1; y++) {
        for (int32_t x = 1; x < across - 1; x++) {
            const int32_t i = y * across + x;
            candidate[i] = differs(light, i, cells[i]) && differs(light, i - 1, cells[i]) &&
                           differs(light, i + 1, cells[i]) && differs(light, i - across, cells[i]) &&
                           differs(light, i + across, cells[i]);
        }
    }
    memset(foreground, 0, (size_t)count);
    for (int32_t y = 1; y < down - 1; y++) {
        for (int32_t x = 1; x < across - 1; x++) {
            const uint8_t *at = candidate + y * across + x;
            const int32_t near = at[-across - 1] + at[-across] + at[-across + 1] + at[-1] + at[0] + at[1] +
                                 at[across - 1] + at[across] + at[across + 1];
            foreground[y * across + x] = near >= 4;
            marked += near >= 4;
        }
    }
    return marked;
}

static uint16_t root_of(uint16_t at) {
    while (parent[at] != at) {
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    return at;
}

/* Connected regions (8 neighbours) by two passes; the number of labels, of which the roots hold regions. */
static int32_t find_regions(void) {
    uint16_t labels = 0;
    for (int32_t y = 0; y < down; y++) {
        for (int32_t x = 0; x < across; x++) {
            const int32_t i = y * across + x;
            label[i] = 0;
            if (!foreground[i]) {
                continue;
            }
            /* Foreground keeps off the rim, so these neighbours exist. */
            const int32_t before[4] = {i - 1, i - across - 1, i - across, i - across + 1};
            for (int32_t k = 0; k < 4; k++) {
                if (label[before[k]] == 0) {
                    continue;
                }
                const uint16_t root = root_of(label[before[k]]);
                if (label[i] != 0) {
                    parent[root] = root_of(label[i]);
                }
                label[i] = root_of(root);
            }
            if (label[i] == 0) {
                label[i] = ++labels;
                parent[labels] = labels;
            }
        }
    }
    for (int32_t k = 1; k <= labels; k++) {
        regions[k] = (struct region){across, down, 0, 0, 0};
    }
    for (int32_t i = 0; i < across * down; i++) {
        if (label[i] != 0) {
            struct region *region = &regions[root_of(label[i])];
            const int32_t x = i % across;
            const int32_t y = i / across;
            region->left = x < region->left ? x : region->left;
            region->right = x + 1 > region->right ? x + 1 : region->right;
            region->top = y < region->top ? y : region->top;
            region->bottom = y + 1;
            region->cells++;
        }
    }
    return labels;
}

static bool near(const struct region *a, const struct region *b) {
    /* Grown by as much as the older one is large: what moves fast no longer overlaps its last place. */
    const int32_t across_more = (b->right - b->left) / 2 + 2;
    const int32_t down_more = (b->bottom - b->top) / 2 + 2;
    return a->left < b->right + across_more && b->left < a->right + across_more && a->top < b->bottom + down_more &&
           b->top < a->bottom + down_more;
}

static void follow(int32_t labels) {
    static bool taken[CELLS / 2 + 1];
    memset(taken, 0, sizeof taken);
    for (int32_t t = 0; t < TRACKS; t++) {
        struct track *track = &tracks[t];
        int32_t best = 0;
        for (int32_t k = 1; track->seen > 0 && k <= labels; k++) {
            if ((float)regions[k].cells >= least_cells && !taken[k] && near(&regions[k], &track->region) &&
                regions[k].cells > regions[best].cells) {
                best = k;
            }
        }
        if (best != 0) {
            taken[best] = true;
            track->region = regions[best];
            track->seen++;
            track->missed = 0;
        } else if (track->seen > 0 && ++track->missed > 1) {
            track->seen = 0;
        }
    }
    for (int32_t k = 1; k <= labels; k++) {
        for (int32_t t = 0; t < TRACKS && !taken[k] && (float)regions[k].cells >= least_cells; t++) {
            if (tracks[t].seen == 0) {
                tracks[t] = (struct track){regions[k], 1, 0};
                taken[k] = true;
            }
        }
    }
}

static void report(struct motion_result *result) {
    bool told[TRACKS] = {false};
    while (result->count < MOTION_BLOBS) {
        int32_t best = -1;
        for (int32_t t = 0; t < TRACKS; t++) {
            if (!told[t] && tracks[t].seen >= CONFIRM_FRAMES && tracks[t].missed == 0 &&
                (best < 0 || tracks[t].region.cells > tracks[best].region.cells)) {
                best = t;
            }
        }
        if (best < 0) {
            return;
        }
        told[best] = true;
        const struct region *region = &tracks[best].region;
        result->boxes[result->count++] =
            (struct motion_box){region->left * size, region->top * size, (region->right - region->left) * size,
                                (region->bottom - region->top) * size};
    }
}

static void learn(const struct light *light, int32_t count) {
    const float first = 1.0f / (float)(frames + 1);
    for (int32_t i = 0; i < count; i++) {
        const float difference = cells[i] - (frames < LEARN_FRAMES ? mean[i] : expected(light, i));
        const float rate = frames < LEARN_FRAMES ? first : (foreground[i] ? RATE_FOREGROUND : RATE);
        mean[i] = frames < LEARN_FRAMES ? mean[i] + difference * first
                                        : expected(light, i) + difference * rate;
        if (frames < LEARN_FRAMES) {
            deviation[i] += (wb_fabsf(difference) - deviation[i]) * (frames == 0 ? 0.0f : first);
        } else if (!foreground[i]) {
            deviation[i] += (wb_fabsf(difference) - deviation[i]) * RATE_DEVIATION;
        }
    }
}

void motion_frame(struct motion_result *result) {
    const int32_t count = across * down;
    const bool complete = filled_rows == down;
    *result = (struct motion_result){.learning = frames < LEARN_FRAMES};
    filled_rows = 0;
    if (!complete) {
        return;
    }
    struct light light = {0};
    if (frames == 0) {
        memcpy(mean, cells, (size_t)count * sizeof mean[0]);
        memset(deviation, 0, sizeof deviation);
    } else if (frames >= LEARN_FRAMES) {
        light = measure_light(count);
        const int32_t marked = find_foreground(&light, count);
        result->activity = (float)marked / (float)count;
        if (result->activity > CHANGED_SHARE) {
            result->changed = true;
            frames = 0;
            memset(tracks, 0, sizeof tracks);
            return;
        }
        follow(find_regions());
        report(result);
    }
    learn(&light, count);
    frames += frames < LEARN_FRAMES;
}
