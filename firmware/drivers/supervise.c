#include "supervise.h"

#include "hal.h"

volatile uint16_t supervise_place;
/* Of the microseconds the low word: the limit is far below its wrap. */
static volatile uint32_t last_us;

void hal_alive(uint16_t place) {
    supervise_place = place;
    last_us = (uint32_t)hal_now_us();
}

bool supervise_overdue(void) { return (uint32_t)hal_now_us() - last_us > HAL_SUPERVISION_US; }
