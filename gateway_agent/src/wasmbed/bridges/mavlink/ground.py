"""Distances and ways on the ground, on a round Earth."""

import math

from wasmbed.bridges.mavlink.vehicle_state import Position

EARTH_RADIUS_M = 6_371_000.0
METRES_A_DEGREE = math.radians(1.0) * EARTH_RADIUS_M


def distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Metres between two places on the ground, by the haversine formula; NaN for places that are none."""
    if not all(math.isfinite(value) for value in (latitude, longitude, other_latitude, other_longitude)):
        return math.nan
    one, two = math.radians(latitude), math.radians(other_latitude)
    half = math.sin((two - one) / 2) ** 2
    half += math.cos(one) * math.cos(two) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, half)))


def moved(start: Position, north_m: float, east_m: float) -> tuple[float, float]:
    """The latitude and longitude so many metres from a place; for ways that are short beside the Earth."""
    shrink = max(math.cos(math.radians(start.latitude)), 1e-6)
    return start.latitude + north_m / METRES_A_DEGREE, start.longitude + east_m / METRES_A_DEGREE / shrink
