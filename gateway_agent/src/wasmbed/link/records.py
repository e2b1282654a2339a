"""What a microcontroller tells about itself, and the runtime's records as its messages have them."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from wasmbed.link import smp
from wasmbed.link.smp import Result, ResultError
from wasmbed.runtime import HostRequest, InstanceStatus, LogEvent, RequestRefused, StartRequest, StateEvent

# Names of instances on the wire, in bytes.
NAME_BYTES: Final = 64
_GRANTS: Final = ("wasmbed:sys", "wasmbed:px4", "wasmbed:ros2", "wasmbed:sensor", "wasmbed:secure")
_RIGHTS: Final = ("px4-command", "px4-offboard", "px4-parameters", "px4-mission", "px4-dangerous")
_STATES: Final = ("Starting", "Running", "Failed")
_REASONS: Final = ("", "InvalidModule", "DeviceError")
_REAL: Final = struct.Struct("<d")
RESET_REASONS: Final = ("power", "pin", "software", "watchdog", "crash")
COUNTERS: Final = (
    "frames_in", "frames_out", "bad_frames", "replays", "forged", "handshakes", "refused", "rekeys", "requests",
    "bad_requests", "lost",
)  # fmt: skip
# Of the firmware's application part, numbered from 64.
FIRST_APP_COUNTER: Final = 64
APP_COUNTERS: Final = (
    "uart_received", "uart_sent", "uart_lost", "uart_errors", "stack_used_bytes", "stack_bytes", "boots",
)  # fmt: skip


@dataclass(frozen=True)
class McuInfo:
    """What kind of device this is, and its limits in bytes."""

    board: str
    firmware: str
    version: int
    message_bytes: int
    answer_bytes: int
    receive_ring: int
    module_bytes: int
    memory_bytes: int
    stack_bytes: int
    instances: int

    @classmethod
    def from_wire(cls, body: dict[Any, Any]) -> McuInfo:
        """Read the answer to INFO; raises SmpError."""
        found = cls(
            smp.text(body, 0, limit=32), smp.text(body, 1, limit=64), *(smp.number(body, key) for key in range(2, 10))
        )
        if not 96 <= found.message_bytes <= 4000:
            raise smp.SmpError(f"messages of {found.message_bytes} bytes; 96 to 4,000 are possible")
        return found


@dataclass(frozen=True)
class Health:
    """One heartbeat."""

    uptime_s: int
    changes: int
    reset_reason: str
    crashed: bool

    @classmethod
    def from_wire(cls, body: dict[Any, Any]) -> Health:
        """Read a heartbeat; raises SmpError."""
        reason = smp.number(body, 2, most=255)
        return cls(
            smp.number(body, 0),
            smp.number(body, 1),
            RESET_REASONS[reason] if reason < len(RESET_REASONS) else f"reason {reason}",
            body.get(3) is True,
        )


@dataclass(frozen=True)
class Crash:
    """The record of a crash: the core's registers, and in status its kind, the reset and the place in the firmware."""

    cause: int
    pc: int
    address: int
    status: int
    uptime_s: int
    count: int
    what: str

    @classmethod
    def from_wire(cls, body: dict[Any, Any]) -> Crash:
        """Read the answer to CRASH; raises SmpError."""
        cause, pc, address, status, uptime_s, count = (smp.number(body, key) for key in range(6))
        return cls(cause, pc, address, status, uptime_s, count, smp.text(body, 6))

    @property
    def kind(self) -> int:
        """What `what` says in words (firmware/include/crash.h)."""
        return self.status & 0xFF

    @property
    def place(self) -> int:
        """Where the main loop was last: 1 link, 2 idle, 0x100 and up in an application."""
        return self.status >> 16


@dataclass(frozen=True)
class Telemetry:
    """A message of the device itself; uptime_ms is when it was made."""

    name: str
    uptime_ms: int
    data: bytes = field(repr=False)

    @classmethod
    def from_wire(cls, body: dict[Any, Any]) -> Telemetry:
        """Read it; raises SmpError."""
        return cls(smp.text(body, 0, limit=64), smp.number(body, 1), smp.octets(body, 2))


def digest_bytes(digest: str) -> bytes:
    """The 32 bytes of sha256:<hex>; raises RequestRefused."""
    try:
        data = bytes.fromhex(digest.removeprefix("sha256:"))
    except ValueError:
        data = b""
    if not digest.startswith("sha256:") or len(data) != hashlib.sha256().digest_size:
        raise RequestRefused("BadRequest", f"{digest[:80]!r} is not sha256: and 64 hexadecimal digits")
    return data


def refused(error: ResultError) -> RequestRefused:
    """The runtime's refusal for a device's result."""
    text = str(error)
    match error.result:
        case Result.CORRUPT | Result.DENIED:
            return RequestRefused("InvalidModule", text, (text,))
        case Result.NOT_FOUND:
            return RequestRefused("NotFound", text)
        case Result.INVALID | Result.TOO_LONG | Result.NOT_SUPPORTED:
            return RequestRefused("BadRequest", text)
        case _:
            return RequestRefused("DeviceError", text)


def available_bits(names: tuple[str, ...]) -> int:
    """Bits of the host modules that something is behind."""
    return sum(1 << bit for bit, grant in enumerate(_GRANTS) if grant.removeprefix("wasmbed:") in names)


def start_body(request: StartRequest, wire_name: str) -> dict[int, Any]:
    """The START message of a request."""
    body: dict[int, Any] = {
        0: wire_name,
        1: digest_bytes(request.digest),
        2: bytes.fromhex(request.key()),
        3: sum(1 << bit for bit, grant in enumerate(_GRANTS) if grant in request.grants),
        4: request.application,
        5: request.device,
        6: request.limits.memory_bytes,
        7: request.limits.stack_bytes,
        8: request.limits.cpu_ms_per_call,
        9: dict(request.env),
        10: sum(1 << bit for bit, right in enumerate(_RIGHTS) if right in request.rights),
        11: [text for route in request.routes for text in route],
        12: request.cpu_share,
    }
    # A limit over 32 bits is none for a microcontroller.
    return {
        key: min(value, (1 << 32) - 1) if type(value) is int else value
        for key, value in body.items()
        if key == 3 or value not in (None, {}, [], 0)
    }


def state_of(code: int) -> Any:
    """A state's name; what is stopped or unknown has failed."""
    return _STATES[code] if code < len(_STATES) else "Failed"


def reason_of(code: int) -> str:
    """A reason's name."""
    return _REASONS[code] if code < len(_REASONS) else "DeviceError"


def status_from(body: dict[Any, Any], instance: str) -> InstanceStatus:
    """A row of the list; raises SmpError."""
    grants = smp.number(body, 8)
    return InstanceStatus(
        instance=instance,
        digest=f"sha256:{smp.octets(body, 2, length=32).hex()}",
        state=state_of(smp.number(body, 3)),
        reason=reason_of(smp.number(body, 4)),
        message=smp.text(body, 5),
        restarts=smp.number(body, 6),
        key=smp.octets(body, 7, length=32).hex(),
        grants=tuple(sorted(grant for bit, grant in enumerate(_GRANTS) if grants & 1 << bit)),
        previous=smp.octets(body, 13, length=32).hex() if 13 in body else "",
        memory_bytes=smp.number(body, 9),
        cpu_ms=smp.number(body, 10),
        dropped=smp.number(body, 11),
    )


def state_event(body: dict[Any, Any], instance: str) -> StateEvent:
    """A note STATE; raises SmpError."""
    return StateEvent(
        instance=instance,
        state=state_of(smp.number(body, 1)),
        reason=reason_of(smp.number(body, 2)),
        message=smp.text(body, 3),
        restarts=smp.number(body, 4),
        rolled_back=smp.octets(body, 5, length=32).hex() if 5 in body else "",
    )


def log_event(body: dict[Any, Any], instance: str, application: str, device: str) -> LogEvent:
    """A note LOG; raises SmpError."""
    return LogEvent(
        instance, application, device, smp.number(body, 1, most=4), smp.text(body, 2, limit=4096), smp.number(body, 3)
    )


def host_request(body: dict[Any, Any], instance: str, application: str, device: str) -> HostRequest:
    """A note REQUEST; raises SmpError.

    The firmware's CBOR has no floating point: the value of px4's param_set comes as eight bytes of data.
    """
    args = body.get(5, [])
    if not isinstance(args, list) or len(args) > 8 or not all(type(value) in (str, int, float) for value in args):
        raise smp.SmpError("field 5 is not a list of at most 8 texts and numbers")
    module = smp.text(body, 2, limit=16)
    if module not in ("px4", "ros2", "sensor", "secure"):
        raise smp.SmpError(f"unknown module {module!r}")
    op, data = smp.text(body, 3, limit=32), None if body.get(6) is None else smp.octets(body, 6)
    if (module, op) == ("px4", "param_set"):
        if data is None or len(data) != _REAL.size:
            raise smp.SmpError("the value of param_set is not eight bytes of data")
        args, data = [*args, *_REAL.unpack(data)], None
    return HostRequest(
        instance=instance,
        application=application,
        device=device,
        module=module,
        op=op,
        token=smp.number(body, 4, most=(1 << 31) - 1),
        args=tuple(args),
        data=data,
    )
