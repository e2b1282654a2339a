"""Plans as items: missions, geofences and rally points, and QGroundControl's `WPL 110` files."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.commands import scaled
from wasmbed.bridges.mavlink.parameter_values import single

MAX_ITEMS = 65_000


class PlanType(IntEnum):
    """MAV_MISSION_TYPE: the three plans a vehicle has, each with its own items and transfers."""

    MISSION = 0
    FENCE = 1
    RALLY = 2
    ALL = 255


class Frame(IntEnum):
    """The MAV_FRAMEs of plan items."""

    GLOBAL = 0
    LOCAL_NED = 1
    MISSION = 2
    GLOBAL_RELATIVE_ALT = 3
    LOCAL_ENU = 4
    GLOBAL_TERRAIN_ALT = 10


_GLOBAL = frozenset({0, 3, 5, 6, 10, 11})


class PlanOutcome(StrEnum):
    """How a transfer ended."""

    DONE = "done"
    REFUSED = "refused"
    NO_ANSWER = "no answer"
    CANCELLED = "cancelled"
    CHANGED = "changed meanwhile"
    DIFFERENT = "different on the vehicle"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One item. x and y are as on the wire: degrees x 1e7 in a global frame, metres x 1e4 in a local one, else plain.

    `position` is how items are made from degrees or metres.
    """

    command: int
    frame: int = Frame.MISSION
    param1: float = 0.0
    param2: float = 0.0
    param3: float = 0.0
    param4: float = math.nan
    x: int = 0
    y: int = 0
    z: float = 0.0
    autocontinue: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.command <= 0xFFFF or not 0 <= self.frame <= 0xFF:
            raise ValueError(f"command {self.command} in frame {self.frame} is no plan item")
        if not all(-0x80000000 <= number <= 0x7FFFFFFF for number in (self.x, self.y)):
            raise ValueError(f"{self.x}, {self.y} do not fit a plan item")
        for value in (self.param1, self.param2, self.param3, self.param4, self.z):
            single(value)

    @classmethod
    def position(
        cls, command: int, latitude: float, longitude: float, altitude: float, *, frame: int = 3, **more: Any
    ) -> "PlanItem":
        """An item at a place, in degrees and metres (or metres north, east, down with a local frame)."""
        if frame in _GLOBAL and not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise ValueError(f"{latitude}, {longitude} is not a place on Earth")
        scale = 1e7 if frame in _GLOBAL else 1e4
        return cls(command, frame, x=scaled(latitude, scale), y=scaled(longitude, scale), z=altitude, **more)

    @property
    def place(self) -> tuple[float, float]:
        """x and y in degrees or metres."""
        if self.frame == Frame.MISSION:
            return float(self.x), float(self.y)
        scale = 1e7 if self.frame in _GLOBAL else 1e4
        return self.x / scale, self.y / scale

    def values(self, sequence: int, plan: PlanType, current: bool) -> dict[str, Any]:
        """The fields of MISSION_ITEM_INT."""
        return {
            "seq": sequence,
            "frame": self.frame,
            "command": self.command,
            "current": int(current),
            "autocontinue": int(self.autocontinue),
            "param1": self.param1,
            "param2": self.param2,
            "param3": self.param3,
            "param4": self.param4,
            "x": self.x,
            "y": self.y,
            "z": self.z,
            "mission_type": int(plan),
        }

    @classmethod
    def parse(cls, item: Message) -> "PlanItem":
        """From MISSION_ITEM_INT, or the older MISSION_ITEM whose x and y are floats."""
        x, y = item["x"], item["y"]
        if item.name == "MISSION_ITEM":
            scale = 1e7 if item["frame"] in _GLOBAL else 1.0 if item["frame"] == Frame.MISSION else 1e4
            x, y = scaled(x, scale), scaled(y, scale)
        return cls(
            item["command"],
            item["frame"],
            item["param1"],
            item["param2"],
            item["param3"],
            item["param4"],
            x,
            y,
            item["z"],
            bool(item["autocontinue"]),
        )

    def key(self) -> tuple[object, ...]:
        """What has to be equal for two items to be the same on a vehicle, floats as 32-bit floats."""
        numbers = (self.param1, self.param2, self.param3, self.param4, self.z)
        return (self.command, self.frame, self.x, self.y, self.autocontinue, *map(_bits, numbers))


def _bits(value: float) -> bytes:
    # All NaNs are one: which bits a vehicle sends for "default" is its own.
    return b"nan" if math.isnan(value) else struct.pack("<f", value + 0.0)


def same_plan(left: Sequence[PlanItem], right: Sequence[PlanItem]) -> int | None:
    """The index of the first item that differs, None when the plans are the same."""
    for index, (ours, theirs) in enumerate(zip(left, right, strict=False)):
        if ours.key() != theirs.key():
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def parse_waypoints(text: str) -> list[PlanItem]:
    """A `QGC WPL 110` file, tab- or space-separated. ValueError names the line that cannot be read."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or lines[0] != ["QGC", "WPL", "110"]:
        raise ValueError("the first line must be QGC WPL 110")
    items = []
    for number, parts in enumerate(lines[1:]):
        if len(parts) != 12 or parts[0] != str(number):
            raise ValueError(f"item {number}: twelve columns are needed, beginning with {number}")
        try:
            command, frame = int(parts[3]), int(parts[2])
            one, two, three, four, x, y, z = (float(part) for part in parts[4:11])
            scale = 1e7 if frame in _GLOBAL else 1.0 if frame == Frame.MISSION else 1e4
            item = PlanItem(
                command, frame, one, two, three, four, scaled(x, scale), scaled(y, scale), z, parts[11] == "1"
            )
        except (ValueError, OverflowError) as error:
            raise ValueError(f"item {number}: {error}") from None
        items.append(item)
    return items


def write_waypoints(items: Sequence[PlanItem]) -> str:
    """The items as a `QGC WPL 110` file."""
    lines = ["QGC WPL 110"]
    for number, item in enumerate(items):
        x, y = item.place
        numbers = (item.param1, item.param2, item.param3, item.param4, x, y, item.z)
        columns = [number, int(number == 0), item.frame, item.command]
        texts = [*map(str, columns), *(f"{value:.10g}" for value in numbers), str(int(item.autocontinue))]
        lines.append("\t".join(texts))
    return "\n".join(lines) + "\n"
