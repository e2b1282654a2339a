"""Samples as applications get them (docs/abi.md, `wasmbed:sensor`)."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wasmbed.runtime.abi import SAMPLE, SampleFormat, SensorKind

if TYPE_CHECKING:
    from collections.abc import Sequence


class SensorError(Exception):
    """A sensor cannot be read; the message says which part of it, and why."""


@dataclass(frozen=True)
class Reading:
    """Values, NaN for those that are not known, measured at a time (nanoseconds since 1970)."""

    values: tuple[float, ...]
    time_ns: int = 0


class VehicleSource(Protocol):
    """The autopilots' sensors, which the flight bridge has."""

    def reading(self, device: str, kind: SensorKind) -> Reading | None:
        """The newest reading of a device's autopilot in the units of the kind, None when there is none (yet)."""
        ...


def sample(kind: SensorKind, reading: Reading, count: int) -> bytes:
    """A sample of `count` values: f64 for gps, else f32; what is missing is NaN."""
    values: Sequence[float] = [*reading.values[:count], *[math.nan] * (count - len(reading.values))]
    wide = kind is SensorKind.GPS
    if not wide:
        # What no f32 can hold is not known.
        values = [value if math.isfinite(value) and abs(value) < 3.4e38 else math.nan for value in values]
    data = struct.pack(f"<{count}{'d' if wide else 'f'}", *values)
    form = SampleFormat.F64 if wide else SampleFormat.F32
    return SAMPLE.pack(reading.time_ns or time.time_ns(), kind, count, 0, 0, form, len(data)) + data


def frame(width: int, height: int, form: SampleFormat, pixels: bytes) -> bytes:
    """A frame of a camera."""
    return SAMPLE.pack(time.time_ns(), SensorKind.CAMERA, 0, width, height, form, len(pixels)) + pixels
