"""A vehicle for the patrol: what an autopilot does with the orders of `wasmbed:px4`, as far as a test needs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType, FlightMode, Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETURN, LAND, TAKEOFF, REPOSITION, MISSION_START, ARM = 20, 21, 22, 192, 300, 400
METRES_A_DEGREE = 111_194.9
HOME = (47.397742, 8.545594, 488.0)


class Vehicle:
    """Moves in straight lines; `step` lets time pass. Tests change its fields and `refuse` orders."""

    def __init__(self, *, speed_m_s: float = 10.0, climb_m_s: float = 3.0) -> None:
        self.latitude, self.longitude = HOME[:2]
        self.height = 0.0
        self.speed_m_s, self.climb_m_s = speed_m_s, climb_m_s
        self.armed = False
        self.mode = FlightMode.HOLD
        self.remaining = 0.9
        self.fix = 3
        self.failsafe = False
        self.disarms = True
        self.target: tuple[float, float, float] | None = None
        self.plan: list[tuple[float, float, float]] = []
        self.item = 0
        self.mission_state = 1
        self.reached = False
        self.owned = False
        self.acquired: Code | int = 0
        self.orders: list[tuple[Any, ...]] = []
        self.names: list[str] = []
        self.visited: list[tuple[float, float, float]] = []
        # An order's name to the status it gets; None: no answer at all.
        self.refuse: dict[str, Code | None] = {}
        # Orders that are accepted and not carried out.
        self.ignore: set[str] = set()

    @property
    def in_air(self) -> bool:
        return self.height > 0.3

    # ---- orders -----------------------------------------------------------------------------------------------

    def acquire(self) -> int:
        if self.acquired == 0:
            self.owned = True
        return int(self.acquired)

    def release(self) -> int:
        self.owned = False
        return 0

    def command(self, fields: tuple[Any, ...]) -> tuple[int | None, bytes | None]:
        """Carry out a wb_px4_command: status and details of the result."""
        number, _, p1, _, _, _, x, y, z = fields
        name = {
            RETURN: "return", LAND: "land", TAKEOFF: "takeoff", REPOSITION: "goto", MISSION_START: "mission"
        }.get(number, "arm" if p1 else "disarm")  # fmt: skip
        self.names.append(name)
        if not self.owned:
            return Code.DENIED, None
        if name in self.refuse:
            status = self.refuse[name]
            return status, b"\4\0"
        if name not in self.ignore:
            self._do(name, x, y, z - HOME[2])
        return 0, b"\0\0"

    def _do(self, name: str, x: float, y: float, height: float) -> None:
        if name == "arm":
            self.armed = True
        elif name == "disarm":
            assert not self.in_air, "disarmed in the air"
            self.armed = False
        elif name == "takeoff":
            assert self.armed, "take-off without arming"
            self.mode, self.target = FlightMode.TAKEOFF, (self.latitude, self.longitude, height)
        elif name == "goto":
            self.mode, self.target = FlightMode.HOLD, (x, y, height)
        elif name == "mission":
            self.mode, self.item, self.mission_state, self.reached = FlightMode.MISSION, 0, 3, False
            self.target = self.plan[0]
        elif name == "return":
            self.mode, self.target = FlightMode.RETURN, (*HOME[:2], self.height)
        elif name == "land":
            self.mode, self.target = FlightMode.LAND, (self.latitude, self.longitude, 0.0)

    def upload(self, items: list[tuple[Any, ...]]) -> int:
        self.names.append("upload")
        if not self.owned:
            return Code.DENIED
        if "upload" in self.refuse:
            return self.refuse["upload"] or 0
        self.plan = [(item[7], item[8], item[9]) for item in items]
        assert all(item[:2] == (16, 3) for item in items)
        self.mission_state = 2
        return 0

    # ---- time -------------------------------------------------------------------------------------------------

    def step(self, seconds: float) -> None:
        if not (self.armed and self.target):
            return
        latitude, longitude, height = self.target
        scale = math.cos(math.radians(self.latitude))
        north = (latitude - self.latitude) * METRES_A_DEGREE
        east = (longitude - self.longitude) * METRES_A_DEGREE * scale
        away = math.hypot(north, east)
        part = min(1.0, self.speed_m_s * seconds / away) if away else 1.0
        self.latitude += north * part / METRES_A_DEGREE
        self.longitude += east * part / (METRES_A_DEGREE * scale)
        climb = self.climb_m_s * seconds
        self.height += max(-climb, min(climb, height - self.height))
        if part == 1.0 and abs(height - self.height) < 0.1:
            self._arrived()

    def _arrived(self) -> None:
        if self.mode == FlightMode.TAKEOFF:
            self.mode = FlightMode.HOLD
        elif self.mode == FlightMode.MISSION:
            self.visited.append(self.plan[self.item])
            if self.item + 1 < len(self.plan):
                self.item += 1
                self.target = self.plan[self.item]
            else:
                self.mission_state, self.reached, self.mode = 5, True, FlightMode.HOLD
        elif self.mode == FlightMode.RETURN:
            self._do("land", 0, 0, 0)
        elif self.mode == FlightMode.LAND and self.disarms:
            self.armed, self.target = False, None
        elif self.mode == FlightMode.HOLD and self.target and self.target not in self.visited[-1:]:
            self.visited.append(self.target)

    def record(self, kind: int) -> bytes | None:
        """The telemetry of a kind as the ABI lays it out."""
        altitude = HOME[2] + self.height
        values: dict[int, tuple[Any, ...]] = {
            Telemetry.STATUS: (self.armed, self.in_air, self.mode, 0, self.failsafe, 1 + self.in_air, 1, 0),
            Telemetry.POSITION: (self.latitude, self.longitude, altitude, self.height, 0, 0, 0, 0),
            Telemetry.BATTERY: (16.0, 10.0, self.remaining, 30.0),
            Telemetry.GPS: (self.fix, 12, 0.8, 1.0),
            Telemetry.HOME: HOME,
            Telemetry.MISSION: (self.item, len(self.plan), self.mission_state, self.reached),
        }
        return abi.TELEMETRY[Telemetry(kind)].pack(0, *values[kind]) if kind in values else None

    def telemetry(self) -> Iterator[tuple[EventType, int, bytes]]:
        """One event of each kind."""
        for kind in Telemetry:
            record = self.record(kind)
            if record is not None:
                yield EventType.TELEMETRY, kind, record


def fly(
    vehicle: Vehicle,
    advance: Callable[[float], None],
    event: Callable[[int, int, bytes], None],
    until: Callable[[], bool],
    *,
    most_s: float = 900,
) -> None:
    """Let vehicle and application go on together until something holds."""
    passed = 0.0
    while not until():
        assert passed < most_s, "it takes too long"
        vehicle.step(0.2)
        for one in vehicle.telemetry():
            event(*one)
        advance(0.2)
        passed += 0.2
