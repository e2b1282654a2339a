#ifndef CRC32_H
#define CRC32_H
#include <stdint.h>

/* CRC-32 of IEEE 802.3 (zlib's crc32), `crc` being that of the bytes before, 0 at first. */
uint32_t crc32(uint32_t crc, const void *data, uint32_t length);

#endif
