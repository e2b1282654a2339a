"""The section `sensors` of agent.yaml and device.yaml: a list of sensors, each with the provider that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wasmbed.runtime.abi import SensorKind

MAX_VALUES: Final = 64
NAME_BYTES: Final = 19
# Values of a sample by kind; generic has as many as are configured.
VALUES: Final = {
    SensorKind.IMU: 6,
    SensorKind.BAROMETER: 2,
    SensorKind.GPS: 3,
    SensorKind.BATTERY: 3,
    SensorKind.TEMPERATURE: 1,
    SensorKind.CAMERA: 0,
    SensorKind.HUMIDITY: 1,
    SensorKind.GENERIC: MAX_VALUES,
}
VEHICLE_KINDS: Final = ("imu", "barometer", "gps", "battery")


@dataclass(frozen=True)
class SensorConfig:
    """One sensor, for the devices (namespace/name, shell patterns) that have the capability, if one is named.

    Without `devices` it is for those whose applications run here, not for ones that have sensors of their own.

    `provider` decides which of the others count:
    file: `paths`, text files whose first number is a value; thermal: `chip` is the zone's type; hwmon and iio: `chip`
    is the chip's name, `channels` its values; camera: `paths` is one file or FIFO in YUV4MPEG2, `grey` leaves the
    colours out; vehicle: the autopilot's own. `root` is where sysfs is.
    A value is multiplied by `scale`, then `offset` is added. No sample comes sooner than `interval_ms` after another.
    """

    name: str
    kind: Literal["imu", "barometer", "gps", "battery", "temperature", "camera", "humidity", "generic"]
    provider: Literal["file", "thermal", "hwmon", "iio", "camera", "vehicle"]
    devices: tuple[str, ...] = ()
    capability: str = ""
    interval_ms: int = 1000
    paths: tuple[Path, ...] = ()
    chip: str = ""
    channels: tuple[str, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    grey: bool = False
    root: Path = Path("/sys")

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= NAME_BYTES:
            raise ValueError(f"name must have 1 to {NAME_BYTES} bytes, not {self.name!r}")
        if not 10 <= self.interval_ms <= 3_600_000:
            raise ValueError(f"{self.name}: interval_ms must be 10 to 3600000, not {self.interval_ms}")
        if (self.kind == "camera") != (self.provider == "camera"):
            raise ValueError(f"{self.name}: the provider camera is for the kind camera, and no other is")
        if self.provider == "vehicle" and self.kind not in VEHICLE_KINDS:
            raise ValueError(f"{self.name}: an autopilot has {', '.join(VEHICLE_KINDS)}, not {self.kind}")
        if self.provider == "camera" and len(self.paths) != 1:
            raise ValueError(f"{self.name}: paths must be the one file or FIFO of the camera")
        if self.provider == "file" and not self.paths:
            raise ValueError(f"{self.name}: paths must name the files of the values")
        if self.provider in {"thermal", "hwmon", "iio"} and not self.chip:
            raise ValueError(f"{self.name}: chip must be the name of the chip or the type of the thermal zone")
        if self.provider in {"hwmon", "iio"} and not self.channels:
            raise ValueError(f"{self.name}: channels must name the values, for example temp1_input or in_accel_x")
        if any("/" in channel for channel in self.channels):
            raise ValueError(f"{self.name}: channels are names of files, without /")
        given = len(self.paths if self.provider == "file" else self.channels)
        if self.provider in {"file", "hwmon", "iio"} and given > VALUES[self.sensor_kind]:
            raise ValueError(f"{self.name}: {self.kind} has {VALUES[self.sensor_kind]} values, not {given}")

    @property
    def sensor_kind(self) -> SensorKind:
        """The kind as the ABI numbers it."""
        return SensorKind[self.kind.upper()]

    @property
    def values(self) -> int:
        """Values of a sample; 0 for pixels."""
        if self.sensor_kind is SensorKind.GENERIC:
            return len(self.paths if self.provider == "file" else self.channels)
        return VALUES[self.sensor_kind]
