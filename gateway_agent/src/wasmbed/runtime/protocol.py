"""Messages between the gateway agent and the runtime: frames, values and their limits.

A frame is a 4-byte big-endian length and a CBOR map (RFC 8949) of at most MAX_FRAME_BYTES. A request has an `id` and an
`op`; its answer has the same `id`; a message without an `id` is an event. Both sides read through FrameReader and the
`from_wire` functions, which raise ProtocolError and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import cbor2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
# Room in the frame for the rest of the message.
MAX_MODULE_BYTES: Final = MAX_FRAME_BYTES - 64 * 1024
MAX_MESSAGE_BYTES: Final = 256
MAX_NAME_BYTES: Final = 512
MAX_GRANTS: Final = 32
# As much as a Placement can hold: 64 names of 128 and values of 4096 characters.
MAX_ENV: Final = 64
MAX_ENV_BYTES: Final = MAX_ENV * (128 + 4096) * 4
_HEADER_BYTES: Final = 4
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

State = Literal["Starting", "Running", "Failed"]
STATES: Final = ("Starting", "Running", "Failed")
Reason = Literal["InvalidModule", "DeviceError", "BadRequest", "NotFound"]
REASONS: Final = ("InvalidModule", "DeviceError", "BadRequest", "NotFound")


class ProtocolError(Exception):
    """Bytes or a message that the protocol does not allow; the message says what and where."""


def shorten(text: str, limit_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Cut a text to at most limit_bytes of UTF-8, at a character, with an ellipsis where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return data.decode()
    return data[: limit_bytes - 3].decode("utf-8", "ignore") + "…"


def encode(message: Mapping[str, Any]) -> bytes:
    """Make a frame; raises ProtocolError when it would be longer than MAX_FRAME_BYTES."""
    body = cbor2.dumps(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Takes bytes as they come and gives whole messages; holds at most one frame and what came with it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield every message completed by data; raises ProtocolError, after which the stream is of no use."""
        self._buffer += data
        while len(self._buffer) >= _HEADER_BYTES:
            length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            if len(self._buffer) < _HEADER_BYTES + length:
                return
            body = bytes(memoryview(self._buffer)[_HEADER_BYTES : _HEADER_BYTES + length])
            del self._buffer[: _HEADER_BYTES + length]
            yield _decode(body)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = cbor2.loads(body)
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise ProtocolError(f"not CBOR: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise ProtocolError("not a CBOR map with text keys")
    return message


def text(message: Mapping[str, Any], name: str, *, limit_bytes: int = MAX_NAME_BYTES, empty: bool = False) -> str:
    """Return a text field; raises ProtocolError when it is missing, not text, empty (unless allowed) or too long."""
    value = message.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"field {name!r} is not a text")
    if not value and not empty:
        raise ProtocolError(f"field {name!r} is empty")
    if len(value.encode("utf-8", "replace")) > limit_bytes:
        raise ProtocolError(f"field {name!r} is longer than {limit_bytes} bytes")
    return value


def number(message: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return an integer field within low..high; raises ProtocolError otherwise."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ProtocolError(f"field {name!r} is not a number from {low} to {high}")
    return value


def digest(message: Mapping[str, Any]) -> str:
    """Return the field `digest` of the form sha256:<64 hexadecimal digits>; raises ProtocolError otherwise."""
    value = text(message, "digest")
    if not _DIGEST.fullmatch(value):
        raise ProtocolError(f"digest {value[:80]!r} is not sha256: and 64 hexadecimal digits")
    return value


@dataclass(frozen=True)
class Limits:
    """What one instance may use; None means the default of its class, and no value can raise that."""

    memory_bytes: int | None = None
    stack_bytes: int | None = None
    cpu_ms_per_call: int | None = None

    def to_wire(self) -> dict[str, int]:
        fields = {
            "memory_bytes": self.memory_bytes,
            "stack_bytes": self.stack_bytes,
            "cpu_ms_per_call": self.cpu_ms_per_call,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_wire(cls, value: object) -> Limits:
        if not isinstance(value, dict):
            raise ProtocolError("field 'limits' is not a map")

        def optional(name: str, low: int) -> int | None:
            return None if value.get(name) is None else number(value, name, low, 1 << 40)

        return cls(optional("memory_bytes", 1), optional("stack_bytes", 1024), optional("cpu_ms_per_call", 1))


@dataclass(frozen=True)
class StartRequest:
    """One module on one device: everything that decides how it runs, so that equal requests are the same instance."""

    instance: str
    digest: str
    application: str
    device: str
    device_class: str
    limits: Limits = Limits()
    grants: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "digest": self.digest,
            "application": self.application,
            "device": self.device,
            "class": self.device_class,
            "limits": self.limits.to_wire(),
            "grants": sorted(set(self.grants)),
            "env": dict(self.env),
        }

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> StartRequest:
        env = message.get("env", {})
        if not isinstance(env, dict) or len(env) > MAX_ENV:
            raise ProtocolError(f"field 'env' is not a map of at most {MAX_ENV} entries")
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in env.items()):
            raise ProtocolError("field 'env' holds something else than texts")
        if sum(len(key.encode("utf-8", "replace")) + len(env[key].encode("utf-8", "replace")) for key in env) > (
            MAX_ENV_BYTES
        ):
            raise ProtocolError(f"field 'env' is longer than {MAX_ENV_BYTES} bytes")
        return cls(
            instance=text(message, "instance"),
            digest=digest(message),
            application=text(message, "application"),
            device=text(message, "device"),
            device_class=text(message, "class", limit_bytes=32),
            limits=Limits.from_wire(message.get("limits", {})),
            grants=_grants(message),
            env=dict(env),
        )

    def key(self) -> str:
        """Return the sha256 of the content; what `list` reports, so that an agent knows its own instances again."""
        return hashlib.sha256(cbor2.dumps(self.to_wire(), canonical=True)).hexdigest()


@dataclass(frozen=True)
class Hello:
    """Versions of the runtime."""

    version: int
    wasmbed: str
    wasmtime: str


@dataclass(frozen=True)
class InstanceStatus:
    """One row of `list`."""

    instance: str
    digest: str
    state: State
    reason: str
    message: str
    restarts: int
    key: str
    grants: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        return dict(self.__dict__)

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
            grants=_grants(message),
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
    """The state an instance has come to; when several follow quickly only the last is sent."""

    instance: str
    state: State
    reason: str
    message: str
    restarts: int

    def to_wire(self) -> dict[str, Any]:
        return {"event": "state", **self.__dict__}


Event = LogEvent | StateEvent


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
            )
        case other:
            raise ProtocolError(f"unknown event {other!r}")


def _grants(message: Mapping[str, Any]) -> tuple[str, ...]:
    grants = message.get("grants", [])
    if not isinstance(grants, list) or len(grants) > MAX_GRANTS or not all(isinstance(grant, str) for grant in grants):
        raise ProtocolError(f"field 'grants' is not a list of at most {MAX_GRANTS} texts")
    return tuple(sorted(set(grants)))


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
