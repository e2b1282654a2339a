#include "supervise.h"

#include "hal.h"

volatile uint16_t supervise_place;
/* Microseconds without a sign of life, as ticks of the timer saw them pass. */
static volatile uint32_t silent_us;

void hal_alive(uint16_t place) {
    supervise_place = place;
    silent_us = 0;
}

bool supervise_overdue(void) {
    static uint32_t last_us;
    const uint32_t now_us = (uint32_t)hal_now_us();
    const uint32_t step_us = now_us - last_us;
    last_us = now_us;
    /* A core that was held, as an emulated one is while its host is busy, had no time to give a sign in. */
    silent_us = silent_us + (step_us < SUPERVISE_STEP_US ? step_us : SUPERVISE_STEP_US);
    return silent_us > HAL_SUPERVISION_US;
}
