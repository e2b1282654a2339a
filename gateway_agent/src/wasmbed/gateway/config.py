"""Configuration of wasmbed-agent (/etc/wasmbed/agent.yaml)."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from wasmbed.gateway.flight_config import FlightConfig
from wasmbed.gateway.ros2_config import Ros2Config
from wasmbed.gateway.uplink_config import SecureConfig
from wasmbed.link.messages import MISSED_HEARTBEATS
from wasmbed.oci import RegistryConfig
from wasmbed.sensors import SensorConfig
from wasmbed.service import HttpConfig

MIB = 1024 * 1024


@dataclass(frozen=True)
class LeaseConfig:
    """How long (seconds) the gateway counts as alive after a renewal, and how often it renews."""

    duration_s: int = 40
    renew_s: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.renew_s * 2 <= self.duration_s:
            raise ValueError(f"duration_s must be at least twice renew_s ({self.renew_s}), not {self.duration_s}")


@dataclass(frozen=True)
class ArtifactsConfig:
    """Room for modules on disk (bytes), and how many are pulled at once."""

    max_total_bytes: int = 512 * MIB
    concurrent_pulls: int = 4

    def __post_init__(self) -> None:
        if self.max_total_bytes < MIB or not 1 <= self.concurrent_pulls <= 32:
            raise ValueError("max_total_bytes must be at least 1048576 and concurrent_pulls 1 to 32")


@dataclass(frozen=True)
class LinkConfig:
    """Where Linux devices connect, and by which certificates the two sides know each other (PEM files).

    Devices send a heartbeat every heartbeat_s seconds; one that misses three is disconnected.
    """

    port: int
    certificate: Path
    key: Path
    client_ca: Path
    address: str = "0.0.0.0"  # noqa: S104 - devices come from outside
    heartbeat_s: float = 30.0
    max_sessions: int = 2048

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {self.port}")
        if not 0.05 <= self.heartbeat_s <= 3600 or not 1 <= self.max_sessions <= 16384:
            raise ValueError("heartbeat_s must be 0.05 to 3600 and max_sessions 1 to 16384")

    @property
    def missed_s(self) -> float:
        """Seconds of silence after which a device counts as disconnected."""
        return self.heartbeat_s * MISSED_HEARTBEATS


@dataclass(frozen=True)
class LinesConfig:
    """Lines to microcontrollers: `serial:/dev/NAME[@BAUD]`, `unix:/PATH` or `tcp:HOST:PORT`.

    key_file has the gateway's static private key (32 bytes in base64, `wasmbed link-key` makes it), previous_key_file
    the one before it: devices that know the gateway by that are told the new one, until previous_key_until (RFC 3339),
    and are refused by name from then on. Devices whose public key is in replace_device_keys make another pair; the
    metric wasmbed_agent_line_next_key has its public half. Devices send a heartbeat every heartbeat_s seconds; one that
    misses three counts as disconnected.
    """

    key_file: Path
    addresses: tuple[str, ...] = ()
    previous_key_file: Path | None = None
    previous_key_until: str = ""
    replace_device_keys: tuple[str, ...] = ()
    heartbeat_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.heartbeat_s <= 3600 or len(self.addresses) > 1024:
            raise ValueError("heartbeat_s must be 1 to 3600, and addresses at most 1024")
        if len(set(self.addresses)) != len(self.addresses):
            raise ValueError("addresses names a line twice")
        if (self.previous_key_file is None) != (not self.previous_key_until):
            raise ValueError("previous_key_file and previous_key_until go together")
        if self.previous_key_until and datetime.fromisoformat(self.previous_key_until).tzinfo is None:
            raise ValueError(f"previous_key_until needs a zone, as 2026-12-01T00:00:00Z, not {self.previous_key_until}")

    @property
    def missed_s(self) -> float:
        """Seconds of silence after which a device counts as disconnected."""
        return self.heartbeat_s * MISSED_HEARTBEATS


@dataclass(frozen=True)
class SignaturesConfig:
    """Whose applications run here: PEM files of public keys (one or more each), one of which must have signed an image.

    `required` refuses all others, `warn` runs them and says so, `off` does not look.
    """

    policy: Literal["required", "warn", "off"] = "off"
    keys: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.policy != "off" and not self.keys:
            raise ValueError(f"policy {self.policy} needs keys; name at least one file, or set policy: off")


@dataclass(frozen=True)
class AgentConfig:
    """The whole file."""

    gateway: str
    kubeconfig: Path
    state_directory: Path = Path("/var/lib/wasmbed-agent")
    runtime_socket: Path = Path("/run/wasmbed-runtime/runtime.sock")
    http: HttpConfig = field(default_factory=lambda: HttpConfig(9080))
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    lease: LeaseConfig = LeaseConfig()
    artifacts: ArtifactsConfig = ArtifactsConfig()
    signatures: SignaturesConfig = SignaturesConfig()
    # Without it, no Linux device can connect.
    link: LinkConfig | None = None
    # Without it, no microcontroller is reached.
    lines: LinesConfig | None = None
    # Without it, no vehicle is reached.
    mavlink: FlightConfig | None = None
    ros2: Ros2Config | None = None
    secure: SecureConfig | None = None
    sensors: tuple[SensorConfig, ...] = ()
