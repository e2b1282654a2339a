"""What the runtime says to its peer: rows of `list`, logs, states and what applications ask of the peer, protocol 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from wasmbed.runtime.wire import MAX_FRAME_BYTES, ProtocolError, digest, number, octets, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_GRANTS: Final = 32
MAX_ARGUMENTS: Final = 8

State = Literal["Starting", "Running", "Failed"]
STATES: Final = ("Starting", "Running", "Failed")
Reason = Literal["InvalidModule", "DeviceError", "BadRequest", "NotFound"]
REASONS: Final = ("InvalidModule", "DeviceError", "BadRequest", "NotFound")
_ARGUMENTS: Final = frozenset({str, int, float})
# What a host module may have a backend for.
BACKENDS: Final = ("px4", "ros2", "sensor", "secure")


def names(message: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """Return a field that is a set of names, sorted; raises ProtocolError otherwise."""
    return tuple(sorted(set(texts(message, field, MAX_GRANTS))))


@dataclass(frozen=True)
class Hello:
    """Versions of the runtime."""

    version: int
    wasmbed: str
    wasmtime: str


@dataclass(frozen=True)
class InstanceStatus:
    """One row of `list`.

    previous is the key of the content that was tried and rolled back from, or empty; memory_bytes is its linear memory
    now, cpu_ms and dropped (events) count since its start.
    """

    instance: str
    digest: str
    state: State
    reason: str
    message: str
    restarts: int
    key: str
    grants: tuple[str, ...] = ()
    previous: str = ""
    memory_bytes: int = 0
    cpu_ms: int = 0
    dropped: int = 0

    def to_wire(self) -> dict[str, Any]:
        return {**self.__dict__, "grants": list(self.grants)}

    @classmethod
    def from_wire(cls, message: object) -> InstanceStatus:
        if not isinstance(message, dict):
            raise ProtocolError("an instance is not a map")
        return cls(
            instance=text(message, "instance"),
            digest=digest(message),
            state=_state(message),
            reason=text(message, "reason", empty=True),
            message=text(message, "message", empty=True),
            restarts=number(message, "restarts", 0, 1 << 62),
            key=text(message, "key"),
            grants=names(message, "grants"),
            previous=text(message, "previous", empty=True),
            memory_bytes=number(message, "memory_bytes", 0, 1 << 62),
            cpu_ms=number(message, "cpu_ms", 0, 1 << 62),
            dropped=number(message, "dropped", 0, 1 << 62),
        )


@dataclass(frozen=True)
class LogEvent:
    """One line an application logged; dropped counts the lines lost before it."""

    instance: str
    application: str
    device: str
    level: int
    text: str
    dropped: int = 0

    def to_wire(self) -> dict[str, Any]:
        return {"event": "log", **self.__dict__}


@dataclass(frozen=True)
class StateEvent:
    """The state an instance has come to; when several follow quickly only the last is sent.

    rolled_back is the key of an update that failed, when the state is of what ran before it again; message tells why.
    """

    instance: str
    state: State
    reason: str
    message: str
    restarts: int
    rolled_back: str = ""

    def to_wire(self) -> dict[str, Any]:
        return {"event": "state", **self.__dict__}


class HostRequest(NamedTuple):
    """What an application asks of the peer: module is one of BACKENDS; token 0 wants no answer.

    The answer to another token is a delivery of abi.EventType.RESULT whose data is an i32 status and details.
    """

    instance: str
    application: str
    device: str
    module: str
    op: str
    token: int = 0
    args: tuple[str | int | float, ...] = ()
    data: bytes | None = None

    def to_wire(self) -> dict[str, Any]:
        fields = {"event": "request", **self._asdict()}
        if self.data is None:
            del fields["data"]
        return fields


Event = LogEvent | StateEvent | HostRequest


def event_from_wire(message: Mapping[str, Any]) -> Event:
    """Read an event; raises ProtocolError for an unknown one."""
    match message.get("event"):
        case "log":
            return LogEvent(
                instance=text(message, "instance"),
                application=text(message, "application"),
                device=text(message, "device"),
                level=number(message, "level", 0, 4),
                text=text(message, "text", limit_bytes=16 * 1024, empty=True),
                dropped=number(message, "dropped", 0, 1 << 62),
            )
        case "state":
            return StateEvent(
                instance=text(message, "instance"),
                state=_state(message),
                reason=text(message, "reason", empty=True),
                message=text(message, "message", empty=True),
                restarts=number(message, "restarts", 0, 1 << 62),
                rolled_back=text(message, "rolled_back", empty=True),
            )
        case "request":
            return _host_request(message)
        case other:
            raise ProtocolError(f"unknown event {other!r}")


def _host_request(message: Mapping[str, Any]) -> HostRequest:
    args = message.get("args", [])
    if not isinstance(args, list) or len(args) > MAX_ARGUMENTS:
        raise ProtocolError(f"field 'args' is not a list of at most {MAX_ARGUMENTS}")
    if not _ARGUMENTS.issuperset(map(type, args)):
        raise ProtocolError("field 'args' holds something else than texts and numbers")
    module = text(message, "module")
    if module not in BACKENDS:
        raise ProtocolError(f"field 'module' is not one of {', '.join(BACKENDS)}")
    return HostRequest(
        instance=text(message, "instance"),
        application=text(message, "application"),
        device=text(message, "device"),
        module=module,
        op=text(message, "op", limit_bytes=32),
        token=number(message, "token", 0, (1 << 31) - 1),
        args=tuple(args),
        data=None if message.get("data") is None else octets(message, "data", MAX_FRAME_BYTES),
    )


def _state(message: Mapping[str, Any]) -> State:
    match message.get("state"):
        case "Starting":
            return "Starting"
        case "Running":
            return "Running"
        case "Failed":
            return "Failed"
        case other:
            raise ProtocolError(f"unknown state {other!r}")
