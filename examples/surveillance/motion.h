/* Finds what moves before a camera that stands still: a background model of each cell of the picture, and the connected
 * regions that differ from it. It takes the brightness of pixels and knows nothing of the host.
 */
#ifndef MOTION_H
#define MOTION_H

#include <stdbool.h>
#include <stdint.h>

#define MOTION_CELLS_ACROSS 160
#define MOTION_CELLS_DOWN 120
#define MOTION_BLOBS 8

/* A region that moves, in pixels of the frame. */
struct motion_box {
    int32_t x, y, width, height;
};

struct motion_result {
    int32_t count; /* boxes of regions that were there for several frames, the largest first */
    struct motion_box boxes[MOTION_BLOBS];
    float activity; /* share of the cells that differ from the background, 0 to 1 */
    bool learning;  /* the model is new: nothing is found yet */
    bool changed;   /* the whole scene changed (light, or the camera moved): the model begins anew */
};

/* Begins with an empty model for frames of this size. min_share: the smallest region that counts, as a share of the
 * frame. False for a size that is not 16 to 4,096 pixels each way. */
bool motion_begin(int32_t width, int32_t height, float min_share);
/* Pixels that one cell is wide and high. */
int32_t motion_cell_pixels(void);
/* Takes rows of one frame from the top: `rows` is a multiple of motion_cell_pixels(); rows at the bottom that fill no
 * cell are not taken. */
void motion_rows(const uint8_t *luma, int32_t rows);
/* Ends the frame, compares and learns. */
void motion_frame(struct motion_result *result);

#endif
