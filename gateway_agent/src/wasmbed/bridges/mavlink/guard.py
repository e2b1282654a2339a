"""What an application may do with its vehicle: grants, a geofence, rates; every order is logged with its name.

The guard stands in the gateway, before anything is sent. It gives a reason, or None when an order may pass.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from wasmbed.bridges.mavlink.actions import distance
from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.mission_items import PlanItem
from wasmbed.bridges.mavlink.offboard import LOCAL_NED, AttitudeSetpoint, GlobalSetpoint, LocalSetpoint, Setpoint
from wasmbed.bridges.mavlink.order_kinds import QUESTIONS, SET_PARAMETER, dangerous, dangerous_item, invalid, numbers
from wasmbed.bridges.mavlink.vehicle_state import Position, VehicleState

_log = logging.getLogger(__name__)

METRES_A_DEGREE = 111_194.9
LOOK_AHEAD_S = 3.0
_GLOBAL_FRAMES = frozenset({0, 3, 5, 6, 10, 11})
_RELATIVE_FRAMES = frozenset({3, 6})


class Cause(StrEnum):
    """What an order was refused for."""

    GRANT = "grant"
    FENCE = "fence"
    RATE = "rate"
    INVALID = "invalid"


class Refusal(str):
    """Why an order may not pass, in words, with its cause."""

    cause: Cause

    def __new__(cls, text: str, cause: Cause) -> "Refusal":
        """Make one."""
        made = super().__new__(cls, text)
        made.cause = cause
        return made


class Grant(StrEnum):
    """What an application is given, each by itself; nothing is given by default."""

    TELEMETRY = "telemetry"
    COMMAND = "command"
    OFFBOARD = "offboard"
    MISSION = "mission"
    PARAMETERS = "parameters"
    DANGEROUS = "dangerous"


_NO_AXES = (None, None, None)
_PLACES = numbers("NAV_TAKEOFF NAV_VTOL_TAKEOFF NAV_LAND NAV_VTOL_LAND DO_REPOSITION DO_ORBIT NAV_LOITER_UNLIM")


@dataclass(frozen=True, slots=True)
class Geofence:
    """A polygon (latitude, longitude) or a circle, and heights above home in metres."""

    polygon: tuple[tuple[float, float], ...] = ()
    centre: tuple[float, float] | None = None
    radius_m: float = 0.0
    max_height_m: float = 120.0
    min_height_m: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.polygon) == (self.centre is not None):
            raise ValueError("a geofence is a polygon or a circle (centre and radius_m)")
        if self.polygon and len(self.polygon) < 3:
            raise ValueError("a polygon has three corners at least")
        if self.centre is not None and not self.radius_m > 0:
            raise ValueError("radius_m must be above 0")

    def refuses(self, latitude: float, longitude: float, height_m: float | None) -> str | None:
        """Why a place is not allowed; None when it is. A place that is no number is not."""
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            return "the place is not on Earth"
        if not self._contains(latitude, longitude):
            return f"{latitude:.6f}, {longitude:.6f} is outside of the geofence"
        if height_m is not None and not self.min_height_m <= height_m <= self.max_height_m:
            return f"{height_m:.1f} m is not between {self.min_height_m:g} and {self.max_height_m:g} m above home"
        return None

    def _contains(self, latitude: float, longitude: float) -> bool:
        if self.centre is not None:
            return distance(latitude, longitude, *self.centre) <= self.radius_m
        inside = False
        for number, (lat1, lon1) in enumerate(self.polygon):
            lat2, lon2 = self.polygon[number - 1]
            # Count the edges that a ray to the east crosses.
            if (lat1 > latitude) != (lat2 > latitude):
                crossing = lon1 + (latitude - lat1) / (lat2 - lat1) * (lon2 - lon1)
                inside ^= longitude < crossing
        return inside


@dataclass(frozen=True, slots=True)
class Rates:
    """Most orders of a kind a second, with a burst of one second."""

    commands_hz: float = 5.0
    setpoints_hz: float = 100.0
    writes_hz: float = 2.0


class Guard:
    """The limits of one application on one vehicle."""

    def __init__(
        self,
        application: str,
        grants: frozenset[Grant],
        fence: Geofence | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._application = application
        self._grants = grants
        self._fence = fence
        rates = rates or Rates()
        self._limits = {"command": rates.commands_hz, "setpoint": rates.setpoints_hz, "write": rates.writes_hz}
        self._levels = dict(self._limits)
        self._at = dict.fromkeys(self._limits, -math.inf)
        # What the last setpoint came to: that it may pass, or the cause it was refused for.
        self._setpoints: Cause | bool = False

    def allow(self, grants: frozenset[Grant]) -> None:
        """Replace the grants; what holds from now on."""
        self._grants = grants

    def command(self, command: Command, state: VehicleState, now: float) -> Refusal | None:
        """Whether a command may be sent."""
        reason = self._granted(Grant.TELEMETRY if command.number in QUESTIONS else Grant.COMMAND)
        if command.number == SET_PARAMETER:
            reason = reason or self._granted(Grant.PARAMETERS)
        if reason is None and (why := invalid(command, state)) is not None:
            reason = Refusal(why, Cause.INVALID)
        if reason is None and dangerous(command, state):
            reason = self._granted(Grant.DANGEROUS)
        reason = reason or _fenced(self._place(command, state)) or self._rate("command", now)
        return self._answer(f"{command.name} {command.params}", reason)

    def setpoint(self, setpoint: Setpoint, state: VehicleState, now: float) -> Refusal | None:
        """Whether a setpoint may be sent. The first one and the first refusal are logged, not the stream."""
        reason = self._granted(Grant.OFFBOARD) or _fenced(self._reach(setpoint, state)) or self._rate("setpoint", now)
        verdict = reason.cause if reason is not None else True
        if verdict != self._setpoints:
            self._setpoints = verdict
            self._answer(f"setpoint {setpoint}", reason)
        return reason

    def write(self, name: str, value: float, now: float) -> Refusal | None:
        """Whether a parameter may be written."""
        return self._answer(f"parameter {name} = {value}", self._granted(Grant.PARAMETERS) or self._rate("write", now))

    def plan(self, items: Iterable[PlanItem], state: VehicleState, now: float) -> Refusal | None:
        """Whether a plan may be uploaded: each of its places must be inside of the fence."""
        items = list(items)
        reason = self._granted(Grant.MISSION) or self._rate("write", now)
        if any(dangerous_item(item) for item in items):
            reason = reason or self._granted(Grant.DANGEROUS)
        if reason is None and self._fence is not None:
            reason = _fenced(
                next((f"item {n}: {why}" for n, item in enumerate(items) if (why := self._item(item, state))), None)
            )
        return self._answer(f"plan of {len(items)} items", reason)

    def _answer(self, what: str, reason: Refusal | None) -> Refusal | None:
        verdict = "refused" if reason else "passed"
        _log.info("application order application=%s order=%r %s reason=%r", self._application, what, verdict, reason)
        return reason

    def _granted(self, grant: Grant) -> Refusal | None:
        if grant in self._grants:
            return None
        return Refusal(f"the application has no grant {grant!r}; give it in its manifest", Cause.GRANT)

    def _rate(self, kind: str, now: float) -> Refusal | None:
        limit = self._limits[kind]
        self._levels[kind] = min(limit, self._levels[kind] + (now - self._at[kind]) * limit)
        self._at[kind] = now
        if self._levels[kind] < 1.0:
            return Refusal(f"more than {limit:g} {kind}s a second", Cause.RATE)
        self._levels[kind] -= 1.0
        return None

    def _place(self, command: Command, state: VehicleState) -> str | None:
        if self._fence is None or command.number not in _PLACES:
            return None
        _, _, _, _, latitude, longitude, altitude = command.all_params
        height = self._height(altitude, command.frame if command.frame is not None else 0, state)
        if math.isnan(latitude) or math.isnan(longitude) or (latitude == 0 and longitude == 0):
            # Where the vehicle is.
            if state.position is None:
                return "the vehicle's position is not known, and there is a geofence"
            latitude, longitude = state.position.latitude, state.position.longitude
        return self._fence.refuses(latitude, longitude, height)

    def _item(self, item: PlanItem, state: VehicleState) -> str | None:
        if self._fence is None or item.frame not in _GLOBAL_FRAMES or not (item.x or item.y):
            return None if item.frame in _GLOBAL_FRAMES or item.frame == 2 else "its frame cannot be fenced"
        latitude, longitude = item.place
        return self._fence.refuses(latitude, longitude, self._height(item.z, item.frame, state))

    def _height(self, altitude: float, frame: int, state: VehicleState) -> float | None:
        if math.isnan(altitude):
            return None
        if frame in _RELATIVE_FRAMES:
            return altitude
        base = state.home
        if base is None and state.position is not None:
            return altitude - (state.position.altitude_m - state.position.height_m)
        # Above sea level without a home: no height can be told, so none is allowed.
        return altitude - base.altitude_m if base is not None else math.nan

    def _reach(self, setpoint: Setpoint, state: VehicleState) -> str | None:
        fence = self._fence
        if fence is None:
            return None
        if isinstance(setpoint, GlobalSetpoint):
            return fence.refuses(setpoint.latitude, setpoint.longitude, setpoint.height_m)
        if isinstance(setpoint, AttitudeSetpoint):
            return "attitude setpoints cannot be held inside of a geofence"
        if state.position is None:
            return "the vehicle's position is not known, and there is a geofence"
        return self._local(fence, setpoint, state, state.position)

    def _local(self, fence: Geofence, setpoint: LocalSetpoint, state: VehicleState, here: Position) -> str | None:
        if setpoint.frame != LOCAL_NED:
            return "only setpoints in north, east, down can be held inside of a geofence"
        position, velocity = setpoint.position or _NO_AXES, setpoint.velocity or _NO_AXES
        origin = state.origin
        if origin is None and position != _NO_AXES:
            return "the origin of the local frame is not known; request GPS_GLOBAL_ORIGIN"
        # Each axis by its place; else by speed: where it leads to in a few seconds, by the setpoint or as it moves now.
        moves = (here.north_m_s, here.east_m_s, here.down_m_s)
        speeds = [given if given is not None else now for given, now in zip(velocity, moves, strict=True)]
        latitude, longitude = _moved(here, speeds[0] * LOOK_AHEAD_S, speeds[1] * LOOK_AHEAD_S)
        height = here.height_m - speeds[2] * LOOK_AHEAD_S
        if origin is not None:
            north, east, down = position
            placed = _moved(origin, north or 0.0, east or 0.0)
            latitude = placed[0] if north is not None else latitude
            longitude = placed[1] if east is not None else longitude
            height = origin.altitude_m - down - (here.altitude_m - here.height_m) if down is not None else height
        return fence.refuses(latitude, longitude, height)


def _fenced(reason: str | None) -> Refusal | None:
    return None if reason is None else Refusal(reason, Cause.FENCE)


def _moved(start: Position, north_m: float, east_m: float) -> tuple[float, float]:
    shrink = max(math.cos(math.radians(start.latitude)), 1e-6)
    return start.latitude + north_m / METRES_A_DEGREE, start.longitude + east_m / METRES_A_DEGREE / shrink
