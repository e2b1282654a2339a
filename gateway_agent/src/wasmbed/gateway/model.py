"""What the agent knows: instances wanted, instances running, how far artifacts and modules are."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from wasmbed.api import Grant, senses
from wasmbed.gateway.host_instances import host_instance, ros2_right, route_handles
from wasmbed.runtime import Limits, StartRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.api import Placement, PlacementDevice
    from wasmbed.hostcalls import HostInstance


class Stage(Enum):
    """How far a digest is on its way to the runtime."""

    MISSING = auto()
    BUSY = auto()
    DONE = auto()


@dataclass(frozen=True)
class Failure:
    """Why something did not work, when (loop time, seconds) to try again, and how often it failed in a row.

    `untrusted`: the image is known to have no good signature, so that it must not run on either.
    """

    reason: str
    message: str
    retry_at: float
    count: int = 1
    untrusted: bool = False


@dataclass(frozen=True)
class Progress:
    """A stage, and the last failure until there is a success; a warning is shown with what runs."""

    stage: Stage = Stage.MISSING
    failure: Failure | None = None
    warning: str = ""

    def due(self, now: float) -> bool:
        """Whether it must be tried now."""
        return self.stage is Stage.MISSING and (self.failure is None or now >= self.failure.retry_at)


@dataclass(frozen=True)
class Refusal:
    """The runtime refused to start the content `key`."""

    key: str
    failure: Failure


@dataclass(frozen=True)
class Wanted:
    """One instance that a Placement asks for; `key` is the sha256 of what is started."""

    image: str
    request: StartRequest
    key: str
    host: HostInstance | None = None
    allow_in_flight: bool = False


@dataclass(frozen=True)
class Observed:
    """One instance in the runtime.

    previous is the key of an update that failed and was taken back; before is what an update that is new replaced.
    """

    digest: str
    key: str
    state: str
    reason: str = ""
    message: str = ""
    restarts: int = 0
    grants: frozenset[str] = frozenset()
    previous: str = ""
    before: Observed | None = None


@dataclass(frozen=True)
class Shown:
    """The state of one instance as its Placement's status tells it; `digest` is what the state is about."""

    state: str
    digest: str
    reason: str = ""
    message: str = ""
    restarts: int = 0


class Runtime(Protocol):
    """What a reconciler asks of a runtime, its own or that of a device; see `wasmbed.runtime.RuntimeClient`."""

    async def has(self, digest: str) -> bool: ...
    async def load(self, digest: str, wasm: bytes) -> None: ...
    async def check(self, request: StartRequest) -> None: ...
    async def start(self, request: StartRequest) -> None: ...
    async def stop(self, instance: str) -> None: ...


def retry_delay_s(count: int, *, first_s: float = 1.0, cap_s: float = 60.0) -> float:
    """Seconds before the try after failure number `count`: doubling to `cap_s`, spread by a fifth."""
    return float(min(cap_s, first_s * 2.0 ** min(count - 1, 30))) * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret


def instance_id(placement: Placement, device: PlacementDevice) -> str:
    """The one name of an application on a device."""
    return f"{placement.application.uid}/{device.namespace}/{device.name}"


def placement_instances(placement: Placement) -> dict[str, Wanted]:
    """The instances of one Placement."""
    instances = {}
    for device in placement.devices:
        name = instance_id(placement, device)
        request = _request(name, placement, device)
        host = host_instance(placement, device, request)
        instances[name] = Wanted(placement.image, request, request.key(), host, placement.allow_in_flight)
    return instances


def merge_instances(by_placement: Mapping[str, Mapping[str, Wanted]]) -> dict[str, Wanted]:
    """All instances, each once.

    When two Placements name the same one, as may be while the controller moves a device, the first by name counts.
    """
    merged: dict[str, Wanted] = {}
    for placement in sorted(by_placement):
        for name, wanted in by_placement[placement].items():
            merged.setdefault(name, wanted)
    return merged


def _request(name: str, placement: Placement, device: PlacementDevice) -> StartRequest:
    limits = placement.limits
    return StartRequest(
        instance=name,
        digest=placement.digest,
        application=f"{placement.application.namespace}/{placement.application.name}",
        device=f"{device.namespace}/{device.name}",
        device_class=device.device_class,
        limits=Limits(limits.memory_bytes, limits.stack_bytes, limits.cpu_millis_per_call),
        grants=tuple(grant for grant in placement.grants if _usable(grant, device)),
        env=dict(placement.env),
        app_uid=placement.application.uid,
        cpu_share=placement.cpu_millis,
        isolation="dedicated" if placement.isolation == "dedicated" else "shared",
        routes=route_handles(placement.ros2),
        rights=(*_px4_rights(placement), *ros2_right(placement.ros2)),
    )


def _px4_rights(placement: Placement) -> tuple[str, ...]:
    """What the application may do with an autopilot, in the runtime's words."""
    return () if placement.px4 is None else tuple(f"px4-{right}" for right in placement.px4.rights)


def _usable(grant: str, device: PlacementDevice) -> bool:
    """A granted module goes only as far as the device: no autopilot, no px4; nothing to sense, no sensor."""
    match grant:
        case Grant.PX4:
            return "px4" in device.capabilities
        case Grant.SENSOR:
            return senses(device.capabilities)
        case _:
            return True
