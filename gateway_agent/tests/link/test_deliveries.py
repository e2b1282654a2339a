"""What waits for a microcontroller: bounded, but for what its application waits for."""

from __future__ import annotations

from typing import Any, cast

from wasmbed.link.deliveries import MAX_WAITING, Deliveries
from wasmbed.runtime import Delivery, abi
from wasmbed.runtime.abi import EventType, Ros2Kind


def event(kind: Ros2Kind, token: int, size: int = 0) -> Delivery:
    return Delivery("app", EventType.ROS2, 3, abi.ROS2_HEADER.pack(kind, 0, token, 0) + bytes(size))


def test_ends_of_calls_wait_for_a_device_where_messages_have_no_room() -> None:
    """They were dropped like messages, and the application waited for ever."""
    waiting = Deliveries(cast("Any", None), str)
    assert waiting.put([event(Ros2Kind.FEEDBACK, 1)] * (MAX_WAITING + 5), 500) == 5
    assert waiting.put([event(Ros2Kind.RESULT, 1), event(Ros2Kind.REPLY, 2), event(Ros2Kind.MESSAGE, 0)], 500) == 1


def test_end_of_a_call_that_is_too_long_for_a_device_is_told_as_a_failure() -> None:
    waiting = Deliveries(cast("Any", None), str)
    assert waiting.put([event(Ros2Kind.RESULT, 7, 600), event(Ros2Kind.FEEDBACK, 7, 600)], 500) == 1
    (found,) = waiting._queue.values()
    assert (found.type, found.source) == (EventType.ROS2, 3)
    assert found.data == abi.ROS2_HEADER.pack(Ros2Kind.FAILURE, abi.Code.TOOBIG, 7, 0)
