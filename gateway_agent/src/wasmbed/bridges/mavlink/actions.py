"""What a vehicle is told to do, with what must hold before and what happened in words.

An action is refused here when its precondition does not hold, so nothing is sent. It has worked when the vehicle shows
it: an acknowledgement that got lost is no failure, and one without the effect is no success.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.bridges.mavlink.commands import Command, Outcome
from wasmbed.bridges.mavlink.ground import distance
from wasmbed.bridges.mavlink.mission_items import PlanType
from wasmbed.bridges.mavlink.modes import AUTOPILOT_ARDUPILOT, AUTOPILOT_PX4, mode_command
from wasmbed.bridges.mavlink.offboard import PRIMING_S, PROOF_OF_LIFE_S, Offboard, Phase, Setpoint
from wasmbed.bridges.mavlink.vehicle import Vehicle
from wasmbed.bridges.mavlink.vehicle_state import Landed, VehicleState

if TYPE_CHECKING:
    from wasmbed.bridges.mavlink.events import StatusText

SHOWN_WITHIN_S = 4.0
_ARM_DISARM = 400
_FORCE = 21196.0
_SET_MODE = 176
_TAKEOFF = 22
_LAND = 21
_RETURN = 20
_REPOSITION = 192
_MISSION_START = 300
_REBOOT = 246
_TERMINATE = 185
_GLOBAL = 0
_THERE_M = 2.0


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Whether an action worked, and why not."""

    action: str
    ok: bool
    reason: str = ""

    def __str__(self) -> str:
        if self.ok:
            return f"{self.action}: done{f' ({self.reason})' if self.reason else ''}"
        return f"{self.action}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What `take_off` and `goto` accept: heights above home and the distance from where the vehicle is, in metres."""

    min_height_m: float = 1.0
    max_height_m: float = 120.0
    max_distance_m: float = 5000.0


class Actions:
    """The actions of one vehicle."""

    def __init__(self, vehicle: Vehicle, limits: Limits | None = None) -> None:
        self.vehicle = vehicle
        self.limits = limits or Limits()

    async def arm(self) -> ActionResult:
        """Arm. The vehicle makes its own checks; its words are in the reason."""
        return await self._do("arm", lambda s: s.armed, Command(_ARM_DISARM, (1.0,)))

    async def disarm(self, *, force: bool = False) -> ActionResult:
        """Disarm; refused in flight unless forced, because the vehicle falls."""
        state = self.vehicle.state
        if state.armed and state.in_air and not force:
            return ActionResult("disarm", False, "the vehicle is in the air (or does not say that it is on the ground)")
        command = Command(_ARM_DISARM, (0.0, _FORCE if force else 0.0))
        return await self._do("disarm", lambda s: not s.armed, command)

    async def take_off(self, height_m: float) -> ActionResult:
        """Take off to a height above home; the vehicle must be armed and know where it is."""
        action, state = f"take off to {height_m:g} m", self.vehicle.state
        reason = self._height(height_m) or _needs_position(state)
        if reason is None and not state.armed:
            reason = "the vehicle is not armed; arm it first"
        if reason is None and state.landed in (Landed.IN_AIR, Landed.LANDING):
            reason = f"the vehicle is {state.landed}"
        if reason is not None or state.position is None:
            return ActionResult(action, False, reason or "no position")
        if state.autopilot == AUTOPILOT_ARDUPILOT:
            entered = await self.set_mode("offboard")
            if not entered.ok:
                return ActionResult(action, False, entered.reason)
            altitude = height_m
        else:
            # PX4 takes the altitude above sea level.
            altitude = state.position.altitude_m - state.position.height_m + height_m
        command = Command(_TAKEOFF, (math.nan, 0.0, 0.0, math.nan, math.nan, math.nan, altitude))
        if state.autopilot == AUTOPILOT_ARDUPILOT:
            command = Command(_TAKEOFF, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, altitude))
        return await self._do(action, lambda s: s.landed in (Landed.TAKING_OFF, Landed.IN_AIR), command)

    async def land(self) -> ActionResult:
        """Land where the vehicle is."""
        state = self.vehicle.state
        if state.landed is Landed.ON_GROUND:
            return ActionResult("land", True, "the vehicle is on the ground")
        if state.autopilot == AUTOPILOT_ARDUPILOT:
            return await self._mode("land", "land")
        command = Command(_LAND, (0.0, 0.0, 0.0, math.nan, math.nan, math.nan, math.nan))
        return await self._do(
            "land", lambda s: s.mode == "land" or s.landed in (Landed.LANDING, Landed.ON_GROUND), command
        )

    async def return_home(self) -> ActionResult:
        """Fly home and land there."""
        reason = _needs_flight(self.vehicle.state) or _needs_position(self.vehicle.state)
        if reason is not None:
            return ActionResult("return", False, reason)
        return await self._do("return", lambda s: s.mode in ("return", "auto_return", "smart_return"), Command(_RETURN))

    async def hold(self) -> ActionResult:
        """Stay in place."""
        reason = _needs_flight(self.vehicle.state)
        return ActionResult("hold", False, reason) if reason else await self._mode("hold", "hold")

    async def set_mode(self, name: str) -> ActionResult:
        """Change the flight mode, by its name in `modes`."""
        return await self._mode(f"mode {name}", name)

    async def goto(
        self, latitude: float, longitude: float, height_m: float, *, yaw_deg: float = math.nan
    ) -> ActionResult:
        """Fly to a place at a height above home and stay there."""
        state = self.vehicle.state
        action = f"go to {latitude:.6f}, {longitude:.6f} at {height_m:g} m"
        reason = self._height(height_m) or _needs_flight(state) or _needs_position(state)
        if reason is None and state.position is not None:
            distance_m = distance(state.position.latitude, state.position.longitude, latitude, longitude)
            if not distance_m <= self.limits.max_distance_m:
                reason = f"{distance_m:.0f} m away is more than the allowed {self.limits.max_distance_m:g} m"
        if reason is not None or state.position is None:
            return ActionResult(action, False, reason or "no position")
        altitude = state.position.altitude_m - state.position.height_m + height_m
        params = (-1.0, 1.0, 0.0, math.radians(yaw_deg), latitude, longitude, altitude)
        # In a mode of its own: PX4 repositions in hold, ArduPilot in guided. It may be in it already, so the mode is no
        # evidence of an order that nobody acknowledged; being there is.
        return await self._do(
            action,
            lambda s: s.mode in ("hold", "offboard"),
            Command(_REPOSITION, params, frame=_GLOBAL),
            unconfirmed=lambda s: _is_at(s, latitude, longitude, height_m),
        )

    async def start_mission(self) -> ActionResult:
        """Fly the mission that is on the vehicle."""
        state = self.vehicle.state
        if not state.armed:
            return ActionResult("start mission", False, "the vehicle is not armed; arm it first")
        found = await self.vehicle.download(PlanType.MISSION)
        if not found.ok:
            return ActionResult("start mission", False, str(found))
        if not found.items:
            return ActionResult("start mission", False, "the vehicle has no mission; upload one first")
        if state.autopilot == AUTOPILOT_PX4:
            return await self._mode("start mission", "mission")
        return await self._do("start mission", lambda s: s.mode == "mission", Command(_MISSION_START))

    async def reboot(self) -> ActionResult:
        """Reboot the autopilot; refused unless it is disarmed and on the ground. Sent once."""
        state = self.vehicle.state
        if state.armed or state.in_air:
            return ActionResult("reboot", False, "the vehicle is armed or in the air")
        result = await self.vehicle.command(Command(_REBOOT, (1.0,)))
        return ActionResult("reboot", result.ok, "" if result.ok else str(result))

    async def terminate(self) -> ActionResult:
        """End the flight at once: motors off or parachute, as the vehicle is set up. It cannot be taken back."""
        result = await self.vehicle.command(Command(_TERMINATE, (1.0,)))
        return ActionResult("terminate", result.ok, "" if result.ok else str(result))

    async def fly_offboard(self, setpoint: Setpoint, *, at_once: bool = False, unarmed: bool = False) -> ActionResult:
        """Begin offboard control with a first setpoint; from then on `renew` keeps it alive.

        `at_once`: new setpoints do not wait for their turn. `unarmed`: the mode may be entered before arming.
        """
        state = self.vehicle.state
        armed = unarmed or state.armed
        reason = _not_connected(state) or (None if armed else "the vehicle is not armed; arm it first")
        if reason is not None:
            return ActionResult("offboard", False, reason)
        if self.vehicle.offboard is not None:
            return ActionResult("offboard", False, "offboard control is under way; renew its setpoint")
        control = self.vehicle.offboard = Offboard(self.vehicle.ids, at_once=at_once)
        control.renew(setpoint, self.vehicle.now())
        self.vehicle.wake()
        # Entering is one call, so its first setpoint need not be renewed by the caller while it lasts.
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep_alive(control, setpoint))
            try:
                await self.vehicle.until(lambda _: control.phase is not Phase.PRIMING, PRIMING_S + 1.0)
                result = await self._mode("offboard", "offboard")
            finally:
                keeping.cancel()
        if not result.ok or control.phase is Phase.ENDED:
            control.end(control.reason or "the mode was not entered")
            self.vehicle.wake()
            return ActionResult("offboard", False, result.reason or control.reason)
        return result

    async def _keep_alive(self, control: Offboard, setpoint: Setpoint) -> None:
        while control.phase is not Phase.ENDED:
            control.renew(control.setpoint or setpoint, self.vehicle.now())
            await asyncio.sleep(PROOF_OF_LIFE_S / 4)

    def renew(self, setpoint: Setpoint) -> bool:
        """The setpoint from now on; False when there is no offboard control any more."""
        control = self.vehicle.offboard
        if control is None or control.phase is Phase.ENDED:
            return False
        control.renew(setpoint, self.vehicle.now())
        self.vehicle.wake()
        return True

    async def _mode(self, action: str, name: str) -> ActionResult:
        state = self.vehicle.state
        reason = _not_connected(state)
        if reason is not None:
            return ActionResult(action, False, reason)
        try:
            mode = mode_command(state.autopilot, state.type, name)
        except ValueError as error:
            return ActionResult(action, False, str(error))
        command = Command(_SET_MODE, (float(mode.base), float(mode.custom), float(mode.sub)))
        return await self._do(action, lambda s: s.mode == name, command)

    async def _do(
        self,
        action: str,
        shown: Callable[[VehicleState], bool],
        command: Command,
        *,
        unconfirmed: Callable[[VehicleState], bool] | None = None,
    ) -> ActionResult:
        """Order it; it worked when `shown` holds. `unconfirmed`: what must hold instead when nobody acknowledged it."""
        reason = _not_connected(self.vehicle.state)
        if reason is not None:
            return ActionResult(action, False, reason)
        said: list[StatusText] = []
        self.vehicle.on_text.append(said.append)
        try:
            result = await self.vehicle.command(command)
        finally:
            self.vehicle.on_text.remove(said.append)
        if result.outcome not in (Outcome.ACCEPTED, Outcome.UNCONFIRMED):
            words = [text.text for text in said if text.severity in _SERIOUS]
            return ActionResult(action, False, "; ".join([str(result), *words]))
        if not result.ok and unconfirmed is not None:
            shown = unconfirmed
        if await self.vehicle.until(shown, SHOWN_WITHIN_S):
            return ActionResult(action, True, "" if result.ok else "not acknowledged, but the vehicle shows it")
        return ActionResult(action, False, f"{result}, but the vehicle does not show it" if result.ok else str(result))

    def _height(self, height_m: float) -> str | None:
        if not self.limits.min_height_m <= height_m <= self.limits.max_height_m:
            return f"the height must be {self.limits.min_height_m:g} to {self.limits.max_height_m:g} m"
        return None


_SERIOUS = frozenset({"emergency", "alert", "critical", "error", "warning"})


def _not_connected(state: VehicleState) -> str | None:
    return None if state.connected else "the vehicle is not connected: no heartbeat comes; check its link"


def _needs_position(state: VehicleState) -> str | None:
    reason = _not_connected(state)
    if reason is None and not state.has_position:
        reason = "the vehicle does not know its position: wait for a 3-D fix"
    return reason


def _needs_flight(state: VehicleState) -> str | None:
    reason = _not_connected(state)
    if reason is None and not (state.armed and state.in_air):
        reason = "the vehicle is not in the air"
    return reason


def _is_at(state: VehicleState, latitude: float, longitude: float, height_m: float) -> bool:
    here = state.position
    if here is None or not abs(here.height_m - height_m) <= _THERE_M:
        return False
    return distance(here.latitude, here.longitude, latitude, longitude) <= _THERE_M
