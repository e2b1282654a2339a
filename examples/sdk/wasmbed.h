/* Host functions of a Wasmbed application, the same wherever it runs.
 * Compile for wasm32 without a C library; scripts/build-example shows the flags.
 *
 * An application exports any of:
 *   int wasmbed_start(void)  called once; a result other than 0 is a failure
 *   int wasmbed_tick(void)   called every second, or when wb_sleep_hint asked; a negative result is a failure
 * Every call has the CPU time of its device class; a call that takes longer is ended and the application restarted.
 *
 * Results below zero are negated errno values: -11 EAGAIN, -22 EINVAL, -90 EMSGSIZE. A pointer outside the
 * application's memory ends the call with a trap.
 */
#ifndef WASMBED_H
#define WASMBED_H

#include <stddef.h>
#include <stdint.h>

#define WB_EAGAIN 11
#define WB_EINVAL 22
#define WB_EMSGSIZE 90

#define WB_LOG_MAX 4096
#define WB_RANDOM_MAX 256
#define WB_TOPIC_MAX 64
#define WB_MESSAGE_MAX 4096

enum wb_level { WB_ERROR = 0, WB_WARN = 1, WB_INFO = 2, WB_DEBUG = 3, WB_TRACE = 4 };

#define WB_SYS(name) __attribute__((import_module("wasmbed:sys"), import_name(name)))
#define WB_EXPORT(name) __attribute__((export_name(name)))

/* Writes a line of up to WB_LOG_MAX bytes to the gateway's journal; 100 lines a second, then a count of the dropped
 * ones. */
WB_SYS("log") void wb_log_bytes(int32_t level, const char *text, int32_t length);
/* Nanoseconds since an arbitrary start, never going back. */
WB_SYS("clock_monotonic_ns") int64_t wb_clock_monotonic_ns(void);
/* Nanoseconds since 1970-01-01 UTC. */
WB_SYS("clock_realtime_ns") int64_t wb_clock_realtime_ns(void);
/* Fills up to WB_RANDOM_MAX bytes from the host's random source; their number. */
WB_SYS("random") int32_t wb_random(void *buffer, int32_t length);
/* Sends to the other modules of this application on this gateway that read the topic: to how many, or -EAGAIN when a
 * reader's queue of 32 messages was full and the message is lost for that reader. */
WB_SYS("send") int32_t wb_send(const char *topic, int32_t topic_length, const void *data, int32_t length);
/* Takes the oldest message of a topic; its length, -EAGAIN when there is none, -EMSGSIZE when it does not fit (it stays).
 * The first call subscribes; a module reads at most 16 topics. */
WB_SYS("recv") int32_t wb_recv(const char *topic, int32_t topic_length, void *buffer, int32_t capacity);
/* Writes namespace/name of the device this module serves; its length, or -EMSGSIZE when it does not fit. */
WB_SYS("device_name") int32_t wb_device_name(char *buffer, int32_t capacity);
/* Writes the value of an environment variable of the manifest; its length, -EINVAL when it is not set, -EMSGSIZE when
 * it does not fit. */
WB_SYS("env") int32_t wb_env(const char *name, int32_t name_length, char *buffer, int32_t capacity);
/* Asks for the next wasmbed_tick after 10 to 60000 milliseconds; holds for that one. */
WB_SYS("sleep_hint") void wb_sleep_hint(int32_t milliseconds);

static inline int32_t wb_strlen(const char *text) {
    int32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static inline void wb_log(enum wb_level level, const char *text) {
    wb_log_bytes((int32_t)level, text, wb_strlen(text));
}

#endif
