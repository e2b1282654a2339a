"""Application ABI 1: what a module may import and must export, its events, error codes, records and limits.

docs/abi.md is the specification, examples/sdk/wasmbed.h the same in C; a test compares all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from wasmbed.runtime import wasi_types
from wasmbed.runtime.wasm import FunctionType

VERSION: Final = 1
MARKER_PREFIX: Final = "wasmbed_abi_"
MARKER: Final = f"{MARKER_PREFIX}{VERSION}"

SYS: Final = "wasmbed:sys"
PX4: Final = "wasmbed:px4"
ROS2: Final = "wasmbed:ros2"
SENSOR: Final = "wasmbed:sensor"
SECURE: Final = "wasmbed:secure"
WASI: Final = "wasi_snapshot_preview1"
# The classes whose runtime is large enough for WASI.
WASI_CLASSES: Final = ("mpu", "gateway")
SMALL_CLASSES: Final = ("riscv", "mcu")

MEMORY_EXPORT: Final = "memory"
INIT: Final = "wasmbed_init"
EVENT: Final = "wasmbed_event"
STOP: Final = "wasmbed_stop"
SAVE: Final = "wasmbed_save"
WASI_START: Final = "_start"
WASI_INITIALIZE: Final = "_initialize"

# The functions a module may export to the host, by name.
ENTRIES: Final = {
    MARKER: FunctionType((), ()),
    INIT: FunctionType((), ("i32",)),
    EVENT: FunctionType(("i32", "i32", "i32"), ("i32",)),
    STOP: FunctionType((), ()),
    SAVE: FunctionType((), ("i32",)),
    WASI_START: FunctionType((), ()),
    WASI_INITIALIZE: FunctionType((), ()),
}
# One of these must be there.
RUN_ENTRIES: Final = (INIT, EVENT, WASI_START)
EXPORTS: Final = (MEMORY_EXPORT, *ENTRIES)


class Code(IntEnum):
    """Results below zero of host functions and of requests."""

    DENIED = -1
    NOTFOUND = -2
    IO = -5
    AGAIN = -11
    BUSY = -16
    UNAVAILABLE = -19
    INVALID = -22
    TIMEOUT = -62
    REJECTED = -71
    RATE = -75
    TOOBIG = -90


class EventType(IntEnum):
    """The first argument of `wasmbed_event`."""

    TIMER = 1
    MESSAGE = 2
    TELEMETRY = 3
    SENSOR = 4
    ROS2 = 5
    RESULT = 6
    SECURE = 7
    LINK = 8
    OWNER = 9


class Telemetry(IntEnum):
    """Kinds of telemetry: what `wasmbed:px4` reads and the source of a TELEMETRY event."""

    STATUS = 1
    POSITION = 2
    LOCAL = 3
    ATTITUDE = 4
    BATTERY = 5
    GPS = 6
    HOME = 7
    MISSION = 8


class FlightMode(IntEnum):
    """`mode` of the STATUS telemetry."""

    UNKNOWN = 0
    MANUAL = 1
    ALTITUDE = 2
    POSITION = 3
    TAKEOFF = 4
    HOLD = 5
    MISSION = 6
    RETURN = 7
    LAND = 8
    OFFBOARD = 9
    ACRO = 10
    STABILIZED = 11
    OTHER = 12


class SetpointKind(IntEnum):
    """What v[] of a setpoint holds: x, y, z, vx, vy, vz, yaw, yaw rate (m, m/s, rad); attitude: w, x, y, z, thrust."""

    POSITION = 1
    VELOCITY = 2
    GLOBAL = 3
    ATTITUDE = 4


class Ros2Kind(IntEnum):
    """What a ROS2 event is; FINAL_ROS2 ends the call whose token it carries."""

    MESSAGE = 1
    REPLY = 2
    FAILURE = 3
    REQUEST = 4
    ACCEPTED = 5
    REJECTED = 6
    FEEDBACK = 7
    RESULT = 8
    GOAL = 9
    CANCEL = 10


FINAL_ROS2: Final = (Ros2Kind.REPLY, Ros2Kind.FAILURE, Ros2Kind.REJECTED, Ros2Kind.RESULT)
_FINAL_BYTES: Final = frozenset(bytes([kind]) for kind in FINAL_ROS2)
_ROS2: Final = int(EventType.ROS2)
_MAY_BE_LOST: Final = frozenset({EventType.MESSAGE, EventType.TELEMETRY, EventType.SENSOR})


def may_be_lost(kind: int, data: bytes) -> bool:
    """Whether an event may be dropped for want of room: not what an application waits for, as the end of a call."""
    return data[:1] not in _FINAL_BYTES if kind == _ROS2 else kind in _MAY_BE_LOST


def too_big(data: bytes) -> bytes | None:
    """What tells the end of a call in place of a ROS2 event that is too long to be told; None for no end of one."""
    if len(data) < ROS2_HEADER.size or may_be_lost(EventType.ROS2, data):
        return None
    _, _, token, time_ns = ROS2_HEADER.unpack_from(data)
    return ROS2_HEADER.pack(Ros2Kind.FAILURE, Code.TOOBIG, token, time_ns)


class OwnerLoss(IntEnum):
    """Why an application no longer owns the autopilot: the data of an OWNER event."""

    SUSPENDED = 1
    GUARD = 2
    UPDATED = 3
    LOST = 4


class SensorKind(IntEnum):
    """What a sensor measures."""

    IMU = 1
    BAROMETER = 2
    GPS = 3
    BATTERY = 4
    TEMPERATURE = 5
    CAMERA = 6
    HUMIDITY = 7
    GENERIC = 8


class SampleFormat(IntEnum):
    """What follows the header of a sample."""

    F32 = 0
    GREY8 = 1
    YUV420 = 2
    RGB24 = 3
    F64 = 4


# Records, laid out as a C compiler for wasm32 does; little-endian.
COMMAND: Final = Struct("<HBx4f4xddf4x")
SETPOINT: Final = Struct("<B3x8f4xdd")
WAYPOINT: Final = Struct("<HBB4f4xddf4x")
TELEMETRY: Final = {
    Telemetry.STATUS: Struct("<q6BHI4x"),
    Telemetry.POSITION: Struct("<qdd6f"),
    Telemetry.LOCAL: Struct("<q6f"),
    Telemetry.ATTITUDE: Struct("<q7f4x"),
    Telemetry.BATTERY: Struct("<q4f"),
    Telemetry.GPS: Struct("<qBB2xff4x"),
    Telemetry.HOME: Struct("<qddf4x"),
    Telemetry.MISSION: Struct("<qHHBB2x"),
}
ROS2_HEADER: Final = Struct("<B3xiqq")
SENSOR_INFO: Final = Struct("<HHII20s")
SAMPLE: Final = Struct("<qHHHHII")
# Details of a RESULT, after its i32 status.
COMMAND_RESULT: Final = Struct("<BB")
PARAMETER_RESULT: Final = Struct("<B3xd")

# Bounds that the SDK header names. Bytes unless the name says otherwise.
LOG_MAX: Final = 4096
RANDOM_MAX: Final = 256
TOPIC_MAX: Final = 64
TOPICS: Final = 16
MESSAGE_MAX: Final = 4096
SMALL_MESSAGE_MAX: Final = 256
ROS2_MAX: Final = 1 << 20
ENV_NAME_MAX: Final = 256
PARAMETER_NAME_MAX: Final = 16
ALIAS_MAX: Final = 64
STATE_MAX: Final = 65_536
SMALL_STATE_MAX: Final = 256
SECURE_MAX: Final = 4096
# What an envelope adds to its content at most: names of 2 * 128 characters, sequence, nonce, tag and CBOR heads.
ENVELOPE_MAX: Final = 640
WAYPOINTS: Final = 256
SAMPLE_MAX: Final = 8 << 20
TIMERS: Final = 16
TIMER_MIN_MS: Final = 10
TIMER_MAX_MS: Final = 86_400_000
INTERVAL_MAX_MS: Final = 86_400_000

# Queues of one instance.
QUEUE_EVENTS: Final = 256
QUEUE_BYTES: Final = 1 << 20
SMALL_QUEUE_EVENTS: Final = 8
SMALL_QUEUE_BYTES: Final = 512
SOURCE_EVENTS: Final = 32
# Messages of one route of ROS 2; what has left the queue is told to the peer so many at a time, which then sends more.
ROS2_EVENTS: Final = 128
ROS2_TAKEN: Final = 64
SECURE_EVENTS: Final = 16
TOKENS: Final = 64
SMALL_TOKENS: Final = 8
REQUESTS: Final = 256
REQUEST_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class HostFunction:
    """One function of the host.

    pointers says that it reads or writes the module's exported memory, rate_per_s how often an instance may call it
    (as large a burst; 0: nothing but its CPU time bounds it).
    """

    module: str
    name: str
    type: FunctionType
    pointers: bool
    rate_per_s: int


def _function(module: str, name: str, params: str, result: str = "i32", rate_per_s: int = 0) -> HostFunction:
    """params as in "p i32": p is a pointer."""
    names = params.split()
    types = tuple("i32" if name == "p" else name for name in names)
    return HostFunction(module, name, FunctionType(types, tuple(result.split())), "p" in names, rate_per_s)


FUNCTIONS: Final[dict[tuple[str, str], HostFunction]] = {
    (function.module, function.name): function
    for function in (
        _function(SYS, "log", "i32 p i32", "", 100),
        _function(SYS, "clock_monotonic_ns", "", "i64"),
        _function(SYS, "clock_realtime_ns", "", "i64"),
        _function(SYS, "random", "p i32", rate_per_s=10_000),
        _function(SYS, "device_name", "p i32"),
        _function(SYS, "env", "p i32 p i32"),
        _function(SYS, "timer_set", "i32 i32 i32", rate_per_s=1_000),
        _function(SYS, "subscribe", "p i32", rate_per_s=100),
        _function(SYS, "send", "p i32 p i32", rate_per_s=2_000),
        _function(SYS, "event_read", "i32 p i32"),
        _function(SYS, "dropped", ""),
        _function(SYS, "state_put", "p i32", rate_per_s=10),
        _function(SYS, "state_get", "p i32", rate_per_s=10),
        _function(PX4, "acquire", "", rate_per_s=20),
        _function(PX4, "release", "", rate_per_s=20),
        _function(PX4, "subscribe", "i32 i32", rate_per_s=100),
        _function(PX4, "read", "i32 p i32"),
        _function(PX4, "command", "p", rate_per_s=20),
        _function(PX4, "setpoint", "p", rate_per_s=200),
        _function(PX4, "offboard", "i32", rate_per_s=20),
        _function(PX4, "param_get", "p i32", rate_per_s=100),
        _function(PX4, "param_set", "p i32 f64", rate_per_s=20),
        _function(PX4, "mission", "p i32", rate_per_s=2),
        _function(ROS2, "open", "p i32", rate_per_s=100),
        _function(ROS2, "close", "i32", rate_per_s=100),
        _function(ROS2, "publish", "i32 p i32", rate_per_s=2_000),
        _function(ROS2, "call", "i32 p i32", rate_per_s=200),
        _function(ROS2, "respond", "i32 i64 i32 p i32", rate_per_s=2_000),
        _function(ROS2, "feedback", "i32 i64 p i32", rate_per_s=2_000),
        _function(ROS2, "cancel", "i32 i64", rate_per_s=200),
        _function(SENSOR, "count", ""),
        _function(SENSOR, "info", "i32 p i32"),
        _function(SENSOR, "read", "i32 p i32"),
        _function(SENSOR, "subscribe", "i32 i32", rate_per_s=100),
        _function(SECURE, "seal", "p i32 p i32", rate_per_s=200),
        _function(SECURE, "unseal", "p i32 p i32", rate_per_s=200),
        _function(SECURE, "send", "p i32", rate_per_s=100),
    )
}

FUNCTIONS.update(
    ((WASI, name), HostFunction(WASI, name, kind, len(kind.params) > 1, 0))
    for name, kind in wasi_types.FUNCTIONS.items()
)

# Import modules an application can be granted, and what grants them.
GRANTS: Final = {
    SYS: "every application",
    PX4: "spec.communication.px4.enabled and the device's capability px4",
    ROS2: "spec.communication.ros2.enabled",
    SENSOR: "the device's capabilities",
    SECURE: "the gateway's configuration",
}


def queue_limits(device_class: str) -> tuple[int, int]:
    """Events and bytes that may wait for one instance, for a class."""
    return (SMALL_QUEUE_EVENTS, SMALL_QUEUE_BYTES) if device_class in SMALL_CLASSES else (QUEUE_EVENTS, QUEUE_BYTES)


def tokens_max(device_class: str) -> int:
    """Unanswered tokens of one instance, for a class."""
    return SMALL_TOKENS if device_class in SMALL_CLASSES else TOKENS


def message_max(device_class: str) -> int:
    """Bytes of a message to send, publish on a topic or seal, for a class."""
    return SMALL_MESSAGE_MAX if device_class in SMALL_CLASSES else MESSAGE_MAX


def ros2_max(device_class: str) -> int:
    """Bytes of a ROS 2 payload, for a class."""
    return SMALL_MESSAGE_MAX if device_class in SMALL_CLASSES else ROS2_MAX


def state_max(device_class: str) -> int:
    """Bytes that `state_put` takes, for a class."""
    return SMALL_STATE_MAX if device_class in SMALL_CLASSES else STATE_MAX
