"""How parameter values travel in PARAM_VALUE's float field: bytes of the value (PX4) or the value cast (ArduPilot)."""

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

FLOAT = 9
INT32 = 6
_FORMATS = {1: "B", 2: "b", 3: "H", 4: "h", 5: "I", 6: "i", 9: "f"}
_LIMITS = {1: (0, 255), 2: (-128, 127), 3: (0, 65535), 4: (-32768, 32767), 5: (0, 2**32 - 1), 6: (-(2**31), 2**31 - 1)}
_BYTEWISE_BIT = 16
_C_CAST_BIT = 131072
AUTOPILOT_ARDUPILOT = 3

Number = int | float


class Encoding(StrEnum):
    """How a vehicle encodes parameter values."""

    BYTEWISE = "bytewise"
    C_CAST = "c_cast"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value with its MAV_PARAM_TYPE and its place in the vehicle's list (-1: not known)."""

    name: str
    value: Number
    type: int
    index: int = -1


def encoding_of(autopilot: int, capabilities: int | None) -> Encoding:
    """The encoding a vehicle uses: what it says; else C-cast for ArduPilot and bytes for PX4, which say nothing."""
    if capabilities is not None and capabilities & _BYTEWISE_BIT:
        return Encoding.BYTEWISE
    if capabilities is not None and capabilities & _C_CAST_BIT:
        return Encoding.C_CAST
    return Encoding.C_CAST if autopilot == AUTOPILOT_ARDUPILOT else Encoding.BYTEWISE


def decode_value(wire: bytes, kind: int, encoding: Encoding) -> Number:
    """The value in a PARAM_VALUE. ValueError for a type that MAVLink parameters cannot carry (64 bits) or no number."""
    if kind not in _FORMATS:
        raise ValueError(f"parameter type {kind} cannot travel in PARAM_VALUE")
    number: float = struct.unpack("<f", wire)[0]
    if kind == FLOAT:
        return number
    if encoding is Encoding.C_CAST:
        if not math.isfinite(number):
            raise ValueError(f"{number} is no whole number")
        return round(number)
    value: int = struct.unpack_from("<" + _FORMATS[kind], wire)[0]
    return value


def encode_value(value: Number, kind: int, encoding: Encoding) -> bytes:
    """The four bytes for a value.

    ValueError for a value that the type cannot hold, and for one that a cast to float would change: a parameter
    that arrives as another number than was written is worse than one that is refused.
    """
    if kind not in _FORMATS:
        raise ValueError(f"parameter type {kind} cannot travel in PARAM_SET")
    if kind == FLOAT:
        return struct.pack("<f", single(value))
    low, high = _LIMITS[kind]
    if not low <= value <= high or value != int(value):
        raise ValueError(f"{value} is not a whole number from {low} to {high}")
    if encoding is Encoding.C_CAST:
        if single(value) != value:
            raise ValueError(f"{value} cannot be sent exactly: this vehicle takes whole numbers up to 16777216")
        return struct.pack("<f", value)
    return struct.pack("<" + _FORMATS[kind], int(value)).ljust(4, b"\0")


def single(value: Number) -> float:
    """A number as a 32-bit float holds it. ValueError when it is too large."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise ValueError(f"{value} is too large for a 32-bit float") from None
    return rounded


def same(left: Number, right: Number, kind: int) -> bool:
    """Whether two values are one on the vehicle; floats are compared as 32-bit floats."""
    if kind == FLOAT:
        return single(left) == single(right)
    return left == right


def px4_hash(parameters: Iterable[Parameter]) -> int:
    """PX4's `_HASH_CHECK` over parameters, by name: CRC-32 (start 0, not inverted) of each name and its 4 value bytes.

    PX4 leaves volatile and unused parameters out; which those are only the vehicle knows.
    """
    crc = 0
    for item in sorted(parameters, key=lambda item: item.name):
        data = item.name.encode() + struct.pack("<f" if item.type == FLOAT else "<i", item.value)
        # zlib inverts before and after; PX4 does neither.
        crc = zlib.crc32(data, crc ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc
