"""What a gateway and a Linux device say to each other, version 1.

The device begins with `hello`; the gateway answers `welcome` or `refused`, which ends the session. Then the gateway
asks: {"id": n, "op": ...}, answered by {"id": n, "ok": true, ...} or {"id": n, "ok": false, "reason", "message",
"findings"}. Operations are those of the runtime's protocol (check, start, stop, list, provide, secret) and, for
modules, `has`, `offer` (a digest with its size and SHA-256; the answer is how many bytes are there already), `part`
(bytes from an offset) and `load` (all is there: check it and compile). A message without an `id` is an event:

device:  heartbeat {...}    every `heartbeat_s` of the welcome
         instances {instances, problem}    all of them; problem: why the device's runtime is away, else empty
         state, request     as the runtime sends them
         entries {spool, entries: [[number, data], ...]}    what was kept for the gateway, in order
gateway: heartbeat          answers each
         taken {spool, number}    entries up to this one are the gateway's now
         deliver {deliver: [[instance, type, source, data], ...]}
         refused {reason, message}    the session ends
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
PART_BYTES: Final = 64 * 1024
# Entries of a spool in one message, and their bytes.
ENTRIES: Final = 256
ENTRIES_BYTES: Final = 256 * 1024
HELLO_S: Final = 10.0
MISSED_HEARTBEATS: Final = 3
SPOOLS: Final = ("logs", "sealed")


class MessageError(Exception):
    """A message that this protocol does not have; its text says what and where."""


@dataclass(frozen=True)
class Hello:
    """What a device begins with. `stream` names the numbering of its spools: a new one begins at nothing.

    With `check` nothing is meant but to learn whether the device would be accepted.
    """

    version: int
    wasmbed: str
    stream: str
    check: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The message."""
        return {"event": "hello", **self.__dict__}

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Hello:
        """Read it; raises MessageError."""
        if message.get("event") != "hello":
            raise MessageError("the session does not begin with hello")
        return cls(
            version=number(message, "version", 1, 1 << 31),
            wasmbed=text(message, "wasmbed", 64),
            stream=text(message, "stream", 64),
            check=message.get("check") is True,
        )


@dataclass(frozen=True)
class Welcome:
    """The gateway's answer; `taken` is the last entry it has of each spool."""

    version: int
    wasmbed: str
    gateway: str
    heartbeat_s: float
    taken: Mapping[str, int]

    def to_wire(self) -> dict[str, Any]:
        """The message."""
        return {"event": "welcome", **self.__dict__, "taken": dict(self.taken)}

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Welcome:
        """Read it; raises MessageError, Refused for a refusal."""
        if message.get("event") == "refused":
            raise Refused.from_wire(message)
        if message.get("event") != "welcome":
            raise MessageError("hello was not answered by welcome")
        heartbeat_s = message.get("heartbeat_s")
        if not isinstance(heartbeat_s, int | float) or not 0.05 <= heartbeat_s <= 3600:
            raise MessageError("field 'heartbeat_s' is not a number of seconds")
        taken = message.get("taken")
        if not isinstance(taken, dict):
            raise MessageError("field 'taken' is not a map")
        return cls(
            version=number(message, "version", 1, 1 << 31),
            wasmbed=text(message, "wasmbed", 64),
            gateway=text(message, "gateway", 64),
            heartbeat_s=float(heartbeat_s),
            taken={name: number(taken, name, 0, 1 << 62) for name in SPOOLS},
        )


class Refused(Exception):  # noqa: N818 - the gateway's answer
    """The gateway does not want this device, or this session any longer."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def to_wire(self) -> dict[str, Any]:
        """The message."""
        return {"event": "refused", "reason": self.reason, "message": self.message}

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Refused:
        """Read it; raises MessageError."""
        return cls(text(message, "reason", 64), text(message, "message", 1024))


def entries_of(message: Mapping[str, Any]) -> tuple[str, list[tuple[int, bytes]]]:
    """The spool and the entries of an event `entries`; raises MessageError."""
    spool, rows = message.get("spool"), message.get("entries")
    if spool not in SPOOLS or not isinstance(rows, list) or len(rows) > ENTRIES:
        raise MessageError("not entries of a spool")
    entries = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or type(row[0]) is not int or not isinstance(row[1], bytes):
            raise MessageError("not an entry of a spool")
        entries.append((row[0], row[1]))
    return str(spool), entries


def text(message: Mapping[str, Any], name: str, limit: int, *, empty: bool = False) -> str:
    """A text field of at most `limit` characters; raises MessageError."""
    value = message.get(name)
    if not isinstance(value, str) or len(value) > limit or not (value or empty):
        raise MessageError(f"field {name!r} is not a text of at most {limit} characters")
    return value


def number(message: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """An integer field within low..high; raises MessageError."""
    value = message.get(name)
    if type(value) is not int or not low <= value <= high:
        raise MessageError(f"field {name!r} is not a number from {low} to {high}")
    return value
