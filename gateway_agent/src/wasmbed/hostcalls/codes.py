"""Numbers of application ABI 1 as the peers of a runtime use them: status codes and event types (docs/abi.md)."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a host call came to; 0 or a negative code, named as in the SDK's header without WB_E."""

    OK = 0
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
    """Types of events that come from outside the runtime."""

    TELEMETRY = 3
    SENSOR = 4
    ROS2 = 5
    RESULT = 6
    SECURE = 7
    LINK = 8
    OWNER = 9


# What may be dropped when a peer does not keep up; every other event is bounded by what asked for it.
DROPPABLE = frozenset({EventType.TELEMETRY, EventType.SENSOR, EventType.ROS2})
