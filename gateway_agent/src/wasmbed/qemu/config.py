"""Configuration of wasmbed-serial: one file for the host, one file in a folder for each device."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wasmbed.service import ConfigError, HttpConfig, load_config

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEVICES: Final = 1000
MILLION: Final = 1_000_000
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class EndpointConfig:
    """Where a device's line is reached by TCP, and its speed in bits a second (10 bits a byte on the wire)."""

    port: int
    address: str = "127.0.0.1"
    baud: int = 115_200

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {self.port}")
        if not 300 <= self.baud <= 4_000_000:
            raise ValueError(f"baud must be 300 to 4000000, not {self.baud}")


@dataclass(frozen=True)
class FaultConfig:
    """Faults for tests: how many bytes of a million are lost or altered each way, by a seeded generator."""

    drop_per_million: int = 0
    corrupt_per_million: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.drop_per_million, self.corrupt_per_million) < 0 or (
            self.drop_per_million + self.corrupt_per_million > MILLION
        ):
            raise ValueError("drop_per_million and corrupt_per_million must be 0 or more and together at most 1000000")


@dataclass(frozen=True)
class DeviceConfig:
    """One device; `silence_reset_s` without a byte from it resets its machine, 0 never does.

    sensor_rate is how often its sensors have samples, of their own rates; 0 is never.
    """

    name: str
    serial: EndpointConfig
    faults: FaultConfig = FaultConfig()
    silence_reset_s: int = 120
    sensor_rate: float = 0.1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name must be a label of letters, digits and '-', not {self.name!r}")
        if self.silence_reset_s != 0 and not 5 <= self.silence_reset_s <= 86_400:
            raise ValueError(f"silence_reset_s must be 0 or 5 to 86400, not {self.silence_reset_s}")
        if self.sensor_rate != 0 and not 0.001 <= self.sensor_rate <= 1:
            raise ValueError(f"sensor_rate must be 0 or 0.001 to 1, not {self.sensor_rate}")


@dataclass(frozen=True)
class SerialConfig:
    """The host's file. QEMU has its sockets serial.sock, sensors.sock and monitor.sock in `run_directory`/<device>."""

    devices_directory: Path = Path("/etc/wasmbed/qemu")
    run_directory: Path = Path("/run/wasmbed-qemu")
    http: HttpConfig = field(default_factory=lambda: HttpConfig(9083))


def load_devices(
    directory: Path, before: Mapping[str, DeviceConfig] | None = None
) -> tuple[dict[str, DeviceConfig], list[str]]:
    """Read every `<name>.yaml` of a folder; returns the devices and what is wrong with files, each with its path.

    A file is wrong that cannot be read, whose name is another one's, or whose port another device has. Its device stays
    as it was before, or is left out. Raises ConfigError for a folder that is not there or has too many devices.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: not a folder; create it, the devices' files belong there")
    paths = sorted(directory.glob("*.yaml"))
    if len(paths) > MAX_DEVICES:
        raise ConfigError(f"{directory}: more than {MAX_DEVICES} devices; divide them over hosts")
    devices: dict[str, DeviceConfig] = {}
    endpoints: dict[tuple[str, int], str] = {}
    wrong: list[str] = []
    for path in paths:
        try:
            device = load_config(path, DeviceConfig)
            if device.name != path.stem:
                raise ConfigError(f"{path}: name is {device.name!r} and must be {path.stem!r}, as the file is called")
            taken = endpoints.get((device.serial.address, device.serial.port))
            if device.serial.port and taken is not None:
                raise ConfigError(f"{path}: port {device.serial.port} is taken by {taken}; choose another")
        except ConfigError as error:
            wrong.append(str(error))
            if before is None or path.stem not in before:
                continue
            device = before[path.stem]
        devices[device.name] = device
        endpoints[device.serial.address, device.serial.port] = device.name
    return devices, wrong
