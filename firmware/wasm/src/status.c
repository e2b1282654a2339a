/* What statuses are called; traps have the names of the specification's test suite. */
#include "wbi.h"

const char *wbi_status_name(enum wbi_status status) {
    static const char *const names[WBI_STATUS_COUNT] = {
        [WBI_OK] = "ok",
        [WBI_OUT_OF_FUEL] = "out of fuel",
        [WBI_TIMED_OUT] = "timed out",
        [WBI_MALFORMED] = "malformed module",
        [WBI_INVALID] = "invalid module",
        [WBI_UNSUPPORTED] = "unsupported feature",
        [WBI_LIMIT] = "limit of this device exceeded",
        [WBI_FLASH_FULL] = "flash full",
        [WBI_FLASH_FAILED] = "flash failed",
        [WBI_BAD_OBJECT] = "no valid object in flash",
        [WBI_UNKNOWN_IMPORT] = "unknown import",
        [WBI_IMPORT_TYPE] = "incompatible import type",
        [WBI_NO_MEMORY] = "not enough memory",
        [WBI_BAD_CALL] = "bad call",
        [WBI_TRAP_UNREACHABLE] = "unreachable",
        [WBI_TRAP_MEMORY] = "out of bounds memory access",
        [WBI_TRAP_DIVIDE] = "integer divide by zero",
        [WBI_TRAP_OVERFLOW] = "integer overflow",
        [WBI_TRAP_CONVERSION] = "invalid conversion to integer",
        [WBI_TRAP_TABLE] = "out of bounds table access",
        [WBI_TRAP_NULL] = "uninitialized element",
        [WBI_TRAP_SIGNATURE] = "indirect call type mismatch",
        [WBI_TRAP_STACK] = "call stack exhausted",
        [WBI_TRAP_HOST] = "host function failed",
    };
    return (unsigned)status < WBI_STATUS_COUNT && names[status] != 0 ? names[status] : "unknown status";
}
