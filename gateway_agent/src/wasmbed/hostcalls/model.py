"""What the dispatcher, the backends and the peers agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wasmbed.hostcalls.codes import Status
from wasmbed.runtime import Delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from wasmbed.runtime import Provision, Secret, Sensor
    from wasmbed.runtime.abi import EventType


class RefusedError(Exception):
    """An instance cannot have what its Placement asks for; the message names the field of the manifest."""


class PeerGoneError(Exception):
    """The runtime or the device is not reached any more."""


class Ended(Enum):
    """Why an instance is closed at a backend."""

    STOPPED = "stopped"
    TRAPPED = "trapped"
    UPDATED = "updated"
    LINK_LOST = "link lost"


class Outcome(NamedTuple):
    """What a call came to: 0 or a negative Status, and what the event RESULT carries behind it."""

    status: int = Status.OK
    detail: bytes = b""


class Peer(Protocol):
    """Where instances live: the gateway's own runtime, or a device behind a link."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent to it."""
        ...

    def deliver(self, events: Sequence[Delivery]) -> None:
        """Send events; never waits, and a peer that is gone is none of the caller's concern."""
        ...

    async def provide(self, provision: Provision) -> None:
        """Tell what is available for a device; raises PeerGoneError."""
        ...

    async def secret(self, secret: Secret) -> None:
        """Hand over an application's sealing key; raises PeerGoneError."""
        ...


@dataclass(frozen=True)
class HostInstance:
    """One application on one device, with all that its Placement says for host calls; remote when the device runs it.

    ros2 is `spec.ros2` of the Placement: `domainId`, and `topics`, `services`, `actions` as the user wrote them.
    """

    name: str
    application: str
    application_uid: str
    device: str
    grants: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    ros2: Mapping[str, Any] = field(default_factory=dict)
    px4_system_id: int | None = None
    capabilities: frozenset[str] = frozenset()
    remote: bool = False


class Instance:
    """An open instance as backends see it."""

    def __init__(self, spec: HostInstance, peer: Peer, post: Callable[[Sequence[Delivery]], None]) -> None:
        self.spec = spec
        self.peer = peer
        self._post = post

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def device(self) -> str:
        return self.spec.device

    @property
    def application(self) -> str:
        return self.spec.application

    @property
    def rights(self) -> frozenset[str]:
        return self.spec.rights

    def post(self, kind: EventType, source: int, data: bytes) -> None:
        """Send an event to the instance with the others of this turn of the loop; on the loop's thread alone."""
        self.post_all(kind, source, (data,))

    def post_all(self, kind: EventType, source: int, items: Sequence[bytes]) -> None:
        """The same with several events of one source."""
        name, number = self.spec.name, int(kind)
        self._post([Delivery(name, number, source, data) for data in items])


class HostCall(NamedTuple):
    """One call at a backend. What a backend expects of args it takes out by `number` and `text`."""

    instance: Instance
    op: str
    args: Sequence[Any]
    data: bytes
    token: int

    def number(self, index: int, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
        """An integer of the arguments; raises BadCallError."""
        value = self.args[index] if index < len(self.args) else None
        if type(value) is not int or not low <= value <= high:
            raise BadCallError(f"{self.op}: argument {index} is not a number from {low} to {high}")
        return value

    def real(self, index: int) -> float:
        """A number of the arguments; raises BadCallError."""
        value = self.args[index] if index < len(self.args) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadCallError(f"{self.op}: argument {index} is not a number")
        return float(value)

    def text(self, index: int, limit: int = 256) -> str:
        """A text of the arguments; raises BadCallError."""
        value = self.args[index] if index < len(self.args) else None
        if not isinstance(value, str) or not 0 < len(value) <= limit:
            raise BadCallError(f"{self.op}: argument {index} is not a text of 1 to {limit} characters")
        return value


class BadCallError(Exception):
    """A call whose arguments are wrong: INVALID."""


class Outlet(Protocol):
    """What a backend may do with the dispatcher."""

    def changed(self, device: str | None = None) -> None:
        """What the backend makes available for a device (None: for all) is not what it was; on the loop's thread."""
        ...

    def dropped(self, module: str, count: int = 1) -> None:
        """Count events that the backend did not send because somebody did not keep up."""
        ...


class Backend(Protocol):
    """What is behind one host module. All methods are called on the loop, and none may block it."""

    @property
    def module(self) -> str:
        """The import module without its prefix."""
        ...

    @property
    def operations(self) -> Mapping[str, float]:
        """Operations with the time in seconds after which a call has failed."""
        ...

    def attach(self, outlet: Outlet) -> None:
        """Learn where to report; called once, before anything else."""
        ...

    def available(self, device: str) -> bool:
        """Whether calls for this device can be carried out now."""
        ...

    def sensors(self, device: str) -> Sequence[Sensor]:
        """The sensors it has for a device; empty for every module but `sensor`."""
        ...

    async def open(self, instance: Instance) -> None:
        """Prepare for an instance that is about to start; raises RefusedError."""
        ...

    async def close(self, instance: Instance, why: Ended) -> None:
        """Forget an instance; its calls under way are cancelled before."""
        ...

    def handle(self, call: HostCall) -> Outcome | Awaitable[Outcome]:
        """Carry a call out at once, or return what does; calls of one instance come in order.

        Raises BadCallError for arguments that are wrong.
        """
        ...
