/* The end of a program that nothing waits for. */
#include "../platform/platform.h"

void platform_exit(int code) {
    (void)code;
    for (;;) {
    }
}
