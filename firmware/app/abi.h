/* Numbers of application ABI 1 (docs/abi.md), as far as the device looks at them. */
#ifndef APP_ABI_H
#define APP_ABI_H

enum abi_code {
    ABI_DENIED = -1, ABI_NOTFOUND = -2, ABI_IO = -5, ABI_AGAIN = -11, ABI_BUSY = -16, ABI_UNAVAILABLE = -19,
    ABI_INVALID = -22, ABI_TIMEOUT = -62, ABI_REJECTED = -71, ABI_RATE = -75, ABI_TOOBIG = -90
};
enum abi_event {
    ABI_TIMER = 1, ABI_MESSAGE = 2, ABI_TELEMETRY = 3, ABI_SENSOR = 4, ABI_ROS2 = 5, ABI_RESULT = 6, ABI_SECURE = 7,
    ABI_LINK = 8, ABI_OWNER = 9
};
enum abi_owner { ABI_OWNER_BRIDGE_GONE = 4 };
/* Kinds of ROS2 events that end the call of their token. */
enum abi_ros2 { ABI_ROS2_REPLY = 2, ABI_ROS2_FAILURE = 3, ABI_ROS2_REJECTED = 6, ABI_ROS2_RESULT = 8 };
#define ABI_ROS2_TOKEN 8u /* offset of the token in a ROS2 event */
#define ABI_TIMER_MIN_MS 10u
#define ABI_DAY_MS 86400000u
#define ABI_TOPIC_MAX 64u
#define ABI_ALIAS_MAX 64u
#define ABI_RANDOM_MAX 256u
#define ABI_PARAMETER_MAX 16u
#define ABI_COMMAND_BYTES 48u
#define ABI_SETPOINT_BYTES 56u
#define ABI_WAYPOINT_BYTES 48u
#define ABI_TELEMETRY_KINDS 8u

#endif
