"""`wasmbed:px4`: telemetry, and what acts on the vehicle, for the one application that owns the autopilot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.host.context import Context

MODULE: Final = "px4"
_KINDS: Final = frozenset(abi.Telemetry)
_SETPOINTS: Final = frozenset(abi.SetpointKind)


class Px4Functions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._memory = context.memory

    def handlers(self) -> dict[str, Callable[..., int]]:
        return {
            "acquire": self._acquire,
            "release": self._release,
            "subscribe": self._subscribe,
            "read": self._read,
            "command": self._command,
            "setpoint": self._setpoint,
            "offboard": self._offboard,
            "param_get": self._param_get,
            "param_set": self._param_set,
            "mission": self._mission,
        }

    def _acquire(self) -> int:
        context = self._context
        if not context.available(MODULE):
            return Code.UNAVAILABLE
        if context.ownership.held:
            return 0
        before = context.predecessor_owner
        if before is not None and context.ownership.take_from(before):
            # The peer ends what the version before had under way, then hears of the new one.
            context.calls.must_tell(MODULE, "release", "updated")
        elif not context.ownership.acquire():
            return Code.BUSY
        context.calls.must_tell(MODULE, "acquire")
        return 0

    def _release(self) -> int:
        self._context.end_ownership("released")
        return 0

    def _subscribe(self, kind: int, interval_ms: int) -> int:
        if kind not in _KINDS or not -1 <= interval_ms <= abi.INTERVAL_MAX_MS:
            return Code.INVALID
        context = self._context
        if not context.available(MODULE):
            return Code.UNAVAILABLE
        if interval_ms < 0:
            context.calls.drop_standing(MODULE, "subscribe", kind)
            context.feeds.subscribe(EventType.TELEMETRY, kind, interval_ms)
            return context.calls.tell(MODULE, "subscribe", kind, interval_ms)
        result = context.calls.stand(MODULE, "subscribe", kind, kind, interval_ms)
        if result == 0:
            context.feeds.subscribe(EventType.TELEMETRY, kind, interval_ms)
        return result

    def _read(self, kind: int, pointer: int, capacity: int) -> int:
        self._memory.at(pointer, capacity)
        if kind not in _KINDS:
            return Code.INVALID
        context = self._context
        if not context.available(MODULE):
            return Code.UNAVAILABLE
        newest = context.feeds.newest(EventType.TELEMETRY, kind)
        if newest is not None:
            return self._memory.put(pointer, capacity, newest)
        if not context.calls.stands(MODULE, "watch", kind):
            context.calls.stand(MODULE, "watch", kind, kind)
        return Code.AGAIN

    def _refusal(self, right: str) -> int:
        """Why an act is refused, or 0."""
        context = self._context
        if not context.available(MODULE):
            return Code.UNAVAILABLE
        if not context.ownership.held or right not in context.request.rights:
            return Code.DENIED
        return 0

    def _command(self, pointer: int) -> int:
        data = self._memory.get(pointer, abi.COMMAND.size)
        return self._refusal("px4-command") or self._context.calls.ask(MODULE, "command", data=data)

    def _setpoint(self, pointer: int) -> int:
        data = self._memory.get(pointer, abi.SETPOINT.size)
        kind, *numbers = abi.SETPOINT.unpack(data)
        if kind not in _SETPOINTS or any(math.isinf(number) for number in numbers):
            return Code.INVALID
        return self._refusal("px4-offboard") or self._context.calls.tell(MODULE, "setpoint", data=data)

    def _offboard(self, start: int) -> int:
        if start not in (0, 1):
            return Code.INVALID
        return self._refusal("px4-offboard") or self._context.calls.ask(MODULE, "offboard", start)

    def _name(self, pointer: int, length: int) -> str | None:
        self._memory.at(pointer, length)
        if not 0 < length <= abi.PARAMETER_NAME_MAX:
            return None
        name = self._memory.get(pointer, length)
        return name.decode("ascii") if name.replace(b"_", b"").isalnum() and name.isascii() else None

    def _param_get(self, pointer: int, length: int) -> int:
        name = self._name(pointer, length)
        if name is None:
            return Code.INVALID
        if not self._context.available(MODULE):
            return Code.UNAVAILABLE
        return self._context.calls.ask(MODULE, "param_get", name)

    def _param_set(self, pointer: int, length: int, value: float) -> int:
        name = self._name(pointer, length)
        if name is None or not math.isfinite(value):
            return Code.INVALID
        return self._refusal("px4-parameters") or self._context.calls.ask(MODULE, "param_set", name, value)

    def _mission(self, pointer: int, count: int) -> int:
        if count < 0:
            return Code.INVALID
        if count > abi.WAYPOINTS:
            return Code.TOOBIG
        data = self._memory.get(pointer, count * abi.WAYPOINT.size)
        return self._refusal("px4-mission") or self._context.calls.ask(MODULE, "mission", count, data=data)
