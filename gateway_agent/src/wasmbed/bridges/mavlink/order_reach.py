"""Where an order takes a vehicle, against a geofence. What cannot be told is refused.

Every command and every item of a plan is in one of the lists below: it has no place, or its place, height and radius
are looked at. One that is in none of them, as a new one, is refused. Ways between two allowed places are not looked at.
"""

import math

from wasmbed.bridges.mavlink.commands import SEA_LEVEL_FRAMES, Command
from wasmbed.bridges.mavlink.geofence import Geofence
from wasmbed.bridges.mavlink.ground import moved
from wasmbed.bridges.mavlink.mission_items import PlanItem
from wasmbed.bridges.mavlink.modes import AUTOPILOT_ARDUPILOT, PLANES
from wasmbed.bridges.mavlink.offboard import LOCAL_NED, AttitudeSetpoint, Axes, GlobalSetpoint, LocalSetpoint, Setpoint
from wasmbed.bridges.mavlink.order_kinds import QUESTIONS, SET_MODE, mode_of, numbers, sent
from wasmbed.bridges.mavlink.vehicle_state import Position, VehicleState

LOOK_AHEAD_S = 3.0
_NO_AXES: Axes = (None, None, None)
_RELATIVE = frozenset({3, 6})
_LAND, _ORBIT, _ALTITUDE = 21, 34, 186
_STAYS = numbers("NAV_LOITER_UNLIM NAV_LAND NAV_VTOL_LAND")
_LANDINGS = numbers("NAV_LAND NAV_VTOL_LAND NAV_PAYLOAD_PLACE")
_TAKEOFFS = numbers("NAV_TAKEOFF NAV_VTOL_TAKEOFF")

# Turn, look, wait, go on, go home, or change a speed.
_NO_PLACE = numbers("""
NAV_RETURN_TO_LAUNCH DO_PAUSE_CONTINUE DO_CHANGE_SPEED MISSION_START DO_SET_MISSION_CURRENT DO_SET_ROI_LOCATION
DO_SET_ROI_NONE CONDITION_YAW DO_VTOL_TRANSITION DO_GIMBAL_MANAGER_PITCHYAW DO_GIMBAL_MANAGER_CONFIGURE
IMAGE_START_CAPTURE IMAGE_STOP_CAPTURE VIDEO_START_CAPTURE VIDEO_STOP_CAPTURE SET_CAMERA_MODE SET_CAMERA_ZOOM
SET_CAMERA_FOCUS
""")
# With the right `dangerous`: they act on the vehicle's parts or end its flight, and give it no place to go to.
_ON_PARTS = numbers("""
COMPONENT_ARM_DISARM DO_FLIGHTTERMINATION DO_PARACHUTE DO_MOTOR_TEST DO_SET_PARAMETER DO_SET_RELAY DO_REPEAT_RELAY
DO_SET_SERVO DO_REPEAT_SERVO DO_GRIPPER DO_WINCH DO_SPRAYER DO_DIGICAM_CONFIGURE DO_DIGICAM_CONTROL DO_MOUNT_CONFIGURE
DO_MOUNT_CONTROL DO_SET_CAM_TRIGG_DIST DO_SET_CAM_TRIGG_INTERVAL DO_TRIGGER_CONTROL ILLUMINATOR_ON_OFF
PREFLIGHT_CALIBRATION PREFLIGHT_SET_SENSOR_OFFSETS PREFLIGHT_UAVCAN PREFLIGHT_STORAGE PREFLIGHT_REBOOT_SHUTDOWN
ACTUATOR_TEST CONFIGURE_ACTUATOR LOGGING_START LOGGING_STOP STORAGE_FORMAT
""")
_ITEMS_WITHOUT_PLACE = numbers("""
NAV_ROI NAV_DELAY CONDITION_DELAY CONDITION_DISTANCE DO_JUMP DO_LAND_START
""")
_PLACES = _TAKEOFFS | numbers("NAV_LAND NAV_VTOL_LAND DO_REPOSITION DO_ORBIT NAV_LOITER_UNLIM")
_ITEM_PLACES = _PLACES | numbers("""
NAV_WAYPOINT NAV_LOITER_TURNS NAV_LOITER_TIME NAV_LOITER_TO_ALT NAV_PAYLOAD_PLACE NAV_RALLY_POINT
""")
# Which parameter is the radius that is flown around the place.
_RADIUS = {16: 3, 17: 3, 18: 3, 19: 3, 31: 2, _ORBIT: 1, 192: 3}
_CIRCLES = frozenset(_RADIUS) - {16}
# Modes that stay, land, go home, fly what was checked, or end the flight. In others a height or radius is the
# vehicle's own setting, or something else flies.
_MODES = frozenset(
    (
        *("hold", "brake", "loiter", "ready", "position", "position_slow", "mission", "offboard", "termination"),
        *("return", "smart_return", "auto_return", "land", "precision_land"),
    )
)


def command_leaves(fence: Geofence, command: Command, state: VehicleState) -> str | None:
    """Why a valid command is not allowed with a fence; None when it is."""
    number = command.number
    if number in _NO_PLACE or number in _ON_PARTS or number in QUESTIONS:
        return None
    if number == SET_MODE:
        mode = mode_of(command, state)
        return None if mode in _MODES else f"mode {mode or 'that is not known'} cannot be held inside of a geofence"
    if number == _ALTITUDE:
        altitude, frame, *_ = sent(command)
        return _altitude_leaves(fence, altitude, frame, state)
    if number in _PLACES:
        return _place_leaves(fence, command, state)
    return f"{command.name} cannot be held inside of a geofence"


def _place_leaves(fence: Geofence, command: Command, state: VehicleState) -> str | None:
    number = command.number
    *_, latitude, longitude, altitude = command.all_params
    # To PX4, 0, 0 is a place like any other, but where it reads none at all.
    nowhere = latitude == 0 and longitude == 0 and (number in _STAYS or _is_ardupilot(state))
    if nowhere or (math.isnan(latitude) and math.isnan(longitude)):
        if number in _STAYS and (math.isnan(altitude) or (nowhere and altitude == 0)):
            # Stay or land where it is, also outside.
            return None
        if number == _ORBIT:
            return "an orbit inside of a geofence needs a centre"
        if state.position is None:
            return "the vehicle's position is not known, and there is a geofence"
        latitude, longitude = state.position.latitude, state.position.longitude
    height: float | None = None
    if not math.isnan(altitude):
        height = _command_height(command, altitude, state)
    elif number in _TAKEOFFS:
        return "a take-off inside of a geofence needs a height"
    # Half a place is none: it is refused as not on Earth.
    return _circle_leaves(fence, number, sent(command), (latitude, longitude), height, state)


def item_leaves(fence: Geofence, item: PlanItem, state: VehicleState) -> str | None:
    """Why an item of a plan is not allowed with a fence; None when it is."""
    number = item.command
    if number in _NO_PLACE or number in _ON_PARTS or number in _ITEMS_WITHOUT_PLACE:
        return None
    params = (item.param1, item.param2, item.param3, item.param4)
    if number == _ALTITUDE:
        return _altitude_leaves(fence, item.param1, item.param2, state)
    if number in _ITEM_PLACES:
        return _item_place_leaves(fence, item, params, state)
    return f"command {number} cannot be held inside of a geofence"


def _item_place_leaves(fence: Geofence, item: PlanItem, params: tuple[float, ...], state: VehicleState) -> str | None:
    number = item.command
    height = _height(item.z, item.frame, state)
    if height is None:
        return f"frame {item.frame} cannot be held inside of a geofence: use 0 (above sea level) or 3 (above home)"
    if number == _LAND and item.param1 > 0 and (why := fence.refuses_height(item.param1)):
        return f"going around: {why}"
    if item.x == 0 and item.y == 0 and _is_ardupilot(state):
        # To ArduPilot this is where it is by then, which is inside.
        if number in _CIRCLES:
            return "a circle inside of a geofence needs a centre"
        return fence.refuses_height(_landing(fence, number, height))
    return _circle_leaves(fence, number, params, item.place, height, state)


def setpoint_leaves(fence: Geofence, setpoint: Setpoint, state: VehicleState) -> str | None:
    """Why a setpoint is not allowed with a fence; None when it is."""
    if isinstance(setpoint, GlobalSetpoint):
        return fence.refuses(setpoint.latitude, setpoint.longitude, setpoint.height_m)
    if isinstance(setpoint, AttitudeSetpoint):
        return "attitude setpoints cannot be held inside of a geofence"
    if state.position is None:
        return "the vehicle's position is not known, and there is a geofence"
    if setpoint.frame != LOCAL_NED:
        return "only setpoints in north, east, down can be held inside of a geofence"
    if state.origin is None and setpoint.position not in (None, _NO_AXES):
        return "the origin of the local frame is not known; request GPS_GLOBAL_ORIGIN"
    return _local_leaves(fence, setpoint, state, state.position)


def _circle_leaves(
    fence: Geofence,
    number: int,
    params: tuple[float, ...],
    place: tuple[float, float],
    height: float | None,
    state: VehicleState,
) -> str | None:
    radius = _radius(number, params)
    if not radius and (number == _ORBIT or (number in _CIRCLES and state.type in PLANES)):
        return "a circle inside of a geofence needs its radius"
    return fence.refuses(*place, None if height is None else _landing(fence, number, height), radius)


def _radius(number: int, params: tuple[float, ...]) -> float:
    """Metres; the sign is the direction, and 0 or NaN what the vehicle is set to."""
    radius = abs(params[_RADIUS[number] - 1]) if number in _RADIUS else 0.0
    return 0.0 if math.isnan(radius) else radius


def _landing(fence: Geofence, number: int, height: float) -> float:
    # The ground may be below the lowest height that is flown at.
    return max(height, fence.min_height_m) if number in _LANDINGS else height


def _altitude_leaves(fence: Geofence, altitude: float, frame: float, state: VehicleState) -> str | None:
    if frame not in SEA_LEVEL_FRAMES and not (_is_ardupilot(state) and frame in _RELATIVE):
        return "DO_CHANGE_ALTITUDE inside of a geofence needs an altitude above sea level: PX4 reads no frame"
    height = _height(altitude, int(frame), state)
    return fence.refuses_height(math.nan if height is None else height)


def _command_height(command: Command, altitude: float, state: VehicleState) -> float:
    frame = command.frame
    if _is_ardupilot(state):
        # Its take-off is above home in every frame; what it makes of other heights without a frame is its own.
        frame = 3 if command.number in _TAKEOFFS else frame if frame is not None else 1
    height = _height(altitude, frame if frame is not None else 0, state)
    return math.nan if height is None else height


def _height(altitude: float, frame: int, state: VehicleState) -> float | None:
    """Metres above home, NaN when that is not known, None for a frame whose heights are others."""
    if frame in _RELATIVE:
        return altitude
    if frame not in SEA_LEVEL_FRAMES:
        return None
    if state.home is not None:
        return altitude - state.home.altitude_m
    if state.position is not None:
        return altitude - (state.position.altitude_m - state.position.height_m)
    return math.nan


def _local_leaves(fence: Geofence, setpoint: LocalSetpoint, state: VehicleState, here: Position) -> str | None:
    position, velocity = setpoint.position or _NO_AXES, setpoint.velocity or _NO_AXES
    acceleration = setpoint.acceleration or _NO_AXES
    moves = (here.north_m_s, here.east_m_s, here.down_m_s)
    # By speed and acceleration: what they add in a few seconds, given or, on an axis without a place, as it moves now.
    # With a place they lead past it: the vehicle comes to rest where the way back to it is as fast.
    ways = []
    for place, speed, change, now in zip(position, velocity, acceleration, moves, strict=True):
        assumed = 0.0 if place is not None else now
        way = (speed if speed is not None else assumed) * LOOK_AHEAD_S
        ways.append(way + (change or 0.0) * LOOK_AHEAD_S**2 / 2)
    for share in (0.0, 1.0):
        # A place is looked at itself too; an axis without one only where it leads to.
        steps = [way if place is None else way * share for place, way in zip(position, ways, strict=True)]
        why = fence.refuses(*_aimed(position, steps, state, here))
        if why is not None:
            return why
    return None


def _aimed(position: Axes, steps: list[float], state: VehicleState, here: Position) -> tuple[float, float, float]:
    """Latitude, longitude and height above home of the place, or of where it is now, and `steps` from there."""
    latitude, longitude = moved(here, steps[0], steps[1])
    height = here.height_m - steps[2]
    if state.origin is not None:
        north, east, down = position
        placed = moved(state.origin, (north or 0.0) + steps[0], (east or 0.0) + steps[1])
        latitude = placed[0] if north is not None else latitude
        longitude = placed[1] if east is not None else longitude
        if down is not None:
            height = state.origin.altitude_m - down - steps[2] - (here.altitude_m - here.height_m)
    return latitude, longitude, height


def _is_ardupilot(state: VehicleState) -> bool:
    return state.autopilot == AUTOPILOT_ARDUPILOT
