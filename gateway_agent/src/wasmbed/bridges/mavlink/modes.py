"""Flight modes by name, for PX4 and ArduPilot (`custom_mode` of HEARTBEAT, MAV_CMD_DO_SET_MODE)."""

from dataclasses import dataclass

AUTOPILOT_INVALID = 8
AUTOPILOT_ARDUPILOT = 3
AUTOPILOT_PX4 = 12
CUSTOM_MODE_ENABLED = 1
SAFETY_ARMED = 128

# PX4: main mode and sub mode, the third and fourth byte of custom_mode.
_PX4 = {
    "manual": (1, 0),
    "altitude": (2, 0),
    "position": (3, 0),
    "orbit": (3, 1),
    "position_slow": (3, 2),
    "ready": (4, 1),
    "takeoff": (4, 2),
    "hold": (4, 3),
    "mission": (4, 4),
    "return": (4, 5),
    "land": (4, 6),
    "follow": (4, 8),
    "precision_land": (4, 9),
    "vtol_takeoff": (4, 10),
    **{f"external{number}": (4, 10 + number) for number in range(1, 9)},
    "acro": (5, 0),
    "offboard": (6, 0),
    "stabilized": (7, 0),
    "termination": (10, 0),
    "altitude_cruise": (11, 0),
}
_PX4_NAMES = {value: name for name, value in _PX4.items()}

_COPTER = {
    "stabilized": 0,
    "acro": 1,
    "altitude": 2,
    "mission": 3,
    "offboard": 4,
    "hold": 5,
    "return": 6,
    "circle": 7,
    "land": 9,
    "drift": 11,
    "sport": 13,
    "flip": 14,
    "autotune": 15,
    "position": 16,
    "brake": 17,
    "throw": 18,
    "offboard_nogps": 20,
    "smart_return": 21,
    "follow": 23,
    "auto_return": 27,
}
_PLANE = {
    "manual": 0,
    "circle": 1,
    "stabilized": 2,
    "acro": 4,
    "altitude": 5,
    "position": 7,
    "autotune": 8,
    "mission": 10,
    "return": 11,
    "hold": 12,
    "takeoff": 13,
    "offboard": 15,
    "qhover": 18,
    "qloiter": 19,
    "land": 20,
    "qreturn": 21,
}
_ROVER = {
    "manual": 0,
    "acro": 1,
    "steering": 3,
    "hold": 4,
    "loiter": 5,
    "follow": 6,
    "simple": 7,
    "mission": 10,
    "return": 11,
    "smart_return": 12,
    "offboard": 15,
}
PLANES = frozenset({1, 19, 20, 21, 22, 23, 24, 25})
_ROVERS = frozenset({10, 11})


@dataclass(frozen=True, slots=True)
class ModeCommand:
    """The parameters 1 to 3 of MAV_CMD_DO_SET_MODE."""

    base: int
    custom: int
    sub: int


def _ardupilot(vehicle_type: int) -> dict[str, int]:
    if vehicle_type in PLANES:
        return _PLANE
    return _ROVER if vehicle_type in _ROVERS else _COPTER


def mode_name(autopilot: int, vehicle_type: int, custom_mode: int) -> str:
    """A mode's name; `mode 0x...` for one that is on no list."""
    unknown = f"mode {custom_mode:#x}"
    if autopilot == AUTOPILOT_PX4:
        return _PX4_NAMES.get((custom_mode >> 16 & 0xFF, custom_mode >> 24 & 0xFF), unknown)
    if autopilot == AUTOPILOT_ARDUPILOT:
        names = {value: name for name, value in _ardupilot(vehicle_type).items()}
        return names.get(custom_mode, unknown)
    return unknown


def mode_command(autopilot: int, vehicle_type: int, name: str) -> ModeCommand:
    """How a mode is asked for. ValueError for one this autopilot does not have, with those it has."""
    if autopilot == AUTOPILOT_PX4 and name in _PX4:
        return ModeCommand(CUSTOM_MODE_ENABLED, *_PX4[name])
    if autopilot == AUTOPILOT_ARDUPILOT and name in _ardupilot(vehicle_type):
        return ModeCommand(CUSTOM_MODE_ENABLED, _ardupilot(vehicle_type)[name], 0)
    known = mode_names(autopilot, vehicle_type)
    raise ValueError(f"this vehicle has no mode {name!r}; it has {', '.join(known) or 'none that is known by name'}")


def mode_names(autopilot: int, vehicle_type: int) -> tuple[str, ...]:
    """The modes an autopilot has."""
    if autopilot == AUTOPILOT_PX4:
        return tuple(_PX4)
    return tuple(_ardupilot(vehicle_type)) if autopilot == AUTOPILOT_ARDUPILOT else ()
