"""Who owns which vehicle, and what happens when an ownership ends.

One application owns a vehicle at a time. Ownership is an instance's and ends with it: a trap, a stop, an update, a lost
link, the kill switch, an order outside of the geofence in offboard. Then its setpoints stop at once, and a vehicle that
it flew is told to hold.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from wasmbed.bridges.mavlink import Actions, Cause, Grant, Guard
from wasmbed.hostcalls import Ended
from wasmbed.runtime.abi import EventType, OwnerLoss

if TYPE_CHECKING:
    import asyncio

    from wasmbed.bridges.mavlink import Fleet, Refusal, Vehicle
    from wasmbed.bridges.mavlink.offboard import Setpoint
    from wasmbed.gateway.flight import Flight
    from wasmbed.gateway.flight_model import Ids

_log = logging.getLogger(__name__)

OWN_END = "its owner ended it"
_ENDED = {
    Ended.STOPPED: "was stopped",
    Ended.TRAPPED: "failed",
    Ended.UPDATED: "was updated",
    Ended.LINK_LOST: "lost its runtime or the link to it",
}


class Holder(Protocol):
    """Who may own a vehicle: an instance of an application, or the vehicle's ROS 2 topics."""

    @property
    def name(self) -> str: ...
    @property
    def application(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def rights(self) -> frozenset[str]: ...
    def post(self, kind: EventType, source: int, data: bytes) -> None:
        """Be told of a lost ownership."""
        ...


@dataclass
class Owner:
    """An instance that owns a vehicle, the orders it has under way, and its last setpoint (time: the vehicle's clock).

    `began` says that it asked for offboard control at least once.
    """

    instance: Holder
    guard: Guard
    setpoint: Setpoint | None = None
    setpoint_at: float = -math.inf
    began: bool = False
    orders: set[asyncio.Future[Any]] = field(default_factory=set)

    @property
    def application(self) -> str:
        """Namespace and name of the application."""
        return self.instance.application


class Owners:
    """The ownerships of a gateway's vehicles."""

    def __init__(self, flight: Flight) -> None:
        self.fleet: Fleet | None = None
        self._flight = flight
        self._owners: dict[Ids, Owner] = {}
        # From whom a vehicle was taken: what they sent before they knew does not make them owners again.
        self._deposed: set[str] = set()
        # Who lost it with the link to it, and has to be told when there is one again.
        self._untold: set[str] = set()

    def __len__(self) -> int:
        """How many vehicles are owned."""
        return len(self._owners)

    def clear(self) -> None:
        """Forget all of them: the bridge has ended."""
        self._owners.clear()

    def welcome(self, instance: Holder) -> None:
        """The instance asks anew, so it may own again."""
        self._deposed.discard(instance.name)

    def opened(self, instance: Holder) -> None:
        """An instance begins, or there is a link to it again."""
        if instance.name in self._untold:
            self._untold.discard(instance.name)
            instance.post(EventType.OWNER, 0, bytes([OwnerLoss.LOST]))

    def own(self, instance: Holder, vehicle: Vehicle) -> Owner | None:
        """The instance as the vehicle's owner; None when another one is, or the vehicle was taken from this one."""
        ids = ids_of(vehicle)
        owner = self._owners.get(ids)
        if owner is None and instance.name not in self._deposed:
            # The runtime lets through only what has acquired: if this is news here, the agent began anew meanwhile.
            config = self._flight.config
            guard = Guard(instance.application, self.grants(instance), config.fence_of(ids[0]), config.rates)
            owner = self._owners[ids] = Owner(instance, guard)
            _log.info("autopilot owned application=%s device=%s system=%d", owner.application, instance.device, ids[0])
        return self.owner(instance, vehicle)

    def owner(self, instance: Holder, vehicle: Vehicle) -> Owner | None:
        """The instance as the vehicle's owner, None when it is not."""
        owner = self._owners.get(ids_of(vehicle))
        if owner is None or owner.instance.name != instance.name:
            return None
        # A right that was withdrawn ends now, not with the next start.
        owner.guard.allow(self.grants(instance))
        return owner

    def setpoint(self, owner: Owner, vehicle: Vehicle, setpoint: Setpoint) -> Refusal | None:
        """Judge an owner's setpoint and fly it; in offboard one that is refused for more than its rate ends it."""
        now = vehicle.now()
        refusal = owner.guard.setpoint(setpoint, vehicle.state, now)
        if refusal is not None:
            if self.flies(owner, ids_of(vehicle)) and refusal.cause is not Cause.RATE:
                why = f"a setpoint of {owner.application} was refused: {refusal}"
                self.depose(ids_of(vehicle), why, OwnerLoss.GUARD)
            return refusal
        owner.setpoint, owner.setpoint_at = setpoint, now
        if vehicle.offboard is not None:
            Actions(vehicle).renew(setpoint)
        return None

    def grants(self, instance: Holder) -> frozenset[Grant]:
        """What the instance may do now."""
        claim = self._flight.claim(instance.application, instance.device)
        rights = claim.rights if claim is not None else {right.removeprefix("px4-") for right in instance.rights}
        return frozenset({Grant.TELEMETRY, *(Grant(right) for right in rights if right in set(Grant))})

    def release(self, instance: Holder, vehicle: Vehicle) -> None:
        """Its owner gives a vehicle back."""
        owner = self._owners.get(ids_of(vehicle))
        if owner is not None and owner.instance.name == instance.name:
            self.depose(ids_of(vehicle), f"its owner {owner.application} released it", None)

    def close(self, instance: Holder, why: Ended) -> None:
        """An instance ends, or the link to it; what runs on under its name has to acquire again."""
        lives = why in (Ended.TRAPPED, Ended.LINK_LOST)
        for ids, owner in list(self._owners.items()):
            if owner.instance.name != instance.name:
                continue
            words = f"its owner {owner.application} {_ENDED[why]}"
            flew = self.flies(owner, ids)
            self.depose(ids, words, OwnerLoss.UPDATED if why is Ended.UPDATED else None)
            if lives:
                self._deposed.add(instance.name)
            if why is Ended.LINK_LOST:
                self._untold.add(instance.name)
            # One that is taken away for good leaves no orders behind, like a mission, that nobody answers for.
            if why is Ended.STOPPED and not flew and self.fleet is not None and self.fleet.vehicle(*ids).state.in_air:
                self._flight.hold(ids, f"{words} in flight", owner.application)
        if not lives:
            self._deposed.discard(instance.name)
            self._untold.discard(instance.name)

    def depose(self, ids: Ids, why: str, loss: OwnerLoss | None, *, hold: bool = True) -> None:
        """End an ownership: setpoints and orders stop now, Hold follows when the owner flew; `loss` is told to it."""
        owner = self._owners.pop(ids, None)
        if owner is None:
            return
        _log.info("autopilot free application=%s system=%d reason=%r", owner.application, ids[0], why)
        flew = self.flies(owner, ids)
        for order in owner.orders:
            order.cancel()
        vehicle = self.fleet.vehicle(*ids) if self.fleet is not None else None
        if vehicle is not None and vehicle.offboard is not None:
            vehicle.offboard.end(why)
            vehicle.wake()
        if loss is not None:
            self._deposed.add(owner.instance.name)
            owner.instance.post(EventType.OWNER, 0, bytes([loss]))
        if hold and flew:
            self._flight.hold(ids, why, owner.application)

    def flies(self, owner: Owner, ids: Ids) -> bool:
        """Whether the vehicle is under the owner's offboard control, or still in the mode after it."""
        vehicle = self.fleet.vehicle(*ids) if self.fleet is not None else None
        return (
            vehicle is not None and owner.began and (vehicle.offboard is not None or vehicle.state.mode == "offboard")
        )

    # What flight safety says

    def suspend(self, ids: Ids, why: str) -> None:
        """Take a vehicle from its owner because of the kill switch; Hold is the caller's."""
        self.depose(ids, why, OwnerLoss.SUSPENDED, hold=False)

    def vehicle_lost(self, ids: Ids) -> None:
        """The vehicle is not heard any more: nobody can fly what nobody sees."""
        self.depose(ids, "the vehicle is not heard any more", OwnerLoss.LOST)

    def offboard_ended(self, vehicle: Vehicle, why: str) -> None:
        """Offboard control ended by itself: a pilot took over, or the setpoints were not renewed."""
        owner = self._owners.get(ids_of(vehicle))
        if owner is not None and owner.began and why != OWN_END and vehicle.state.mode == "offboard":
            self._flight.hold(ids_of(vehicle), f"its owner {owner.application}: {why}", owner.application)


def ids_of(vehicle: Vehicle) -> Ids:
    """System and component of a vehicle."""
    return vehicle.ids.system, vehicle.ids.component
