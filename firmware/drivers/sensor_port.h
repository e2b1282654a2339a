/* The second serial port of a QEMU board: samples of simulated sensors.
 * Frame: 0xa5, u8 kind, u8 length, `length` bytes of values, u8 0xff minus the sum of kind, length and values modulo 256. */
#ifndef SENSOR_PORT_H
#define SENSOR_PORT_H

#include <stdbool.h>
#include <stdint.h>

#define SENSOR_VALUES 24u

struct sensor_frame {
    uint8_t kind, length;
    uint8_t values[SENSOR_VALUES];
};

/* From the port's interrupt. While a frame waits to be read, what comes is left out: the next one is newer. */
void sensor_port_byte(uint8_t byte);
/* The frame that came last; false when there is none. */
bool sensor_port_take(struct sensor_frame *frame);
bool sensor_port_waiting(void);

#endif
