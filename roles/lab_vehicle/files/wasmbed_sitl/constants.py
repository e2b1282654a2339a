"""Numbers of the MAVLink standard, of PX4's modes and of the flight model."""

from __future__ import annotations

from typing import Any

Out = list[tuple[str, dict[str, Any]]]

ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED, FAILED, IN_PROGRESS, CANCELLED = range(7)
MANUAL, HOLD, MISSION, RETURN, LAND, TAKEOFF, OFFBOARD = (1, 0), (4, 3), (4, 4), (4, 5), (4, 6), (4, 2), (6, 0)
COPTER = {MANUAL: 0, HOLD: 5, MISSION: 3, RETURN: 6, LAND: 9, TAKEOFF: 4, OFFBOARD: 4}
METRES_A_DEGREE = 111_194.9
CLIMB_M_S, SPEED_M_S = 3.0, 12.0
# Latitude, longitude, metres above sea level of the first vehicle; the next ones stand north of it.
HOME = (47.397742, 8.545594, 488.0)
NEXT_HOME_DEG = 0.001
