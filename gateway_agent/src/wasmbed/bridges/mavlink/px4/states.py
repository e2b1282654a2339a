"""Vehicle states in PX4's numbers: modes, types, arming (VehicleStatus)."""

DISARMED, ARMED = 1, 2
ROTARY_WING, FIXED_WING, ROVER = 1, 2, 3
OFFBOARD = 14
MAX_BEFORE_EXTERNAL = 23

# custom_mode's main and sub mode to NAVIGATION_STATE.
_NAV_STATES = {
    (1, 0): 0,
    (2, 0): 1,
    (3, 0): 2,
    (3, 1): 21,
    (3, 2): 6,
    (4, 2): 17,
    (4, 3): 4,
    (4, 4): 3,
    (4, 5): 5,
    (4, 6): 18,
    (4, 8): 19,
    (4, 9): 20,
    (4, 10): 22,
    **{(4, 10 + number): 22 + number for number in range(1, 9)},
    (5, 0): 10,
    (6, 0): OFFBOARD,
    (7, 0): 15,
    (10, 0): 13,
    (11, 0): 8,
}
_FIXED_WINGS = frozenset({1, 16, 28})
_ROVERS = frozenset({10, 11})
_VTOLS = frozenset({19, 20, 21, 22, 23, 24, 25})
_TAILSITTERS = frozenset({19, 20, 23})
_NOT_IN_1_14 = frozenset({6, *range(MAX_BEFORE_EXTERNAL, MAX_BEFORE_EXTERNAL + 8)})
_ALTITUDE_CRUISE = 8


def nav_state(custom_mode: int, release: str) -> int | None:
    """NAVIGATION_STATE of a custom mode; None for a mode that the release has no number for."""
    state = _NAV_STATES.get((custom_mode >> 16 & 0xFF, custom_mode >> 24 & 0xFF))
    if state is None or (release == "1.14" and state in _NOT_IN_1_14):
        return None
    if state == _ALTITUDE_CRUISE and release in ("1.14", "1.15", "1.16"):
        return None
    return state


def vehicle_type(mav_type: int, vtol_state: int) -> int:
    """VEHICLE_TYPE; a VTOL is what it flies as (MAV_VTOL_STATE 1 and 4: as a fixed wing)."""
    if mav_type in _VTOLS:
        return FIXED_WING if vtol_state in (1, 4) else ROTARY_WING
    if mav_type in _FIXED_WINGS:
        return FIXED_WING
    return ROVER if mav_type in _ROVERS else ROTARY_WING


def is_vtol(mav_type: int) -> bool:
    """Whether it is a VTOL."""
    return mav_type in _VTOLS


def is_tailsitter(mav_type: int) -> bool:
    """Whether it is a VTOL that sits on its tail."""
    return mav_type in _TAILSITTERS
