"""Who flies a vehicle by its ROS 2 topics: an owner like an application, under the same guard, geofence and rates.

A command takes the vehicle when nobody owns it; setpoints alone never do. It is free again when nothing was ordered for
`IDLE_S` and no offboard control is under way.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.mavlink import Actions, Cause, Grant, Outcome
from wasmbed.bridges.mavlink.modes import AUTOPILOT_ARDUPILOT
from wasmbed.bridges.mavlink.offboard import PROOF_OF_LIFE_S, check_setpoint
from wasmbed.bridges.mavlink.px4.bridge import DENIED
from wasmbed.gateway.px4_owners import ids_of
from wasmbed.runtime.abi import OwnerLoss

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from typing import Any

    from wasmbed.bridges.mavlink import Command, Message, Vehicle
    from wasmbed.bridges.mavlink.offboard import Setpoint
    from wasmbed.bridges.mavlink.px4.bridge import Done
    from wasmbed.gateway.flight import Flight
    from wasmbed.gateway.px4_owners import Owner, Owners
    from wasmbed.runtime.abi import EventType

_log = logging.getLogger(__name__)

IDLE_S: Final = 10.0
# What is not even judged, and not logged, beyond so many commands a second.
FLOOD_HZ: Final = 100
_MAX_ORDERS: Final = 16
_ACCEPTED, _REJECTED, _FAILED = 0, 1, 4
_SET_MODE, _PX4_OFFBOARD = 176, 6


class TopicPilot:
    """The orders of one vehicle's topics, and their ownership. It is made and used on the agent's loop."""

    def __init__(
        self,
        namespace: str,
        device: str,
        rights: frozenset[str],
        vehicle: Vehicle,
        flight: Flight,
        owners: Owners,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.name = self.application = f"ros2:/{namespace}"
        self.device = device
        self.rights = rights
        self._vehicle = vehicle
        self._flight = flight
        self._owners = owners
        self._tasks = tasks
        self._ordered = -math.inf
        self.last_setpoint: Setpoint | None = None
        self._setpoint_at = -math.inf
        self._second = self._in_second = 0
        self._said = ("", -math.inf)

    def post(self, kind: EventType, source: int, data: bytes) -> None:
        """The ownership is lost; the next command asks for it anew."""
        _log.warning("px4 topics lost the vehicle topics=%s reason=%s", self.name, OwnerLoss(data[0]).name.lower())

    def look(self) -> None:
        """Give the vehicle back when nothing is ordered any more."""
        owner = self._owners.owner(self, self._vehicle)
        idle = self._vehicle.now() - self._ordered > IDLE_S
        if owner is not None and idle and not owner.orders and self._vehicle.offboard is None:
            self._owners.release(self, self._vehicle)

    def close(self) -> None:
        """There are no topics any more; a vehicle that they fly is told to hold."""
        self._owners.release(self, self._vehicle)

    def command(self, command: Command, source: str, done: Done) -> None:
        """Carry out a command; see `Orders`."""
        now = self._vehicle.now()
        if self._flooded(now):
            done(_REJECTED)
            return
        _log.info("px4 topic command topics=%s source=%s command=%s", self.name, source, command.name)
        if not self._flight.available(self.device):
            self._refuse("the vehicle is not heard, or its device is suspended", done)
            return
        # An order is a new claim; what a stream of setpoints sends on after a loss is none.
        self._owners.welcome(self)
        owner = self._owners.own(self, self._vehicle)
        if owner is None:
            self._refuse("an application owns the vehicle", done)
        elif len(owner.orders) >= _MAX_ORDERS:
            self._refuse(f"{_MAX_ORDERS} commands are under way", done)
        elif self._is_offboard(command):
            self._ordered = now
            self._offboard(owner, done)
        else:
            self._ordered = now
            refusal = owner.guard.command(command, self._vehicle.state, now)
            if refusal is None:
                self._order(owner, self._run(owner, command, done))
            else:
                done(_REJECTED if refusal.cause is Cause.RATE else DENIED)

    def setpoint(self, setpoint: Setpoint) -> bool:
        """Take a setpoint; see `Orders`."""
        try:
            check_setpoint(setpoint)
        except ValueError as error:
            self._refuse(f"setpoint: {error}")
            return False
        self.last_setpoint, self._setpoint_at = setpoint, self._vehicle.now()
        owner = self._owners.owner(self, self._vehicle)
        if owner is None:
            # Kept for the command that begins offboard control.
            return True
        self._ordered = self._setpoint_at
        return self._owners.setpoint(owner, self._vehicle, setpoint) is None

    def other(self, item: Message) -> bool:
        """Send MANUAL_CONTROL, for the owner and without a geofence alone, or ODOMETRY."""
        if not self._flight.available(self.device) or "dangerous" not in self.rights:
            return False
        if item.name == "MANUAL_CONTROL":
            if self._owners.owner(self, self._vehicle) is None:
                self._refuse("manual control is for the owner; send a command first")
                return False
            if self._flight.config.fence_of(self._vehicle.ids.system) is not None:
                self._refuse("manual control cannot be held inside of a geofence")
                return False
            self._ordered = self._vehicle.now()
        self._vehicle.send(item)
        return True

    def _offboard(self, owner: Owner, done: Done) -> None:
        vehicle, setpoint = self._vehicle, self.last_setpoint
        if Grant.OFFBOARD not in self._owners.grants(self):
            self._refuse("setpoints are not accepted; name one in mavlink.topics.accept", done, DENIED)
        elif vehicle.offboard is not None:
            done(_ACCEPTED if vehicle.state.mode == "offboard" else _REJECTED)
        elif setpoint is None or vehicle.now() - self._setpoint_at > PROOF_OF_LIFE_S:
            self._refuse("offboard needs OffboardControlMode and a setpoint younger than half a second", done)
        elif self._owners.setpoint(owner, vehicle, setpoint) is not None:
            done(DENIED)
        else:
            owner.began = True
            self._order(owner, self._begin(owner, setpoint, done))

    async def _begin(self, owner: Owner, setpoint: Setpoint, done: Done) -> None:
        answer: int | None = None
        try:
            # PX4's own examples ask for the mode before they arm.
            result = await Actions(self._vehicle).fly_offboard(setpoint, at_once=True, unarmed=True)
            self._done(owner, str(result))
            answer = _ACCEPTED if result.ok else _FAILED
        finally:
            done(answer)

    async def _run(self, owner: Owner, command: Command, done: Done) -> None:
        answer: tuple[int | None, int] = (None, 0)
        try:
            result = await self._vehicle.command(command)
            self._done(owner, str(result))
            if result.outcome is not Outcome.UNCONFIRMED:
                answer = (result.mav_result, result.detail)
        finally:
            done(*answer)

    def _order(self, owner: Owner, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        owner.orders.add(task)
        task.add_done_callback(owner.orders.discard)

    def _is_offboard(self, command: Command) -> bool:
        mode = command.all_params[1]
        px4 = self._vehicle.state.autopilot != AUTOPILOT_ARDUPILOT
        return command.number == _SET_MODE and px4 and math.isfinite(mode) and int(mode) == _PX4_OFFBOARD

    def _flooded(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        return self._in_second > FLOOD_HZ

    def _refuse(self, why: str, done: Done | None = None, result: int = _REJECTED) -> None:
        now = self._vehicle.now()
        if why != self._said[0] or now - self._said[1] >= 1.0:
            self._said = (why, now)
            _log.warning("px4 topic refused topics=%s system=%d reason=%r", self.name, ids_of(self._vehicle)[0], why)
        if done is not None:
            done(result)

    def _done(self, owner: Owner, what: str) -> None:
        _log.info("order done application=%s device=%s %s", owner.application, self.device, what)
