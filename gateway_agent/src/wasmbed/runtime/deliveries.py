"""What becomes of an event that the peer delivers to an instance; what does not fit the instance is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType, OwnerLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.runtime.host.context import Context
    from wasmbed.runtime.protocol import Provision

_ROS2: Final = int(EventType.ROS2)
_BACKEND_OF: Final = {"px4": EventType.TELEMETRY, "sensor": EventType.SENSOR}


def take_deliveries(context: Context, kind: int, source: int, items: Sequence[bytes]) -> None:
    """Take events of one source; from any thread."""
    if kind == _ROS2:
        _messages(context, source, items)
        return
    for data in items:
        take_delivery(context, kind, source, data)


def _messages(context: Context, route: int, items: Sequence[bytes]) -> None:
    shortest, may_be_lost = abi.ROS2_HEADER.size, abi.may_be_lost
    longest = shortest + abi.ros2_max(context.request.device_class)
    is_open = route in context.open_routes
    fitting = []
    for item in items:
        data = item if len(item) <= longest else abi.too_big(item)
        if data is None or len(data) < shortest:
            continue
        if not may_be_lost(_ROS2, data):
            if not context.calls.answered(data):
                continue
            if not is_open:
                context.calls.taken(data)
        fitting.append(data)
    if is_open:
        context.inbox.put_all(_ROS2, route, fitting)


def tell_taken(context: Context, route: int) -> None:
    """Tell the peer, from time to time, how many messages of a route are no longer in the queue: it may send more."""
    count = context.inbox.left(route)
    if count and context.calls.tell("ros2", "taken", route, count) < 0:
        context.inbox.not_told(route, count)


def take_delivery(context: Context, kind: int, source: int, data: bytes) -> None:
    """Take one event; from any thread."""
    match kind:
        case EventType.ROS2:
            _messages(context, source, (data,))
        case EventType.RESULT:
            context.calls.result(source, data)
        case EventType.TELEMETRY:
            if source in abi.TELEMETRY and len(data) == abi.TELEMETRY[abi.Telemetry(source)].size:
                context.feeds.take(EventType.TELEMETRY, source, data)
        case EventType.SENSOR:
            sensors = context.backends.of(context.request.device).sensors
            if source < len(sensors) and abi.SAMPLE.size <= len(data) <= sensors[source].max_bytes:
                context.feeds.take(EventType.SENSOR, source, data)
        case EventType.SECURE:
            _secure(context, data)
        case EventType.OWNER:
            context.ownership.release()
            context.inbox.put(EventType.OWNER, 0, data[:1])
        case EventType.LINK:
            context.inbox.put(EventType.LINK, min(source, 1), b"")


def _secure(context: Context, data: bytes) -> None:
    sealer = context.backends.sealer(context.request.application, context.request.device)
    content = None if sealer is None else sealer.receive(data)
    reason = "not authentic, or an old one" if content is None else "the application does not take its messages"
    if content is None or not context.inbox.put(EventType.SECURE, 0, content):
        context.calls.must_tell("secure", "refused", reason)


def take_provision(context: Context, before: Provision, now: Provision) -> None:
    """Follow a change of what is behind the host modules of the instance's device."""
    for module in sorted(set(before.available) - set(now.available)):
        _lost(context, module)
    if before.sensors != now.sensors:
        context.feeds.forget(EventType.SENSOR)
    for module in sorted(set(now.available) - set(before.available)):
        context.calls.repeat(module)
    if before.link != now.link:
        context.inbox.put(EventType.LINK, int(now.link), b"")


def _lost(context: Context, module: str) -> None:
    context.calls.lost(module)
    if module in _BACKEND_OF:
        context.feeds.forget(_BACKEND_OF[module])
    if module == "px4" and context.ownership.release():
        context.inbox.put(EventType.OWNER, 0, bytes([OwnerLoss.LOST]))
