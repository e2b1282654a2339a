"""Records of application ABI 1 (docs/abi.md) as the bridge's own types, and back. No input or output."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.mavlink import (
    AttitudeSetpoint,
    Command,
    GlobalSetpoint,
    LocalSetpoint,
    PlanItem,
)
from wasmbed.bridges.mavlink.mission_items import Frame
from wasmbed.bridges.mavlink.modes import AUTOPILOT_ARDUPILOT
from wasmbed.bridges.mavlink.offboard import check_setpoint
from wasmbed.bridges.mavlink.vehicle_state import Landed
from wasmbed.runtime import abi
from wasmbed.runtime.abi import FlightMode, SetpointKind, Telemetry

if TYPE_CHECKING:
    from struct import Struct

    from wasmbed.bridges.mavlink import Message, Vehicle, VehicleState
    from wasmbed.bridges.mavlink.offboard import Setpoint

NAN: Final = math.nan
SET_MODE: Final = 176
_TAKEOFF = 22
_PX4_OFFBOARD = 6
# Commands whose parameters 5 and 6 are a place.
_PLACES = frozenset({16, 17, 20, 21, 22, 34, 84, 85, 192, 195})
_RELATIVE = frozenset({3, 6})
_SEA_LEVEL = frozenset({0, 5})
_MODES = {
    "manual": FlightMode.MANUAL,
    "altitude": FlightMode.ALTITUDE,
    "altitude_cruise": FlightMode.ALTITUDE,
    "position": FlightMode.POSITION,
    "position_slow": FlightMode.POSITION,
    "takeoff": FlightMode.TAKEOFF,
    "vtol_takeoff": FlightMode.TAKEOFF,
    "hold": FlightMode.HOLD,
    "brake": FlightMode.HOLD,
    "mission": FlightMode.MISSION,
    "return": FlightMode.RETURN,
    "smart_return": FlightMode.RETURN,
    "auto_return": FlightMode.RETURN,
    "land": FlightMode.LAND,
    "precision_land": FlightMode.LAND,
    "offboard": FlightMode.OFFBOARD,
    "offboard_nogps": FlightMode.OFFBOARD,
    "acro": FlightMode.ACRO,
    "stabilized": FlightMode.STABILIZED,
}
_LANDED = {state: number for number, state in enumerate(Landed)}
# MAV_STATE: critical, emergency.
_FAILSAFE = frozenset({5, 6})


class RecordError(ValueError):
    """A record that says nothing a vehicle should get; the message says why."""


def command_of(data: bytes, state: VehicleState) -> Command:
    """`wb_px4_command` for a vehicle in a state.

    A height above home becomes one above sea level, because a COMMAND_LONG has no frame and autopilots differ in what
    frames they take. Raises RecordError.
    """
    number, frame, *rest = _unpack(abi.COMMAND, data, "command")
    one, two, three, four, x, y, z = (float(value) for value in rest)
    if any(map(math.isinf, (one, two, three, four, x, y, z))):
        raise RecordError("a command has no infinite parameters")
    if number == SET_MODE and state.autopilot != AUTOPILOT_ARDUPILOT and int(_finite(two)) == _PX4_OFFBOARD:
        raise RecordError("offboard control is begun by offboard(1)")
    if frame not in _RELATIVE | _SEA_LEVEL:
        raise RecordError(f"frame {frame} is not 0 (above sea level) or 3 (above home)")
    if number in _PLACES and frame in _RELATIVE and math.isfinite(z):
        z += _home_altitude(state)
    if number == _TAKEOFF and state.autopilot == AUTOPILOT_ARDUPILOT and math.isfinite(z):
        # ArduPilot's take-off is above home in every frame.
        z -= _home_altitude(state)
    placed = number in _PLACES and math.isfinite(x) and math.isfinite(y) and (x != 0 or y != 0)
    if placed and not (abs(x) <= 90 and abs(y) <= 180):
        raise RecordError(f"{x}, {y} is not a place on Earth")
    try:
        return Command(number, (one, two, three, four, x, y, z), frame=0 if placed else None)
    except (ValueError, OverflowError) as error:
        raise RecordError(str(error)) from error


def setpoint_of(data: bytes) -> Setpoint:
    """`wb_px4_setpoint`: lengths and speeds north, east, down; a global one has its height above home as -z.

    Raises RecordError.
    """
    setpoint = _setpoint(data)
    try:
        check_setpoint(setpoint)
    except ValueError as error:
        raise RecordError(str(error)) from error
    return setpoint


def _setpoint(data: bytes) -> Setpoint:
    kind, *values = _unpack(abi.SETPOINT, data, "setpoint")
    x, y, z, vx, vy, vz, yaw, yaw_rate, latitude, longitude = (float(value) for value in values)
    turn, turn_rate = _set(yaw), _set(yaw_rate)
    match kind:
        case SetpointKind.POSITION:
            velocity = (vx, vy, vz) if all(map(math.isfinite, (vx, vy, vz))) else None
            return LocalSetpoint(_vector(x, y, z, "position"), velocity, yaw=turn, yaw_rate=turn_rate)
        case SetpointKind.VELOCITY:
            return LocalSetpoint(velocity=_vector(vx, vy, vz, "velocity"), yaw=turn, yaw_rate=turn_rate)
        case SetpointKind.GLOBAL:
            return GlobalSetpoint(latitude, longitude, -z, turn)
        case SetpointKind.ATTITUDE:
            rotation = (x, y, z, vx)
            length = math.hypot(*rotation)
            if not 0.99 <= length <= 1.01:
                raise RecordError("the quaternion must have length 1")
            w, i, j, k = (part / length for part in rotation)
            return AttitudeSetpoint(vy, (w, i, j, k))
    raise RecordError(f"setpoint kind {kind} is not {', '.join(str(int(item)) for item in SetpointKind)}")


def plan_of(data: bytes, count: int) -> list[PlanItem]:
    """`count` of `wb_px4_waypoint`. Raises RecordError."""
    size = abi.WAYPOINT.size
    if not 0 <= count <= abi.WAYPOINTS or len(data) != count * size:
        raise RecordError(f"{len(data)} bytes are not {count} waypoints; there may be {abi.WAYPOINTS}")
    items = []
    for number, (command, frame, proceed, *rest) in enumerate(abi.WAYPOINT.iter_unpack(data)):
        one, two, three, four, latitude, longitude, altitude = (float(value) for value in rest)
        params: dict[str, Any] = {
            "param1": one,
            "param2": two,
            "param3": three,
            "param4": four,
            "autocontinue": bool(proceed),
        }
        try:
            if frame == Frame.MISSION:
                items.append(PlanItem(command, frame, x=int(_finite(latitude)), y=int(_finite(longitude)), **params))
            elif frame in (Frame.GLOBAL, Frame.GLOBAL_RELATIVE_ALT):
                if not math.isfinite(altitude):
                    raise RecordError("the altitude is no number")
                items.append(PlanItem.position(command, latitude, longitude, altitude, frame=frame, **params))
            else:
                raise RecordError(f"frame {frame} is not 0 (above sea level), 2 (no place) or 3 (above home)")
        except (ValueError, OverflowError) as error:
            raise RecordError(f"item {number}: {error}") from error
    return items


def status_record(vehicle: Vehicle, time_ns: int) -> bytes:
    """STATUS of a vehicle."""
    state = vehicle.state
    return abi.TELEMETRY[Telemetry.STATUS].pack(
        time_ns,
        state.armed,
        state.in_air,
        _MODES.get(state.mode, FlightMode.OTHER) if state.connected else FlightMode.UNKNOWN,
        state.mode == "offboard",
        state.system_status in _FAILSAFE,
        _LANDED[state.landed],
        vehicle.ids.system,
        state.custom_mode,
    )


def home_record(state: VehicleState, time_ns: int) -> bytes | None:
    """HOME, None while it is not known."""
    home = state.home
    if home is None:
        return None
    return abi.TELEMETRY[Telemetry.HOME].pack(time_ns, home.latitude, home.longitude, home.altitude_m)


def mission_record(vehicle: Vehicle, time_ns: int) -> bytes | None:
    """MISSION, None while nothing is known of one."""
    progress = vehicle.progress
    if progress.current is None:
        return None
    total = min(progress.total or 0, 0xFFFF)
    reached = progress.current in progress.reached
    return abi.TELEMETRY[Telemetry.MISSION].pack(time_ns, progress.current, total, progress.state & 0xFF, reached)


def record_of(item: Message, time_ns: int) -> tuple[Telemetry, bytes] | None:
    """What a message says that is told as it comes: position, attitude, battery, GPS; None for any other."""
    found = _RECORDS.get(item.name)
    if found is None:
        return None
    kind, values = found
    fields = values(item)
    return None if fields is None else (kind, abi.TELEMETRY[kind].pack(time_ns, *fields))


def _position(item: Message) -> tuple[float, ...]:
    heading = item["hdg"]
    return (
        *(item["lat"] / 1e7, item["lon"] / 1e7, item["alt"] / 1000, item["relative_alt"] / 1000),
        *(item["vx"] / 100, item["vy"] / 100, item["vz"] / 100),
        NAN if heading == 0xFFFF else math.radians(heading / 100),
    )


def _local(item: Message) -> tuple[float, ...]:
    return tuple(item[name] for name in ("x", "y", "z", "vx", "vy", "vz"))


def _quaternion(item: Message) -> tuple[float, ...]:
    return tuple(item[name] for name in ("q1", "q2", "q3", "q4", "rollspeed", "pitchspeed", "yawspeed"))


def _euler(item: Message) -> tuple[float, ...]:
    rates = tuple(item[name] for name in ("rollspeed", "pitchspeed", "yawspeed"))
    roll, pitch, yaw = (item[name] / 2 for name in ("roll", "pitch", "yaw"))
    if not all(map(math.isfinite, (roll, pitch, yaw))):
        return (*(NAN,) * 4, *rates)
    cr, cp, cy = map(math.cos, (roll, pitch, yaw))
    sr, sp, sy = map(math.sin, (roll, pitch, yaw))
    rotation = (
        *(cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy),
        *(cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy),
    )
    return (*rotation, *rates)


def _battery(item: Message) -> tuple[float, ...] | None:
    if item["id"] != 0:
        return None
    cells = [cell for cell in item["voltages"] if cell != 0xFFFF]
    current, remaining, temperature = item["current_battery"], item["battery_remaining"], item["temperature"]
    return (
        sum(cells) / 1000 if cells else NAN,
        current / 100 if current >= 0 else NAN,
        remaining / 100 if remaining >= 0 else NAN,
        temperature / 100 if temperature != 0x7FFF else NAN,
    )


def _gps(item: Message) -> tuple[float, ...]:
    satellites = item["satellites_visible"]
    hdop, vdop = (NAN if item[name] == 0xFFFF else item[name] / 100 for name in ("eph", "epv"))
    return (item["fix_type"], satellites if satellites != 255 else 0, hdop, vdop)


_RECORDS = {
    "GLOBAL_POSITION_INT": (Telemetry.POSITION, _position),
    "LOCAL_POSITION_NED": (Telemetry.LOCAL, _local),
    "ATTITUDE_QUATERNION": (Telemetry.ATTITUDE, _quaternion),
    "ATTITUDE": (Telemetry.ATTITUDE, _euler),
    "BATTERY_STATUS": (Telemetry.BATTERY, _battery),
    "GPS_RAW_INT": (Telemetry.GPS, _gps),
}


def sys_status_battery(item: Message, time_ns: int) -> bytes:
    """BATTERY of a vehicle that sends no BATTERY_STATUS, from SYS_STATUS."""
    millivolts, current, remaining = item["voltage_battery"], item["current_battery"], item["battery_remaining"]
    return abi.TELEMETRY[Telemetry.BATTERY].pack(
        time_ns,
        millivolts / 1000 if millivolts != 0xFFFF else NAN,
        current / 100 if current >= 0 else NAN,
        remaining / 100 if remaining >= 0 else NAN,
        NAN,
    )


def _unpack(record: Struct, data: bytes, what: str) -> tuple[Any, ...]:
    if len(data) != record.size:
        raise RecordError(f"{len(data)} bytes are no {what}; it has {record.size}")
    return record.unpack(data)


def _home_altitude(state: VehicleState) -> float:
    if state.home is not None:
        return state.home.altitude_m
    if state.position is None:
        raise RecordError("the height of home is not known yet")
    return state.position.altitude_m - state.position.height_m


def _finite(value: float) -> float:
    if not math.isfinite(value) or abs(value) > 2**31 - 1:
        raise RecordError(f"{value} is no number that fits")
    return value


def _set(value: float) -> float | None:
    if math.isinf(value):
        raise RecordError("a setpoint has no infinite numbers")
    return None if math.isnan(value) else value


def _vector(x: float, y: float, z: float, what: str) -> tuple[float, float, float]:
    if not all(map(math.isfinite, (x, y, z))):
        raise RecordError(f"the {what} is not three numbers")
    return x, y, z
