"""What is known of a vehicle from what it sends: connection, arming, mode, battery, position; and what changed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.modes import AUTOPILOT_INVALID, AUTOPILOT_PX4, SAFETY_ARMED, mode_name
from wasmbed.bridges.mavlink.operations import Ids

HEARTBEAT_S = 1.0
LOST_AFTER_S = 5.0
# What a look at the time counts at most: a gateway that stood still has what came meanwhile still before it.
_LOOK_S = 1.5 * HEARTBEAT_S
_FIX_3D = 3
# MAV_BATTERY_CHARGE_STATE: low, critical, emergency, failed, unhealthy.
_BATTERY_WARNINGS = frozenset({2, 3, 4, 5, 6})


class Landed(StrEnum):
    """MAV_LANDED_STATE."""

    UNKNOWN = "unknown"
    ON_GROUND = "on ground"
    IN_AIR = "in air"
    TAKING_OFF = "taking off"
    LANDING = "landing"


_LANDED = tuple(Landed)


class Change(StrEnum):
    """What changed; each comes once a transition."""

    CONNECTED = "connected"
    LOST = "lost"
    REBOOTED = "rebooted"
    ARMED = "armed"
    DISARMED = "disarmed"
    MODE = "mode"
    LANDED = "landed"
    FIX = "fix"
    BATTERY_WARNING = "battery warning"


@dataclass(frozen=True, slots=True)
class Position:
    """Degrees, metres above sea level and above home, and metres a second north, east, down."""

    latitude: float
    longitude: float
    altitude_m: float
    height_m: float
    north_m_s: float = 0.0
    east_m_s: float = 0.0
    down_m_s: float = 0.0


@dataclass(frozen=True, slots=True)
class VehicleState:
    """A vehicle as it last showed itself. None and NaN: not known."""

    connected: bool = False
    autopilot: int = AUTOPILOT_INVALID
    type: int = 0
    armed: bool = False
    custom_mode: int = 0
    mode: str = ""
    system_status: int = 0
    landed: Landed = Landed.UNKNOWN
    battery_percent: int | None = None
    battery_v: float = math.nan
    battery_charge: int = 0
    fix: int = 0
    satellites: int | None = None
    position: Position | None = None
    position_at: float = math.inf
    """When the position came, in the monitor's own time; infinite: now."""
    home: Position | None = None
    origin: Position | None = None
    """Where the local frame's zero is."""
    capabilities: int | None = None

    @property
    def has_position(self) -> bool:
        """Whether it knows where it is: a 3-D fix and a position."""
        return self.fix >= _FIX_3D and self.position is not None

    @property
    def in_air(self) -> bool:
        """Whether it flies or may fly: an armed vehicle that does not say that it is on the ground."""
        if self.landed is Landed.ON_GROUND:
            return False
        return self.armed or self.landed is not Landed.UNKNOWN


class VehicleMonitor:
    """Follows one vehicle. Its heartbeat is that of the target component with a real autopilot."""

    def __init__(self, ids: Ids) -> None:
        self.state = VehicleState()
        self.last_heartbeat: float | None = None
        self._quiet_s = self._looked = 0.0
        self._ids = ids
        self._boot_ms: int | None = None

    def receive(self, item: Message, now: float) -> list[Change]:
        """Take a message; what it changed."""
        if not self._ids.sent_by_target(item):
            return []
        if item.name == "HEARTBEAT":
            return self._heartbeat(item, now)
        if item.name == "GLOBAL_POSITION_INT":
            self.state = replace(self.state, position_at=now)
        handler = self._HANDLERS.get(item.name)
        return handler(self, item) if handler is not None else []

    def advance(self, now: float) -> list[Change]:
        """Take note of the time, about once a second: a vehicle whose heartbeat stays away is lost."""
        self._quiet_s += min(now - self._looked, _LOOK_S)
        self._looked = now
        if self.state.connected and self._quiet_s >= LOST_AFTER_S:
            self.state = replace(self.state, connected=False)
            return [Change.LOST]
        return []

    def _heartbeat(self, item: Message, now: float) -> list[Change]:
        if item["autopilot"] == AUTOPILOT_INVALID:
            return []
        self.last_heartbeat = self._looked = now
        self._quiet_s = 0.0
        before = self.state
        # MAVSDK's servers, among others, say "generic" and mean PX4's modes and parameter encoding.
        autopilot = item["autopilot"] or AUTOPILOT_PX4
        armed = bool(item["base_mode"] & SAFETY_ARMED)
        self.state = replace(
            before,
            connected=True,
            autopilot=autopilot,
            type=item["type"],
            armed=armed,
            custom_mode=item["custom_mode"],
            mode=mode_name(autopilot, item["type"], item["custom_mode"]),
            system_status=item["system_status"],
        )
        changes = [] if before.connected else [Change.CONNECTED]
        if armed != before.armed:
            changes.append(Change.ARMED if armed else Change.DISARMED)
        if self.state.mode != before.mode:
            changes.append(Change.MODE)
        return changes

    def _system_time(self, item: Message) -> list[Change]:
        boot_ms = item["time_boot_ms"]
        rebooted = self._boot_ms is not None and boot_ms + 3000 < self._boot_ms
        self._boot_ms = boot_ms
        if not rebooted:
            return []
        # What was known belongs to the time before.
        self.state = replace(self.state, home=None, origin=None, position=None, fix=0, landed=Landed.UNKNOWN)
        return [Change.REBOOTED]

    def _sys_status(self, item: Message) -> list[Change]:
        remaining, millivolts = item["battery_remaining"], item["voltage_battery"]
        self.state = replace(
            self.state,
            battery_percent=remaining if remaining >= 0 else None,
            battery_v=millivolts / 1000 if millivolts != 0xFFFF else math.nan,
        )
        return []

    def _battery(self, item: Message) -> list[Change]:
        if item["id"] != 0:
            return []
        before, charge = self.state.battery_charge, item["charge_state"]
        self.state = replace(self.state, battery_charge=charge)
        return [Change.BATTERY_WARNING] if charge != before and charge in _BATTERY_WARNINGS else []

    def _extended(self, item: Message) -> list[Change]:
        number = item["landed_state"]
        landed = _LANDED[number] if number < len(_LANDED) else Landed.UNKNOWN
        changed = landed is not self.state.landed
        self.state = replace(self.state, landed=landed)
        return [Change.LANDED] if changed else []

    def _gps(self, item: Message) -> list[Change]:
        before, satellites = self.state.fix, item["satellites_visible"]
        self.state = replace(self.state, fix=item["fix_type"], satellites=satellites if satellites != 255 else None)
        return [Change.FIX] if (before >= _FIX_3D) != (self.state.fix >= _FIX_3D) else []

    def _global_position(self, item: Message) -> list[Change]:
        self.state = replace(self.state, position=_position(item))
        return []

    def _home(self, item: Message) -> list[Change]:
        place = Position(item["latitude"] / 1e7, item["longitude"] / 1e7, item["altitude"] / 1000, 0.0)
        self.state = replace(self.state, home=place)
        return []

    def _origin(self, item: Message) -> list[Change]:
        place = Position(item["latitude"] / 1e7, item["longitude"] / 1e7, item["altitude"] / 1000, 0.0)
        self.state = replace(self.state, origin=place)
        return []

    def _version(self, item: Message) -> list[Change]:
        self.state = replace(self.state, capabilities=item["capabilities"])
        return []

    _HANDLERS: ClassVar[dict[str, Callable[["VehicleMonitor", Message], list[Change]]]] = {
        "SYSTEM_TIME": _system_time,
        "SYS_STATUS": _sys_status,
        "BATTERY_STATUS": _battery,
        "EXTENDED_SYS_STATE": _extended,
        "GPS_RAW_INT": _gps,
        "GLOBAL_POSITION_INT": _global_position,
        "HOME_POSITION": _home,
        "GPS_GLOBAL_ORIGIN": _origin,
        "AUTOPILOT_VERSION": _version,
    }


MONITORED = frozenset({"HEARTBEAT", *VehicleMonitor._HANDLERS})


def _position(item: Message) -> Position:
    return Position(
        item["lat"] / 1e7,
        item["lon"] / 1e7,
        item["alt"] / 1000,
        item["relative_alt"] / 1000,
        item["vx"] / 100,
        item["vy"] / 100,
        item["vz"] / 100,
    )


def heartbeat(*, active: bool = True) -> Message:
    """The gateway's own heartbeat: an onboard controller without autopilot."""
    status = 4 if active else 3
    return Message(
        "HEARTBEAT", {"type": 18, "autopilot": AUTOPILOT_INVALID, "system_status": status, "mavlink_version": 3}
    )
