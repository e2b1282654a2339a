"""What an order is: an ordinary part of a flight, a question, dangerous, or one that no vehicle should get.

PX4 rounds parameters that say what is to be done (`lroundf`) and cuts them to 8 bits, so 0.3 is 0 and 257 is 1 to it.
Whoever compares exactly decides about another order than the one that is carried out: such parameters have to be exact.
"""

from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.mission_items import PlanItem
from wasmbed.bridges.mavlink.modes import (
    AUTOPILOT_ARDUPILOT,
    AUTOPILOT_PX4,
    CUSTOM_MODE_ENABLED,
    mode_name,
    mode_names,
)
from wasmbed.bridges.mavlink.parameter_values import single
from wasmbed.bridges.mavlink.vehicle_state import VehicleState

ARM_DISARM = 400
SET_MODE = 176
SET_PARAMETER = 180
_SET_INTERVAL = 511
_FORCE = 21196.0
# A vehicle that tells where it is more seldom than this cannot be held inside of a geofence.
_LONGEST_INTERVAL_US = 1e6


def numbers(names: str) -> frozenset[int]:
    """Commands by their names without `MAV_CMD_`."""
    return frozenset(default_dialect().value(f"MAV_CMD_{name}") for name in names.split())


ORDINARY = numbers("""
COMPONENT_ARM_DISARM NAV_TAKEOFF NAV_VTOL_TAKEOFF NAV_LAND NAV_VTOL_LAND NAV_RETURN_TO_LAUNCH NAV_LOITER_UNLIM
DO_SET_MODE DO_REPOSITION DO_PAUSE_CONTINUE DO_ORBIT DO_CHANGE_SPEED DO_CHANGE_ALTITUDE MISSION_START
DO_SET_MISSION_CURRENT DO_SET_ROI_LOCATION DO_SET_ROI_NONE CONDITION_YAW DO_VTOL_TRANSITION
DO_GIMBAL_MANAGER_PITCHYAW DO_GIMBAL_MANAGER_CONFIGURE IMAGE_START_CAPTURE IMAGE_STOP_CAPTURE VIDEO_START_CAPTURE
VIDEO_STOP_CAPTURE SET_CAMERA_MODE SET_CAMERA_ZOOM SET_CAMERA_FOCUS
""")
"""Orders of an ordinary flight. Everything else (reboot, calibration, termination, motor tests, ...) is dangerous."""

QUESTIONS = numbers("""
REQUEST_MESSAGE SET_MESSAGE_INTERVAL GET_MESSAGE_INTERVAL GET_HOME_POSITION REQUEST_AUTOPILOT_CAPABILITIES
REQUEST_PROTOCOL_VERSION REQUEST_FLIGHT_INFORMATION RUN_PREARM_CHECKS
""")

# What a plan may hold besides ordinary orders. Arming, disarming and modes are none of a plan's.
_PLANNED = (ORDINARY - {ARM_DISARM, SET_MODE}) | numbers("""
NAV_WAYPOINT NAV_LOITER_TURNS NAV_LOITER_TIME NAV_LOITER_TO_ALT NAV_CONTINUE_AND_CHANGE_ALT NAV_SPLINE_WAYPOINT
NAV_LAND_LOCAL NAV_TAKEOFF_LOCAL NAV_FOLLOW NAV_ROI NAV_PATHPLANNING NAV_ALTITUDE_WAIT NAV_GUIDED_ENABLE NAV_DELAY
NAV_PAYLOAD_PLACE NAV_LAST CONDITION_DELAY CONDITION_CHANGE_ALT CONDITION_DISTANCE DO_JUMP DO_LAND_START
DO_SET_CAM_TRIGG_DIST NAV_FENCE_RETURN_POINT NAV_FENCE_POLYGON_VERTEX_INCLUSION NAV_FENCE_POLYGON_VERTEX_EXCLUSION
NAV_FENCE_CIRCLE_INCLUSION NAV_FENCE_CIRCLE_EXCLUSION NAV_RALLY_POINT
""")


def sent(command: Command) -> tuple[float, ...]:
    """The seven parameters as they go out, as 32-bit floats."""
    return tuple(single(value) for value in command.all_params)


def invalid(command: Command, state: VehicleState) -> str | None:
    """Why no vehicle should get a command, whoever sends it: what it would make of it is not told by its numbers."""
    one, two, three, *_ = sent(command)
    if command.number == ARM_DISARM and (one not in (0.0, 1.0) or two not in (0.0, _FORCE)):
        return f"arming is 1 or 0, and 0 or {_FORCE:g} to force it, not {one:g} and {two:g}"
    if command.number == SET_MODE:
        most = 0xFFFFFF if state.autopilot == AUTOPILOT_ARDUPILOT else 0xFF
        if not (_whole(one, 0xFF) and _whole(two, most) and _whole(three, 0xFF)):
            return f"a mode is whole numbers, not {one:g}, {two:g} and {three:g}"
    return None


def dangerous(command: Command, state: VehicleState) -> bool:
    """Whether a valid command is no ordinary part of a flight in this state."""
    one, two, *_ = sent(command)
    if command.number == _SET_INTERVAL:
        # Turned off, the gateway would not see any more where the vehicle is.
        return not 0.0 <= two <= _LONGEST_INTERVAL_US
    if command.number == ARM_DISARM:
        return two == _FORCE or (one == 0.0 and (state.in_air or not state.connected))
    if command.number == SET_MODE:
        return not int(one) & CUSTOM_MODE_ENABLED or mode_of(command, state) in ("", "termination")
    return command.number not in ORDINARY | QUESTIONS


def mode_of(command: Command, state: VehicleState) -> str:
    """The mode that a valid DO_SET_MODE asks for; empty for one that is not known."""
    _, two, three, *_ = sent(command)
    if state.autopilot == AUTOPILOT_ARDUPILOT:
        name = mode_name(AUTOPILOT_ARDUPILOT, state.type, int(two))
        return name if name in mode_names(AUTOPILOT_ARDUPILOT, state.type) else ""
    name = mode_name(AUTOPILOT_PX4, state.type, int(two) << 16 | int(three) << 24)
    return name if name in mode_names(AUTOPILOT_PX4, state.type) else ""


def dangerous_item(item: PlanItem) -> bool:
    """Whether a plan's item is no ordinary part of a plan."""
    return item.command not in _PLANNED


def _whole(value: float, most: int) -> bool:
    return 0 <= value <= most and value.is_integer()
