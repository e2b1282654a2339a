"""Quaternions (w, x, y, z) and Euler angles in the aerospace order: yaw, pitch, roll; radians."""

import math

Quaternion = tuple[float, float, float, float]

UNKNOWN: Quaternion = (math.nan, math.nan, math.nan, math.nan)


def from_euler(roll: float, pitch: float, yaw: float) -> Quaternion:
    """The rotation from body (forward, right, down) to north, east, down."""
    cr, sr = math.cos(roll / 2), math.sin(roll / 2)
    cp, sp = math.cos(pitch / 2), math.sin(pitch / 2)
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    return (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )


def to_euler(q: Quaternion) -> tuple[float, float, float]:
    """Roll, pitch and yaw; NaN for a quaternion that is not known or has no length."""
    w, x, y, z = q
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not length > 0.0 or not math.isfinite(length):
        return math.nan, math.nan, math.nan
    w, x, y, z = w / length, x / length, y / length, z / length
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x))))
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw
