/* string.h and structures as a module, for test_examples_sdk.py. */
#include "string.h"
#include "wasmbed_math.h"
WB_APPLICATION;
static char bytes[600];
struct block { char bytes[200]; };
static struct block one, two;
WB_EXPORT("fill") void fill(int32_t at, int32_t value, int32_t length) {
    memset(bytes + at, value, (size_t)length);
}

WB_EXPORT("copy") void copy(int32_t to, int32_t from, int32_t length) {
    memcpy(bytes + to, bytes + from, (size_t)length);
}

WB_EXPORT("move") void move(int32_t to, int32_t from, int32_t length) {
    memmove(bytes + to, bytes + from, (size_t)length);
}

WB_EXPORT("compare") int32_t compare(int32_t a, int32_t b, int32_t length) {
    return memcmp(bytes + a, bytes + b, (size_t)length);
}

WB_EXPORT("find") int32_t find(int32_t at, int32_t value, int32_t length) {
    char *p = memchr(bytes + at, value, (size_t)length);
    return p ? (int32_t)(p - bytes) : -1;
}

WB_EXPORT("length") int32_t length(int32_t at) {
    return (int32_t)strlen(bytes + at);
}

WB_EXPORT("most") int32_t most(int32_t at, int32_t limit) {
    return (int32_t)strnlen(bytes + at, (size_t)limit);
}

WB_EXPORT("order") int32_t order(int32_t a, int32_t b) {
    return strcmp(bytes + a, bytes + b);
}

WB_EXPORT("order_n") int32_t order_n(int32_t a, int32_t b, int32_t n) {
    return strncmp(bytes + a, bytes + b, (size_t)n);
}

WB_EXPORT("assign") int32_t assign(void) {
    one.bytes[199] = 7;
    two = one;
    return two.bytes[199];
}

WB_EXPORT("address") char *address(void) {
    return bytes;
}

WB_EXPORT("root") float root(float value) {
    return wb_sqrtf(value);
}

WB_INIT { return 0; }
