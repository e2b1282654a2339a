"""Which commands may be sent again when no acknowledgement came, and for how long.

A vehicle cannot tell a late resend from a new order. So a resend is safe for as long as nothing can have changed
meanwhile, and never for a command that does its thing once more.
"""

from enum import StrEnum

from wasmbed.bridges.mavlink.definitions import default_dialect

SHORTLY_S = 1.5
"""How long after the first sending an order about the flight may be sent again."""


class Resend(StrEnum):
    """When a command is sent again."""

    UNTIL_ANSWERED = "until answered"
    SHORTLY = "shortly"
    NEVER = "never"


# Asking, and settings that mean the same whenever they arrive.
_UNTIL_ANSWERED = """
GET_HOME_POSITION GET_MESSAGE_INTERVAL SET_MESSAGE_INTERVAL REQUEST_MESSAGE REQUEST_PROTOCOL_VERSION
REQUEST_AUTOPILOT_CAPABILITIES REQUEST_CAMERA_INFORMATION REQUEST_CAMERA_SETTINGS REQUEST_STORAGE_INFORMATION
REQUEST_CAMERA_CAPTURE_STATUS REQUEST_FLIGHT_INFORMATION REQUEST_CAMERA_IMAGE_CAPTURE
REQUEST_VIDEO_STREAM_INFORMATION REQUEST_VIDEO_STREAM_STATUS RUN_PREARM_CHECKS UAVCAN_GET_NODE_INFO
"""

# Orders whose second arrival does nothing new, if it comes at once; ten seconds later the pilot may have other plans.
_SHORTLY = """
COMPONENT_ARM_DISARM NAV_TAKEOFF NAV_VTOL_TAKEOFF NAV_LAND NAV_RETURN_TO_LAUNCH NAV_LOITER_UNLIM DO_SET_MODE
DO_SET_STANDARD_MODE DO_REPOSITION DO_PAUSE_CONTINUE DO_ORBIT DO_FIGURE_EIGHT DO_CHANGE_SPEED DO_CHANGE_ALTITUDE
DO_SET_MISSION_CURRENT DO_FENCE_ENABLE DO_SET_ROI DO_SET_ROI_LOCATION DO_SET_ROI_NONE DO_SET_ROI_SYSID
DO_VTOL_TRANSITION DO_SET_SERVO DO_SET_RELAY DO_GIMBAL_MANAGER_PITCHYAW DO_GIMBAL_MANAGER_CONFIGURE
DO_MOUNT_CONTROL DO_MOUNT_CONFIGURE SET_CAMERA_MODE VIDEO_STOP_CAPTURE VIDEO_STOP_STREAMING IMAGE_STOP_CAPTURE
LOGGING_STOP CONTROL_HIGH_LATENCY DO_FLIGHTTERMINATION NAV_GUIDED_ENABLE DO_SET_SAFETY_SWITCH_STATE
"""


def _numbers(names: str) -> frozenset[int]:
    dialect = default_dialect()
    return frozenset(dialect.value(f"MAV_CMD_{name}") for name in names.split())


_BY_RULE = {Resend.UNTIL_ANSWERED: _numbers(_UNTIL_ANSWERED), Resend.SHORTLY: _numbers(_SHORTLY)}


def resend_rule(command: int) -> Resend:
    """The rule of a command; one that is on no list (reboot, calibration, capture, gripper, ...) is sent once."""
    for rule, numbers in _BY_RULE.items():
        if command in numbers:
            return rule
    return Resend.NEVER
