/* The flash of a QEMU board: a file of the host, and the mapped bytes refreshed from it.
 *
 * The machine ignores stores to its flash; a semihosting read whose buffer lies there does rewrite it. The one name that is
 * opened is the host's first semihosting argument, at boot. */
#include <string.h>

#include "flash.h"
#include "flash_map.h"
#include "semihost.h"

#define OPEN_MODE 3u /* "r+b" */
#define NAME_BYTES 80u
static uint32_t file = UINT32_MAX;

bool flash_part_open(void) {
    char name[NAME_BYTES];
    const uintptr_t line[2] = {(uintptr_t)name, sizeof name};
    if (file != UINT32_MAX) {
        return true;
    }
    if (semihost(SEMIHOST_CMDLINE, line) != 0) {
        return false;
    }
    uint32_t length = 0;
    while (length < sizeof name - 1 && name[length] != '\0' && name[length] != ' ') {
        length++;
    }
#ifdef FLASH_FAULTS
    /* Test builds: "cut=N" and b, h or a after the name. */
    const char *cut = strstr(name + length, "cut=");
    if (cut != NULL) {
        uint32_t number = 0;
        for (cut += 4; *cut >= '0' && *cut <= '9'; cut++) {
            number = number * 10 + (uint32_t)(*cut - '0');
        }
        flash_cut_at(number, (enum flash_cut)*cut);
    }
#endif
    name[length] = '\0';
    const uintptr_t block[3] = {(uintptr_t)name, OPEN_MODE, length};
    file = semihost(SEMIHOST_OPEN, block);
    return file != UINT32_MAX;
}

static bool transfer(uint32_t number, uint32_t offset, uintptr_t bytes, uint32_t length) {
    const uintptr_t seek[2] = {file, FLASH_FILE_OFFSET + offset};
    const uintptr_t block[3] = {file, bytes, length};
    return semihost(SEMIHOST_SEEK, seek) == 0 && semihost(number, block) == 0;
}

bool flash_part_write(uint32_t offset, const uint8_t *data, uint32_t length) {
    return transfer(SEMIHOST_WRITE, offset, (uintptr_t)data, length) &&
           transfer(SEMIHOST_READ, offset, FLASH_BASE + offset, length);
}

bool flash_part_erase(uint32_t offset, uint32_t bytes) {
    static const uint8_t erased[256] = {[0 ... 255] = 0xff};
    for (uint32_t at = 0; at < bytes; at += sizeof erased) {
        const uint32_t length = bytes - at < sizeof erased ? bytes - at : sizeof erased;
        if (!transfer(SEMIHOST_WRITE, offset + at, (uintptr_t)erased, length)) {
            return false;
        }
    }
    return transfer(SEMIHOST_READ, offset, FLASH_BASE + offset, bytes);
}
