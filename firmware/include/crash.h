/* What is known of the last crash, in RAM that no start-up clears: it survives every reset but the loss of power. */
#ifndef CRASH_H
#define CRASH_H

#include <stdbool.h>
#include <stdint.h>

enum reset_reason {
    RESET_POWER = 0,   /* the memory held nothing of use */
    RESET_EXTERNAL,    /* pin, or the host of a QEMU board */
    RESET_REQUEST,     /* asked for over the link */
    RESET_FAULT,       /* see the crash record */
    RESET_SUPERVISION, /* the main loop gave no sign of life; see the crash record */
    RESET_REASONS
};

enum crash_kind {
    CRASH_NONE = 0,
    CRASH_STACK,       /* the guard below the stack was touched */
    CRASH_ACCESS,      /* memory protection, or no memory there */
    CRASH_ALIGNMENT,
    CRASH_INSTRUCTION, /* undefined, or not to be executed */
    CRASH_ARITHMETIC,  /* division by zero where the core traps it */
    CRASH_PANIC,       /* the program found itself wrong; cause is its number */
    CRASH_SUPERVISION,
    CRASH_OTHER,       /* any other exception or an interrupt nobody handles */
    CRASH_KINDS
};

/* Little endian on the wire as it lies in memory: 32 bytes. */
struct crash_record {
    uint32_t sequence;  /* crashes since power came */
    uint8_t kind;       /* enum crash_kind */
    uint8_t reason;     /* enum reset_reason it led to */
    uint16_t place;     /* what the main loop had begun: hal_alive's argument */
    uint32_t cause;     /* STM32: CFSR, or HFSR when that is 0; HiFive1: mcause */
    uint32_t pc, lr, sp;
    uint32_t address;   /* fault address, 0 when the core does not tell */
    uint32_t uptime_ms; /* of the run that crashed */
};

/* Once at boot, before anything else uses the record: why the last run ended. */
enum reset_reason crash_boot(void);
enum reset_reason crash_reason(void);
/* Starts since power came, this one included. */
uint32_t crash_boots(void);
/* The record of the last crash; false when there is none (or the gateway cleared it). */
bool crash_get(struct crash_record *record);
void crash_clear(void);
/* Notes what hal_reset is about to do. */
void crash_note_reset(enum reset_reason reason);

struct crash_registers {
    uint32_t cause, pc, lr, sp, address;
};
/* Writes the record and resets; called with interrupts off, on a stack of its own. */
_Noreturn void crash_now(enum crash_kind kind, const struct crash_registers *registers);

const char *reset_reason_name(enum reset_reason reason);
const char *crash_kind_name(enum crash_kind kind);

#endif
