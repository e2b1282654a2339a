"""The section `ros2` of agent.yaml: domains, what is allowed there, how the bridge takes part, what is recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - the loader reads the hints
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the loader reads the hints
from typing import Any, Literal

from wasmbed.bridges.ros2 import BridgeConfig, Policy
from wasmbed.bridges.ros2.dds import Discovery
from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.qos import QosProfile, profile
from wasmbed.bridges.ros2.rclpy import RclpyInstallation
from wasmbed.bridges.ros2.recording import RecordingLimits
from wasmbed.gateway.ros2_routes import MAX_CONFIGURED, Ros2RoutesConfig

MAX_DOMAIN = 232
MAX_RECORDED = 256


@dataclass(frozen=True)
class Ros2DiscoveryConfig:
    """How other nodes are found: names of network interfaces, multicast, addresses, or a file of Cyclone DDS."""

    interfaces: tuple[str, ...] = ()
    multicast: bool = True
    peers: tuple[str, ...] = ()
    max_participants: int = 120
    file: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_participants <= 120:
            raise ValueError(f"max_participants must be 1 to 120, not {self.max_participants}")


@dataclass(frozen=True)
class Ros2RclpyConfig:
    """An interpreter that has rclpy, a script to source before it, variables such as RMW_IMPLEMENTATION."""

    python: Path
    setup: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ros2PolicyConfig:
    """What applications may do: shell patterns of full names by direction; what is not listed is refused.

    `domains` are the DDS domains they may be in, the gateway's own alone when there are none.
    """

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    domains: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for direction in ("subscribe", "publish", "call", "serve"):
            for pattern in getattr(self, direction):
                if not pattern.startswith(("/", "*")):
                    raise ValueError(f"{direction}: {pattern!r} must be a pattern of full names such as /drone1/*")
        if not all(0 <= domain <= MAX_DOMAIN for domain in self.domains):
            raise ValueError(f"domains must be 0 to {MAX_DOMAIN}")


@dataclass(frozen=True)
class Ros2RecordedConfig:
    """A topic that is recorded in a domain, the gateway's own without one; `qos` is a profile's name."""

    topic: str
    type: str
    qos: str = "default"
    domain: int | None = None

    def __post_init__(self) -> None:
        try:
            self.profile()
        except Ros2Error as error:
            raise ValueError(str(error)) from None

    def profile(self) -> QosProfile:
        """The QoS of the subscription."""
        return profile(self.qos)

    @property
    def full_type(self) -> str:
        """The type as package/msg/Name."""
        return self.type.replace("/", "/msg/") if self.type.count("/") == 1 else self.type


@dataclass(frozen=True)
class Ros2RecordingConfig:
    """Recording to MCAP files: bytes and seconds of one file, bytes of all files of all recordings in the folder."""

    topics: tuple[Ros2RecordedConfig, ...]
    folder: Path | None = None
    max_file_bytes: int = 256 << 20
    max_file_s: float = 3600.0
    max_total_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if not 1 <= len(self.topics) <= MAX_RECORDED:
            raise ValueError(f"topics must be 1 to {MAX_RECORDED} topics")
        try:
            self.limits()
        except Ros2Error:
            raise ValueError(
                "max_file_bytes must be at least 65536, max_file_s 1, max_total_bytes twice max_file_bytes"
            ) from None

    def limits(self) -> RecordingLimits:
        """Limits of one recording."""
        return RecordingLimits(self.max_file_bytes, self.max_file_s, self.max_total_bytes)


@dataclass(frozen=True)
class Ros2Config:
    """The whole section; `node` is wasmbed_<gateway> without one, `domain` that of applications that name none."""

    domain: int = 0
    backend: Literal["dds", "rclpy", "auto"] = "dds"
    distribution: Literal["humble", "iron", "jazzy", "kilted"] = "jazzy"
    px4_release: Literal["1.14", "1.15", "1.16", "1.17", "1.18"] | None = None
    packages: tuple[Path, ...] = ()
    node: str = ""
    namespace: str = "/"
    remap: tuple[str, ...] = ()
    discovery: Ros2DiscoveryConfig = field(default_factory=Ros2DiscoveryConfig)
    rclpy: Ros2RclpyConfig | None = None
    policy: Ros2PolicyConfig = field(default_factory=Ros2PolicyConfig)
    recording: Ros2RecordingConfig | None = None
    routes: tuple[Ros2RoutesConfig, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.domain <= MAX_DOMAIN:
            raise ValueError(f"domain must be 0 to {MAX_DOMAIN}, not {self.domain}")
        if sum(item.count() for item in self.routes) > MAX_CONFIGURED:
            raise ValueError(f"routes must be {MAX_CONFIGURED} at most")
        if self.backend == "rclpy" and self.rclpy is None:
            raise ValueError("the backend rclpy needs rclpy.python, an interpreter that has it")
        try:
            BridgeConfig.from_dict(self._names("gateway"))
        except Ros2Error as error:
            raise ValueError(str(error).removeprefix("ros2: ").removeprefix("ros2.")) from None

    def bridge(self, gateway: str) -> BridgeConfig:
        """The bridge's own configuration."""
        names = BridgeConfig.from_dict(self._names(gateway))
        found, rclpy = self.discovery, self.rclpy
        return BridgeConfig(
            self.backend,
            self.distribution,
            self.px4_release,
            self.packages,
            names.node,
            names.namespace,
            names.remap,
            Discovery(found.interfaces, found.multicast, found.peers, found.max_participants, found.file),
            RclpyInstallation(rclpy.python, rclpy.setup, rclpy.environment) if rclpy is not None else None,
            self.bridge_policy(),
        )

    def bridge_policy(self) -> Policy:
        """What is allowed, and in which domains."""
        policy = self.policy
        domains = frozenset(policy.domains or (self.domain,))
        return Policy(policy.subscribe, policy.publish, policy.call, policy.serve, domains)

    def _names(self, gateway: str) -> dict[str, Any]:
        node = self.node or "wasmbed_" + re.sub(r"[^A-Za-z0-9]+", "_", gateway)
        return {"node": node, "namespace": self.namespace, "remap": list(self.remap)}
