/* Supervision of the main loop by the timer's interrupt. */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include <stdbool.h>

/* From the timer's interrupt, at least every 200 ms: true when the main loop gave no sign of life for too long. */
bool supervise_overdue(void);

#endif
