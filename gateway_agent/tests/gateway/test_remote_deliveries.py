"""What is left out when a runtime or a device does not read: never what an application waits for."""

from __future__ import annotations

from typing import Any, cast

from wasmbed.gateway.remote import MAX_BACKLOG_BYTES, RemoteRuntime
from wasmbed.runtime import Delivery, RuntimeClient, abi
from wasmbed.runtime.abi import EventType, Ros2Kind

EVENTS = [
    Delivery("app", EventType.ROS2, 0, abi.ROS2_HEADER.pack(kind, 0, 7, 0))
    for kind in (Ros2Kind.MESSAGE, Ros2Kind.FEEDBACK, Ros2Kind.REPLY, Ros2Kind.RESULT, Ros2Kind.FAILURE)
]
NEEDED = EVENTS[2:]


class Full:
    """The way to a runtime that has not read for long."""

    backlog_bytes = MAX_BACKLOG_BYTES + 1

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def post(self, message: dict[str, Any]) -> None:
        self.sent += message["deliver"]

    def tell(self, message: dict[str, Any], *, needed: bool) -> bool:
        if needed:
            self.sent += message["deliver"]
        return needed


def test_ends_of_calls_are_sent_to_a_device_that_does_not_read() -> None:
    """They were left out as messages are, and the application waited for ever."""
    way = Full()
    assert RemoteRuntime(cast("Any", way)).deliver(EVENTS) == 2
    assert [Delivery(*row) for row in way.sent] == NEEDED


def test_ends_of_calls_are_sent_to_a_runtime_that_does_not_read() -> None:
    way = Full()
    assert RuntimeClient(cast("Any", way)).deliver(EVENTS) == 2
    assert way.sent == [("app", EventType.ROS2, 0, [event.data for event in NEEDED])]
