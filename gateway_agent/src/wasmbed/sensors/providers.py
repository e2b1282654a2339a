"""What reads sensors. Everything here may block and runs on a thread of its sensor alone."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final, Protocol

from wasmbed.runtime.abi import SAMPLE
from wasmbed.sensors.sample import Reading, SensorError, frame, sample
from wasmbed.sensors.y4m import Y4m, pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.sensors.config import SensorConfig

MAX_FILE_BYTES: Final = 4096
# Frames that wait in a FIFO and are left out for the newest; a writer without a pause must not keep us from it.
MAX_SKIPPED: Final = 8
_NUMBER: Final = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# Kernel units to those of the ABI (Documentation/hwmon/sysfs-interface.rst, Documentation/ABI/testing/sysfs-bus-iio).
_HWMON: Final = {"temp": 1e-3, "in": 1e-3, "curr": 1e-3, "humidity": 1e-3, "power": 1e-6, "energy": 1e-6}
_IIO: Final = {"in_pressure": 1e3, "in_temp": 1e-3, "in_humidityrelative": 1e-3, "in_voltage": 1e-3, "in_current": 1e-3}


class Provider(Protocol):
    """One sensor's hardware."""

    def read(self) -> bytes | None:
        """A sample, or None when the thread is to end; raises SensorError."""
        ...

    def close(self) -> None: ...


def provider_of(config: SensorConfig, ended: Callable[[], bool]) -> Provider:
    """Open the provider of a sensor; raises SensorError."""
    if config.provider == "camera":
        return Camera(config, ended)
    if config.provider == "file":
        return Files(config, [_value(path, config.scale, config.offset) for path in config.paths])
    if config.provider == "thermal":
        zone = find(config.root / "class/thermal", "thermal_zone*", "type", config.chip)
        return Files(config, [_value(zone / "temp", config.scale * 1e-3, config.offset)])
    if config.provider == "hwmon":
        chip = find(config.root / "class/hwmon", "hwmon*", "name", config.chip)
        factors = [config.scale * _unit(name, _HWMON) for name in config.channels]
        values = zip(config.channels, factors, strict=True)
        return Files(config, [_value(chip / name, factor, config.offset) for name, factor in values])
    chip = find(config.root / "bus/iio/devices", "iio:device*", "name", config.chip)
    return Files(config, [_iio(chip, name, config) for name in config.channels])


class Files:
    """Values of text files."""

    def __init__(self, config: SensorConfig, values: list[Callable[[], float]]) -> None:
        self._kind, self._count, self._values = config.sensor_kind, config.values, values

    def read(self) -> bytes | None:
        now = time.time_ns()
        return sample(self._kind, Reading(tuple(value() for value in self._values), now), self._count)

    def close(self) -> None:
        pass


class Camera:
    """Frames of a file or FIFO."""

    def __init__(self, config: SensorConfig, ended: Callable[[], bool]) -> None:
        self._stream = Y4m(config.paths[0], ended)
        self._grey = config.grey

    def read(self) -> bytes | None:
        stream = self._stream
        planes = stream.next()
        for _ in range(MAX_SKIPPED):
            if planes is None or not stream.waiting():
                break
            planes = stream.next()
        if planes is None:
            return None
        return frame(stream.width, stream.height, *pixels(stream, planes, self._grey))

    def close(self) -> None:
        self._stream.close()

    @property
    def max_bytes(self) -> int:
        """Bytes of a sample."""
        stream = self._stream
        return SAMPLE.size + (stream.width * stream.height if self._grey else stream.frame_bytes)


def number(path: Path) -> float:
    """The first number of a text file; raises SensorError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES)
    except OSError as error:
        raise SensorError(f"{path}: {error.strerror}") from error
    found = _NUMBER.search(data)
    if found is None:
        raise SensorError(f"{path}: no number in {data[:40]!r}")
    value = float(found[0])
    if not math.isfinite(value):
        raise SensorError(f"{path}: {found[0][:40]!r} is not finite")
    return value


def find(folder: Path, pattern: str, attribute: str, value: str) -> Path:
    """The device of a class whose attribute has this value; raises SensorError."""
    seen = []
    try:
        for path in sorted(folder.glob(pattern)):
            text = (path / attribute).read_text(encoding="utf-8", errors="replace")[:256].strip()
            if text == value:
                return path
            seen.append(text)
    except OSError as error:
        raise SensorError(f"{folder}: {error.strerror}") from error
    there = f"there are {', '.join(sorted(set(seen)))}" if seen else "there is none"
    raise SensorError(f"{folder}: no {pattern} with {attribute} {value!r}; {there}")


def _value(path: Path, factor: float, offset: float) -> Callable[[], float]:
    return lambda: number(path) * factor + offset


def _unit(channel: str, units: dict[str, float]) -> float:
    """The factor of the longest prefix that is known."""
    return next((units[key] for key in sorted(units, key=len, reverse=True) if channel.startswith(key)), 1.0)


def _iio(chip: Path, channel: str, config: SensorConfig) -> Callable[[], float]:
    """A channel of an IIO device: its `_input`, or (`_raw` + `_offset`) * `_scale`; raises SensorError."""
    factor = config.scale * _unit(channel, _IIO)
    if (chip / f"{channel}_input").exists():
        return lambda: number(chip / f"{channel}_input") * factor + config.offset
    raw = chip / f"{channel}_raw"
    number(raw)
    # Axes share what is written without them: in_accel_scale.
    names = [channel, re.sub(r"_[xyz]$", "", channel)]

    def shared(suffix: str, default: float) -> float:
        return next(
            (number(chip / f"{name}_{suffix}") for name in names if (chip / f"{name}_{suffix}").exists()), default
        )

    scale, offset = shared("scale", 1.0), shared("offset", 0.0)
    return lambda: (number(raw) + offset) * scale * factor + config.offset
