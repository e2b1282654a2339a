/* What each board's application part takes of its RAM. */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#if defined(BOARD_HIFIVE1)
#define APP_INSTANCES 1u
#define APP_MEMORY_BYTES 6144u /* imports, globals, table and linear memory of a guest */
#define APP_STACK_BYTES 2048u  /* values and calls of a guest; a load borrows it */
#define APP_QUEUE_BYTES 512u
#define APP_NOTES_BYTES 320u
#define APP_TELEMETRY 2u
#define APP_CPU_MS 500u
#else
#define APP_INSTANCES 2u
#define APP_MEMORY_BYTES 32768u
#define APP_STACK_BYTES 8192u
#define APP_QUEUE_BYTES 512u
#define APP_NOTES_BYTES 2048u
#define APP_TELEMETRY 8u
#define APP_CPU_MS 100u
#endif
#define APP_VERSION "1.0.0"
#define APP_RECEIVE_RING 256u /* of both boards at least */
#define APP_MODULE_BYTES 49152u
#define APP_QUEUE_EVENTS 8u
#define APP_TOKENS 8u
#define APP_TIMERS 16u
#define APP_TOPICS 16u
#define APP_SENSORS 4u
#define APP_MESSAGE_MAX 256u
#define APP_STATE_MAX 256u
#define APP_TELEMETRY_BYTES 48u
#define APP_SETPOINT_AGE_MS 500u
/* An update that fails before is taken back; test builds wait for less. */
#ifndef APP_TRIAL_MS
#define APP_TRIAL_MS 60000u
#endif
/* Fuel of a slice: a fraction of a millisecond, after which the link has its turn. */
#define APP_SLICE 16384u

#endif
