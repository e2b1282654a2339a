"""The controller's configuration file (default /etc/wasmbed/controller.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the loader of configuration files reads the hints

from wasmbed.oci import RegistryConfig
from wasmbed.service import HttpConfig


@dataclass(frozen=True)
class LeaderElectionConfig:
    """The Lease by which one controller is chosen."""

    namespace: str = "wasmbed-system"
    name: str = "wasmbed-controller"


@dataclass(frozen=True)
class ControllerConfig:
    """The whole file."""

    kubeconfig: Path
    http: HttpConfig = field(default_factory=lambda: HttpConfig(9081))
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    leader_election: LeaderElectionConfig = LeaderElectionConfig()
