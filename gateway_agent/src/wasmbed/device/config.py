"""Configuration of wasmbed-device (/etc/wasmbed/device.yaml)."""

from dataclasses import dataclass, field
from pathlib import Path

from wasmbed.link.tls import MAX_NAME, IdentityError, split_name
from wasmbed.sensors import SensorConfig
from wasmbed.service import HttpConfig

MIB = 1024 * 1024


@dataclass(frozen=True)
class SpoolConfig:
    """Room (bytes) for what waits for the gateway: log lines, of which the oldest give way, and sealed messages."""

    logs_bytes: int = 16 * MIB
    sealed_bytes: int = 16 * MIB

    def __post_init__(self) -> None:
        if min(self.logs_bytes, self.sealed_bytes) < 64 * 1024:
            raise ValueError("logs_bytes and sealed_bytes must be at least 65536")


@dataclass(frozen=True)
class RetryConfig:
    """Seconds before the first try to connect anew after a failure, and the most they grow to; spread by a half."""

    first_s: float = 1.0
    last_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.first_s <= self.last_s <= 3600:
            raise ValueError("first_s must be at least 0.01 and last_s first_s to 3600")


@dataclass(frozen=True)
class DeviceConfig:
    """The whole file. device is namespace/name of the EdgeDevice, gateway host:port of its gateway."""

    device: str
    gateway: str
    certificate: Path
    key: Path
    gateway_ca: Path
    state_directory: Path = Path("/var/lib/wasmbed-device")
    runtime_socket: Path = Path("/run/wasmbed-runtime/runtime.sock")
    http: HttpConfig = field(default_factory=lambda: HttpConfig(9082))
    modules_bytes: int = 256 * MIB
    spool: SpoolConfig = SpoolConfig()
    retry: RetryConfig = RetryConfig()
    # The device's own sensors. With any, those that the gateway may have for it do not count.
    sensors: tuple[SensorConfig, ...] = ()
    # The name that the gateway's certificate must be for; that of `gateway` when empty.
    gateway_name: str = ""

    def __post_init__(self) -> None:
        try:
            split_name(self.device)
        except IdentityError as error:
            raise ValueError(f"device: {error}") from error
        if len(self.device) > MAX_NAME:
            raise ValueError(f"device may have at most {MAX_NAME} characters, for its certificate to name it")
        host, _, port = self.gateway.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"gateway must be host:port, not {self.gateway!r}")
        if any(sensor.provider == "vehicle" for sensor in self.sensors):
            raise ValueError("sensors of provider vehicle are the gateway's; name them in its configuration")
        if self.modules_bytes < MIB:
            raise ValueError(f"modules_bytes must be at least {MIB}")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        host, _, port = self.gateway.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def server_name(self) -> str:
        """The name that the gateway's certificate must be for."""
        return self.gateway_name or self.address[0]
