#include "sensor_port.h"

#define MARK 0xa5u
enum { WAIT_MARK, WAIT_KIND, WAIT_LENGTH, WAIT_VALUES, WAIT_SUM };

static struct sensor_frame frame;
static volatile bool whole;
static uint8_t state, at, sum;

void sensor_port_byte(uint8_t byte) {
    if (whole) {
        return;
    }
    sum = (uint8_t)(sum + byte);
    switch (state) {
    case WAIT_KIND:
        frame.kind = byte;
        state = WAIT_LENGTH;
        break;
    case WAIT_LENGTH:
        frame.length = byte;
        at = 0;
        state = byte == 0 || byte > SENSOR_VALUES ? WAIT_MARK : WAIT_VALUES;
        break;
    case WAIT_VALUES:
        frame.values[at++] = byte;
        state = at == frame.length ? WAIT_SUM : WAIT_VALUES;
        break;
    case WAIT_SUM:
        whole = sum == 0xffu;
        state = WAIT_MARK;
        break;
    default:
        sum = 0;
        state = byte == MARK ? WAIT_KIND : WAIT_MARK;
        break;
    }
}

bool sensor_port_waiting(void) { return whole; }

bool sensor_port_take(struct sensor_frame *taken) {
    if (!whole) {
        return false;
    }
    *taken = frame;
    __asm__ volatile("" ::: "memory"); /* copied before the interrupt may write again */
    whole = false;
    return true;
}
