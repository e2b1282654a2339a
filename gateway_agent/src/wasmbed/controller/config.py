"""The controller's configuration file (default /etc/wasmbed/controller.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the loader of configuration files reads the hints


@dataclass(frozen=True)
class HttpConfig:
    """Where /healthz, /readyz and /metrics are served."""

    address: str = "127.0.0.1"
    port: int = 9081


@dataclass(frozen=True)
class RegistryConfig:
    """How registries are reached: mirrors by host, the CA that signs their certificates, a docker config.json."""

    mirrors: dict[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    credentials_file: Path | None = None


@dataclass(frozen=True)
class LeaderElectionConfig:
    """The Lease by which one controller is chosen."""

    namespace: str = "wasmbed-system"
    name: str = "wasmbed-controller"


@dataclass(frozen=True)
class ControllerConfig:
    """The whole file."""

    kubeconfig: Path
    http: HttpConfig = HttpConfig()
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    leader_election: LeaderElectionConfig = LeaderElectionConfig()
