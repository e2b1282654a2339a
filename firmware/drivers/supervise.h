/* Supervision of the main loop by the timer's interrupt. */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include <stdbool.h>

/* Of the time between two ticks at most this counts; the timer comes every 200 ms. */
#define SUPERVISE_STEP_US 250000u

/* From the timer's interrupt: true when the main loop gave no sign of life for too long. */
bool supervise_overdue(void);

#endif
