/* The board under test: takes commands, a line each, from the serial port. Numbers are hexadecimal.
 *   e N        echoes the next N bytes, working for a while between reads
 *   t / i      the time in us / the time that 2,000,000 instructions take
 *   s / u      stack use / statistics of the serial port
 *   z US       sleeps; how long it took
 *   f KIND     a fault: undefined, null, store, stack, execute, loader, nowhere, divide, panic, stuck
 *   c / C      the crash record / clears it
 *   r          reset on request
 *   F E OFF | F P OFF HEX | F R OFF N    erase, program, read flash;  F X N W: power cut at operation N; F N: operations
 *   S O | S G TYPE | S P TYPE HEX        the store: open, get, put
 *   p          who this device is (not its keys)
 */
#include <stddef.h>
#include <string.h>

#include "flash.h"
#include "flash_map.h"
#include "hal.h"
#include "provision.h"
#include "store.h"

int main(void);

static void put(const char *text) {
    uint32_t left = (uint32_t)strlen(text);
    while (left != 0) {
        const uint32_t done = hal_uart_write((const uint8_t *)text, left);
        text += done;
        left -= done;
        hal_alive(1);
    }
}

static void put_hex(uint32_t value, uint32_t digits) {
    char text[9];
    for (uint32_t i = 0; i < digits; i++) {
        text[i] = "0123456789abcdef"[value >> (4 * (digits - 1 - i)) & 15];
    }
    text[digits] = '\0';
    put(text);
}

static void field(const char *name, uint32_t value) {
    put(name);
    put_hex(value, 8);
}

static void busy(uint32_t turns) {
    /* Two instructions a turn on both cores. */
#if defined(__arm__)
    __asm__ volatile(".balign 4\n1: subs %0, #1\nbne 1b" : "+r"(turns)::"cc");
#else
    __asm__ volatile(".balign 4\n1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(turns));
#endif
}

static uint8_t line[200];
static uint32_t used;

static bool read_line(void) {
    used = 0;
    for (;;) {
        uint8_t byte;
        hal_alive(2);
        if (hal_uart_read(&byte, 1) == 0) {
            hal_idle(hal_now_us() + 1000000u);
        } else if (byte == '\n') {
            line[used] = '\0';
            return true;
        } else if (used < sizeof line - 1) {
            line[used++] = byte;
        }
    }
}

static uint32_t at;
static uint32_t digit(uint8_t c) { return c >= 'a' ? c - 'a' + 10u : c - (uint32_t)'0'; }
static uint32_t number(void) {
    uint32_t value = 0;
    while (line[at] == ' ') {
        at++;
    }
    while (line[at] > ' ') {
        value = value << 4 | digit(line[at++]);
    }
    return value;
}
/* The rest of the line as bytes, in place. */
static uint32_t bytes(uint8_t **data) {
    while (line[at] == ' ') {
        at++;
    }
    uint32_t count = 0;
    *data = line + at;
    for (uint32_t i = at; i + 1 < used; i += 2) {
        line[at + count++] = (uint8_t)(digit(line[i]) << 4 | digit(line[i + 1]));
    }
    return count;
}

static void dump(const uint8_t *data, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        put_hex(data[i], 2);
    }
}

static void echo(uint32_t left) {
    while (left != 0) {
        uint8_t piece[32];
        hal_alive(3);
        const uint32_t got = hal_uart_read(piece, left < sizeof piece ? left : sizeof piece);
        for (uint32_t done = 0; done < got;) {
            done += hal_uart_write(piece + done, got - done);
        }
        left -= got;
        busy(20000);
    }
}

/* Not optimised into a loop: each level has a frame. */
static __attribute__((noinline)) uint32_t deeper(volatile uint32_t *outer, uint32_t level) {
    volatile uint32_t frame[8] = {level};
    if (level == 0xffffffffu) {
        return *outer;
    }
    return deeper(frame, level + 1) + frame[level & 7];
}

static __attribute__((noipa)) void fault(const char *kind) {
    volatile uint32_t zero = 0;
    if (strcmp(kind, "undefined") == 0) {
#if defined(__arm__)
        __asm__ volatile("udf #1");
#else
        __asm__ volatile(".word 0xffffffff");
#endif
    } else if (strcmp(kind, "null") == 0) {
        (void)*(volatile uint32_t *)(uintptr_t)(zero + 8);
    } else if (strcmp(kind, "store") == 0) {
        *(volatile uint32_t *)(uintptr_t)(FLASH_BASE + FLASH_MODULE0) = zero;
    } else if (strcmp(kind, "stack") == 0) {
        uint32_t bottom = 0;
        (void)deeper(&bottom, zero);
    } else if (strcmp(kind, "execute") == 0) {
        ((void (*)(void))((uintptr_t)line | 1))();
    } else if (strcmp(kind, "loader") == 0) {
        (void)*(volatile uint32_t *)(uintptr_t)(FLASH_BASE + FLASH_BOOT + zero);
    } else if (strcmp(kind, "nowhere") == 0) {
        (void)*(volatile uint32_t *)(uintptr_t)(0x60000000u + zero);
    } else if (strcmp(kind, "divide") == 0) {
        volatile uint32_t one = 1;
        one = one / zero;
    } else if (strcmp(kind, "panic") == 0) {
        hal_panic(0x1234);
    } else if (strcmp(kind, "stuck") == 0) {
        hal_alive(0x77);
        for (;;) {
        }
    }
    put("no fault\n");
}

static void show_crash(void) {
    struct crash_record record;
    if (!crash_get(&record)) {
        put("none\n");
        return;
    }
    put(crash_kind_name((enum crash_kind)record.kind));
    put(" reason=");
    put(reset_reason_name((enum reset_reason)record.reason));
    field(" sequence=", record.sequence);
    field(" place=", record.place);
    field(" cause=", record.cause);
    field(" pc=", record.pc);
    field(" lr=", record.lr);
    field(" sp=", record.sp);
    field(" address=", record.address);
    field(" uptime=", record.uptime_ms);
    put("\n");
}

static void flash_command(void) {
    const uint8_t action = line[2];
    at = 3;
    const uint32_t offset = number();
    uint8_t *data;
    if (action == 'E') {
        field("status=", (uint32_t)flash_erase(offset));
    } else if (action == 'P') {
        const uint32_t count = bytes(&data);
        field("status=", (uint32_t)flash_program(offset, data, count));
    } else if (action == 'R') {
        dump(flash_at(offset), number());
    } else if (action == 'X') {
        while (line[at] == ' ') {
            at++;
        }
#ifdef FLASH_FAULTS
        flash_cut_at(offset, (enum flash_cut)line[at]);
        put("ok");
    } else {
        field("operations=", flash_operations());
#endif
    }
    put("\n");
}

static void store_command(void) {
    const uint8_t action = line[2];
    at = 3;
    const enum store_type type = (enum store_type)number();
    uint8_t *data;
    if (action == 'O') {
        put(store_open() ? "ok" : "none");
    } else if (action == 'P') {
        const uint32_t count = bytes(&data);
        put(store_put(type, data, count) ? "ok" : "failed");
    } else {
        uint32_t length = 0;
        const uint8_t *found = store_get(type, &length);
        if (found == NULL) {
            put("none");
        } else {
            dump(found, length);
        }
    }
    put("\n");
}

static void one_command(void) {
    at = 1;
    switch (line[0]) {
    case 'e':
        echo(number());
        break;
    case 't':
        field("us=", (uint32_t)hal_now_us());
        put("\n");
        break;
    case 'i': {
        const uint64_t before = hal_now_us();
        busy(1000000);
        field("us=", (uint32_t)(hal_now_us() - before));
        put("\n");
        break;
    }
    case 'z': {
        const uint64_t before = hal_now_us();
        const uint64_t until = before + number();
        while (hal_now_us() < until) {
            hal_alive(4);
            hal_idle(until);
        }
        field("us=", (uint32_t)(hal_now_us() - before));
        put("\n");
        break;
    }
    case 's':
        field("used=", hal_stack_used());
        field(" of=", hal_stack_bytes());
        put("\n");
        break;
    case 'u':
        field("received=", hal_uart_statistics()->received);
        field(" sent=", hal_uart_statistics()->sent);
        field(" lost=", hal_uart_statistics()->lost);
        field(" errors=", hal_uart_statistics()->errors);
        put("\n");
        break;
    case 'f':
        fault((const char *)line + 2);
        break;
    case 'c':
        show_crash();
        break;
    case 'C':
        crash_clear();
        put("ok\n");
        break;
    case 'r':
        hal_reset(RESET_REQUEST);
    case 'F':
        flash_command();
        break;
    case 'S':
        store_command();
        break;
    case 'p': {
        const struct wb_identity *who = provision_identity();
        char name[2 * WB_ID_MAX + 2] = "nobody";
        if (who != NULL) {
            memcpy(name, who->device_id, who->device_id_bytes);
            name[who->device_id_bytes] = ' ';
            memcpy(name + who->device_id_bytes + 1, who->gateway_id, who->gateway_id_bytes);
            name[who->device_id_bytes + 1u + who->gateway_id_bytes] = '\0';
        }
        put(name);
        put("\n");
        break;
    }
    default:
        put("what?\n");
    }
}

int main(void) {
    put("exerciser on ");
    put(hal_board_name);
    put(" reset=");
    put(reset_reason_name(crash_reason()));
    field(" boots=", crash_boots());
    put(flash_open() == FLASH_OK ? " flash=ok" : " flash=none");
    put("\n");
    while (read_line()) {
        one_command();
    }
    return 0;
}
