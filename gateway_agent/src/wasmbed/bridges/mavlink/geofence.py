"""A geofence: where an application may have its vehicle be."""

import math
from dataclasses import dataclass

from wasmbed.bridges.mavlink.ground import METRES_A_DEGREE, distance


@dataclass(frozen=True, slots=True)
class Geofence:
    """A polygon (latitude, longitude) or a circle, and heights above home in metres."""

    polygon: tuple[tuple[float, float], ...] = ()
    centre: tuple[float, float] | None = None
    radius_m: float = 0.0
    max_height_m: float = 120.0
    min_height_m: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.polygon) == (self.centre is not None):
            raise ValueError("a geofence is a polygon or a circle (centre and radius_m)")
        if self.polygon and len(self.polygon) < 3:
            raise ValueError("a polygon has three corners at least")
        if self.centre is not None and not self.radius_m > 0:
            raise ValueError("radius_m must be above 0")

    def refuses(self, latitude: float, longitude: float, height_m: float | None, radius_m: float = 0.0) -> str | None:
        """Why a place, with all that is within `radius_m` of it, is not allowed; None when it is.

        A place that is no number is not allowed. Without a height only the place is looked at.
        """
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            return "the place is not on Earth"
        if not self._contains(latitude, longitude):
            return f"{latitude:.6f}, {longitude:.6f} is outside of the geofence"
        if radius_m and not radius_m <= self._margin(latitude, longitude):
            return f"a circle of {radius_m:g} m around {latitude:.6f}, {longitude:.6f} leaves the geofence"
        return None if height_m is None else self.refuses_height(height_m)

    def refuses_height(self, height_m: float) -> str | None:
        """Why a height above home is not allowed; None when it is."""
        if not self.min_height_m <= height_m <= self.max_height_m:
            return f"{height_m:.1f} m is not between {self.min_height_m:g} and {self.max_height_m:g} m above home"
        return None

    def _contains(self, latitude: float, longitude: float) -> bool:
        if self.centre is not None:
            return distance(latitude, longitude, *self.centre) <= self.radius_m
        inside = False
        for number, (lat1, lon1) in enumerate(self.polygon):
            lat2, lon2 = self.polygon[number - 1]
            # Count the edges that a ray to the east crosses.
            if (lat1 > latitude) != (lat2 > latitude):
                crossing = lon1 + (latitude - lat1) / (lat2 - lat1) * (lon2 - lon1)
                inside ^= longitude < crossing
        return inside

    def _margin(self, latitude: float, longitude: float) -> float:
        """Metres from a place inside to the nearest side."""
        if self.centre is not None:
            return self.radius_m - distance(latitude, longitude, *self.centre)
        shrink = math.cos(math.radians(latitude))
        corners = [
            ((lat - latitude) * METRES_A_DEGREE, (lon - longitude) * METRES_A_DEGREE * shrink)
            for lat, lon in self.polygon
        ]
        return min(_from_origin(corners[number - 1], corner) for number, corner in enumerate(corners))


def _from_origin(start: tuple[float, float], end: tuple[float, float]) -> float:
    """The distance of a line between two points from 0, 0."""
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2
    part = -(start[0] * along[0] + start[1] * along[1]) / length if length else 0.0
    part = min(1.0, max(0.0, part))
    return math.hypot(start[0] + part * along[0], start[1] + part * along[1])
