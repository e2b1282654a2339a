"""What a gateway agent or a device's service (the peer) says to the runtime, protocol 3; `reports` has the other way.

A request has an `id` and an `op`; its answer has the same `id`. What has no `id` is not answered: events and host
requests of the runtime, `deliver` of the peer. Everything is read by `from_wire` functions, which raise ProtocolError
and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cbor2

from wasmbed.runtime import abi
from wasmbed.runtime.reports import BACKENDS, names
from wasmbed.runtime.wire import (
    MAX_FRAME_BYTES,
    ProtocolError,
    digest,
    number,
    octets,
    text,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION: Final = 3
# Room in the frame for the rest of the message.
MAX_MODULE_BYTES: Final = MAX_FRAME_BYTES - 64 * 1024
MAX_ROUTES: Final = 256
MAX_SENSORS: Final = 64
MAX_DELIVERIES: Final = 4096
_BYTES: Final = frozenset({bytes})
_address: Final = itemgetter(0, 1, 2)
_LAST_TYPE: Final = int(max(abi.EventType))
KEY_BYTES: Final = 32
NO_BLOCK: Final = -1
# As much as a Placement can hold: 64 names of 128 and values of 4096 characters.
MAX_ENV: Final = 64
MAX_ENV_BYTES: Final = MAX_ENV * (128 + 4096) * 4

Isolation = Literal["shared", "dedicated"]
ISOLATIONS: Final = ("shared", "dedicated")


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
    """One module on one device: everything that decides how it runs, so that equal requests are the same instance.

    cpu_share is in thousandths of a core over time, None for no bound; routes are (alias, direction, kind) in the order
    of their handles; rights are what the application may do to the autopilot, for example `px4-command`.
    """

    instance: str
    digest: str
    application: str
    device: str
    device_class: str
    limits: Limits = Limits()
    grants: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    app_uid: str = ""
    cpu_share: int | None = None
    isolation: Isolation = "shared"
    routes: tuple[tuple[str, str, str], ...] = ()
    rights: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        fields = {
            "instance": self.instance,
            "digest": self.digest,
            "application": self.application,
            "device": self.device,
            "class": self.device_class,
            "limits": self.limits.to_wire(),
            "grants": sorted(set(self.grants)),
            "env": dict(self.env),
            "app_uid": self.app_uid,
            "isolation": self.isolation,
            "routes": [list(route) for route in self.routes],
            "rights": sorted(set(self.rights)),
        }
        return fields if self.cpu_share is None else {**fields, "cpu_share": self.cpu_share}

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> StartRequest:
        isolation = message.get("isolation", "shared")
        if isolation not in ISOLATIONS:
            raise ProtocolError(f"field 'isolation' is not one of {', '.join(ISOLATIONS)}")
        return cls(
            instance=text(message, "instance"),
            digest=digest(message),
            application=text(message, "application"),
            device=text(message, "device"),
            device_class=text(message, "class", limit_bytes=32),
            limits=Limits.from_wire(message.get("limits", {})),
            grants=names(message, "grants"),
            env=_env(message),
            app_uid=text({"app_uid": "", **message}, "app_uid", empty=True),
            cpu_share=None if message.get("cpu_share") is None else number(message, "cpu_share", 1, 1_000_000),
            isolation=isolation,
            routes=_routes(message),
            rights=names(message, "rights"),
        )

    def key(self) -> str:
        """Return the sha256 of the content; what `list` reports, so that an agent knows its own instances again."""
        return hashlib.sha256(cbor2.dumps(self.to_wire(), canonical=True)).hexdigest()


@dataclass(frozen=True)
class Sensor:
    """One sensor of a device; kind is an abi.SensorKind, max_bytes the longest sample with its header."""

    name: str
    kind: int
    values: int
    rate_millihz: int
    max_bytes: int

    def to_wire(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_wire(cls, message: object) -> Sensor:
        if not isinstance(message, dict):
            raise ProtocolError("a sensor is not a map")
        return cls(
            name=text(message, "name", limit_bytes=64),
            kind=number(message, "kind", 1, 0xFFFF),
            values=number(message, "values", 0, 0xFFFF),
            rate_millihz=number(message, "rate_millihz", 0, 0xFFFF_FFFF),
            max_bytes=number(message, "max_bytes", abi.SAMPLE.size, abi.SAMPLE_MAX),
        )


@dataclass(frozen=True)
class Provision:
    """What a device's host modules have behind them now; link is the one between device and gateway."""

    device: str
    available: tuple[str, ...] = ()
    link: bool = True
    sensors: tuple[Sensor, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "available": sorted(set(self.available)),
            "link": self.link,
            "sensors": [sensor.to_wire() for sensor in self.sensors],
        }

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Provision:
        available = texts(message, "available", len(BACKENDS))
        if unknown := set(available) - set(BACKENDS):
            raise ProtocolError(f"field 'available' has {min(unknown)[:32]!r}; there are {', '.join(BACKENDS)}")
        link = message.get("link", True)
        if not isinstance(link, bool):
            raise ProtocolError("field 'link' is not true or false")
        sensors = message.get("sensors", [])
        if not isinstance(sensors, list) or len(sensors) > MAX_SENSORS:
            raise ProtocolError(f"field 'sensors' is not a list of at most {MAX_SENSORS}")
        return cls(text(message, "device"), tuple(available), link, tuple(Sensor.from_wire(row) for row in sensors))


@dataclass(frozen=True)
class Secret:
    """The sealing key of an application on a device, and the first of 1,000 numbers reserved for it, or NO_BLOCK.

    Received is the number of the last message from the cloud that it was given, -1 before the first.
    """

    application: str
    device: str
    key: bytes = field(repr=False)
    sequence: int
    received: int = -1

    def to_wire(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Secret:
        key = octets(message, "key", KEY_BYTES)
        if len(key) != KEY_BYTES:
            raise ProtocolError(f"field 'key' has {len(key)} bytes and must have {KEY_BYTES}")
        sequence = number(message, "sequence", NO_BLOCK, (1 << 63) - 1)
        received = number({"received": -1, **message}, "received", -1, (1 << 63) - 1)
        return cls(text(message, "application"), text(message, "device"), key, sequence, received)


class Delivery(NamedTuple):
    """One event for an instance; type is an abi.EventType."""

    instance: str
    type: int
    source: int
    data: bytes = b""

    def to_wire(self) -> list[Any]:
        return [self.instance, self.type, self.source, self.data]


Group = tuple[str, int, int, list[bytes]]
"""Events of one type and source for one instance, in order: its name, type, source, and the data of each."""


def in_groups(batch: Iterable[Delivery]) -> list[Group]:
    """Put together what stands in a row for one source of one instance."""
    return [(*address, [row[3] for row in rows]) for address, rows in itertools.groupby(batch, key=_address)]


def delivery_groups(message: Mapping[str, Any]) -> list[Group]:
    """Read `deliver` as the runtime gets it; raises ProtocolError."""
    groups = _rows(message)
    # Every message to an application passes here, so this is not a loop over all of them.
    if not all(type(row[3]) is list and _BYTES.issuperset(map(type, row[3])) for row in groups):
        raise ProtocolError("a delivery is not [instance, type, source, [data]]")
    if sum([len(row[3]) for row in groups]) > MAX_DELIVERIES:
        raise ProtocolError(f"field 'deliver' has more than {MAX_DELIVERIES} events")
    return groups


def deliveries(message: Mapping[str, Any]) -> list[Delivery]:
    """Read `deliver` as the link to a device has it, event by event; raises ProtocolError."""
    rows = _rows(message)
    if not all(type(row[3]) is bytes for row in rows):
        raise ProtocolError("a delivery is not [instance, type, source, data]")
    return [Delivery(*row) for row in rows]


def _rows(message: Mapping[str, Any]) -> list[Any]:
    rows = message.get("deliver")
    if not isinstance(rows, list) or len(rows) > MAX_DELIVERIES:
        raise ProtocolError(f"field 'deliver' is not a list of at most {MAX_DELIVERIES}")
    for row in rows:
        # True is no number.
        if not (
            type(row) is list
            and len(row) == 4
            and type(row[0]) is str
            and type(row[1]) is int
            and type(row[2]) is int
            and 1 <= row[1] <= _LAST_TYPE
            and 0 <= row[2] < 1 << 31
        ):
            raise ProtocolError("a delivery does not begin with [instance, type, source]")
    return rows


def _env(message: Mapping[str, Any]) -> dict[str, str]:
    env = message.get("env", {})
    if not isinstance(env, dict) or len(env) > MAX_ENV:
        raise ProtocolError(f"field 'env' is not a map of at most {MAX_ENV} entries")
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in env.items()):
        raise ProtocolError("field 'env' holds something else than texts")
    if sum(len(part.encode("utf-8", "replace")) for item in env.items() for part in item) > MAX_ENV_BYTES:
        raise ProtocolError(f"field 'env' is longer than {MAX_ENV_BYTES} bytes")
    return dict(env)


def _routes(message: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    routes = message.get("routes", [])
    if not isinstance(routes, list) or len(routes) > MAX_ROUTES:
        raise ProtocolError(f"field 'routes' is not a list of at most {MAX_ROUTES}")
    for route in routes:
        if not (
            isinstance(route, list)
            and len(route) == 3
            and all(isinstance(part, str) and 0 < len(part) <= abi.ALIAS_MAX for part in route)
        ):
            raise ProtocolError("a route is not [alias, direction, kind]")
    return tuple((alias, direction, kind) for alias, direction, kind in routes)
