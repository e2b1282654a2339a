"""Endpoints as they are written in the gateway's configuration."""

from dataclasses import dataclass, field
from pathlib import Path

from wasmbed.bridges.mavlink.filters import Rules
from wasmbed.bridges.mavlink.routing import PortPolicy

KINDS = ("udpin", "udpout", "udpbcast", "tcp", "tcpin", "serial")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed endpoint address: its kind and, by kind, host and port or device and baud rate."""

    kind: str
    host: str = ""
    port: int = 0
    device: str = ""
    baud: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One entry of `mavlink.endpoints`.

    `address` is `udpin:HOST:PORT` (listen), `udpout:HOST:PORT`, `udpbcast:BROADCAST_ADDRESS:PORT`, `tcp:HOST:PORT`,
    `tcpin:HOST:PORT` (listen) or `serial:DEVICE:BAUD`; an IPv6 host is in brackets. `signing_key` names a key of the
    key store; with it unsigned frames are refused unless `accept_unsigned`. With `isolate_peers` the peers of a
    listening endpoint do not get each other's broadcasts: set it where many vehicles connect.
    """

    name: str
    address: str
    incoming: Rules = field(default_factory=Rules)
    outgoing: Rules = field(default_factory=Rules)
    redundancy: str = ""
    drop_repeats: bool = False
    version: int = 2
    signing_key: str = ""
    link_id: int = 0
    accept_unsigned: bool = False
    isolate_peers: bool = False
    max_peers: int = 64
    peer_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parse_address(self.address)
        if not self.name:
            raise ValueError("an endpoint needs a name")
        if self.version not in (1, 2):
            raise ValueError(f"endpoint {self.name}: version must be 1 or 2")
        if self.version == 1 and self.signing_key:
            raise ValueError(f"endpoint {self.name}: MAVLink 1 cannot be signed; set version 2")
        if not 0 <= self.link_id <= 255:
            raise ValueError(f"endpoint {self.name}: link_id must be 0 to 255")
        if self.max_peers < 1 or self.peer_timeout_s <= 0:
            raise ValueError(f"endpoint {self.name}: max_peers and peer_timeout_s must be above 0")

    @property
    def policy(self) -> PortPolicy:
        """What the router needs of it."""
        isolation = self.name if self.isolate_peers else ""
        return PortPolicy(
            self.name,
            self.incoming,
            self.outgoing,
            self.redundancy,
            isolation,
            self.drop_repeats,
            self.peer_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class LogEndpoint:
    """Where telemetry logs go, how large one gets and how many are kept."""

    folder: Path
    max_bytes: int = 64 * 1024 * 1024
    keep: int = 8

    def __post_init__(self) -> None:
        if self.max_bytes < 1024 or self.keep < 1:
            raise ValueError("a log needs max_bytes of 1024 at least and keep of 1 at least")


@dataclass(frozen=True, slots=True)
class MavlinkConfig:
    """The `mavlink` part of a gateway's configuration. `system` and `component` are the gateway's own ids."""

    endpoints: tuple[Endpoint, ...] = ()
    system: int = 245
    component: int = 191
    key_folder: Path | None = None
    log: LogEndpoint | None = None

    def __post_init__(self) -> None:
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) != len(names):
            raise ValueError("two endpoints have the same name; rename one")
        if not 1 <= self.system <= 255 or not 1 <= self.component <= 255:
            raise ValueError("system and component must be 1 to 255")
        if self.key_folder is None and any(endpoint.signing_key for endpoint in self.endpoints):
            raise ValueError("an endpoint has a signing_key; set key_folder to where the keys are")


def parse_address(text: str) -> Address:
    """An endpoint address in its parts; ValueError says what is wrong with it."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"address {text!r} must begin with one of {', '.join(KINDS)} and a colon")
    before, _, last = rest.rpartition(":")
    if not last.isdigit() or not before:
        example = "serial:/dev/ttyACM0:57600" if kind == "serial" else f"{kind}:127.0.0.1:14550"
        raise ValueError(f"address {text!r} is not complete; write it as {example}")
    number = int(last)
    if kind == "serial":
        if not before.startswith("/"):
            raise ValueError(f"address {text!r}: the device must be an absolute path")
        return Address(kind, device=before, baud=number)
    if number > 65535 or (number == 0 and not kind.endswith("in")):
        raise ValueError(f"address {text!r}: the port must be 1 to 65535")
    return Address(kind, host=before.removeprefix("[").removesuffix("]"), port=number)
