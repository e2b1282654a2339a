"""The bridge's configuration, as the gateway's file has it, and starting a bridge from it."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.bridge import Bridge
from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
from wasmbed.bridges.ros2.errors import ConfigurationError, NameRejectedError, Ros2Error
from wasmbed.bridges.ros2.names import check_namespace, check_node, remappings
from wasmbed.bridges.ros2.node import Node
from wasmbed.bridges.ros2.parameters import Parameter
from wasmbed.bridges.ros2.rclpy import RclpyBackend, RclpyInstallation
from wasmbed.bridges.ros2.routes import Policy
from wasmbed.bridges.ros2.types import DISTRIBUTIONS, PX4_RELEASES, CodecFactory, TypeStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from wasmbed.bridges.ros2.backend import Backend

log = logging.getLogger(__name__)

BACKENDS: Final = ("dds", "rclpy", "auto")
_LEVELS: Final = ("debug", "info", "warning", "error")
_KEYS: Final = {
    "backend": str,
    "distribution": str,
    "px4Release": str,
    "packages": list,
    "node": str,
    "namespace": str,
    "remap": list,
    "discovery": dict,
    "rclpy": dict,
    "policy": dict,
}


@dataclass(frozen=True)
class BridgeConfig:
    """One bridge; the domain comes with each start, since applications choose it."""

    backend: str = "dds"
    distribution: str = "jazzy"
    px4_release: str | None = None
    packages: tuple[Path, ...] = ()
    node: str = "wasmbed_bridge"
    namespace: str = "/"
    remap: tuple[str, ...] = ()
    discovery: Discovery = field(default_factory=Discovery)
    rclpy: RclpyInstallation | None = None
    policy: Policy = field(default_factory=Policy)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BridgeConfig:
        """Read the section `ros2`; raises ConfigurationError with the key."""
        for key, value in data.items():
            if key not in _KEYS:
                raise ConfigurationError(f"ros2: unknown {key}")
            if not isinstance(value, _KEYS[key]):
                raise ConfigurationError(f"ros2.{key}: a {_KEYS[key].__name__} is expected")
        backend = data.get("backend", "dds")
        if backend not in BACKENDS:
            raise ConfigurationError(f"ros2.backend: {backend!r} is none of {', '.join(BACKENDS)}")
        if backend == "rclpy" and "rclpy" not in data:
            raise ConfigurationError("ros2.rclpy: the backend rclpy needs rclpy.python, an interpreter that has it")
        distribution, release = data.get("distribution", "jazzy"), data.get("px4Release")
        if distribution not in DISTRIBUTIONS:
            raise ConfigurationError(f"ros2.distribution: {distribution!r} is none of {', '.join(DISTRIBUTIONS)}")
        if release is not None and release not in PX4_RELEASES:
            raise ConfigurationError(f"ros2.px4Release: {release!r} is none of {', '.join(PX4_RELEASES)}")
        try:
            node, namespace = check_node(data.get("node", cls.node)), check_namespace(data.get("namespace", "/"))
            remappings(data.get("remap", []), node, namespace)
        except NameRejectedError as error:
            raise ConfigurationError(f"ros2: {error}") from None
        return cls(
            backend,
            distribution,
            release,
            tuple(Path(item) for item in _texts(data, "packages")),
            node,
            namespace,
            _texts(data, "remap"),
            _discovery(data.get("discovery", {})),
            _installation(data["rclpy"]) if "rclpy" in data else None,
            Policy.from_dict(data.get("policy", {})),
        )

    def codecs(self) -> CodecFactory:
        """The types this bridge knows; raises ConfigurationError, DefinitionError."""
        return CodecFactory(TypeStore.of(self.distribution, self.px4_release, self.packages))


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = data.get(key, [])
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ConfigurationError(f"{key}: a list of strings is expected")
    return tuple(values)


def _discovery(data: Mapping[str, Any]) -> Discovery:
    if unknown := data.keys() - {"interfaces", "multicast", "peers", "file", "maxParticipants"}:
        raise ConfigurationError(f"ros2.discovery: unknown {', '.join(sorted(unknown))}")
    multicast, most = data.get("multicast", True), data.get("maxParticipants", 120)
    if not isinstance(multicast, bool) or type(most) is not int or not 1 <= most <= 120:
        raise ConfigurationError("ros2.discovery: multicast is true or false, maxParticipants 1 to 120")
    file = data.get("file")
    if file is not None and not isinstance(file, str):
        raise ConfigurationError("ros2.discovery.file: a path is expected")
    return Discovery(
        _texts(data, "interfaces"), multicast, _texts(data, "peers"), most, Path(file) if file is not None else None
    )


def _installation(data: Mapping[str, Any]) -> RclpyInstallation:
    if unknown := data.keys() - {"python", "setup", "environment"}:
        raise ConfigurationError(f"ros2.rclpy: unknown {', '.join(sorted(unknown))}")
    python, setup, environment = data.get("python"), data.get("setup"), data.get("environment", {})
    if not isinstance(python, str) or (setup is not None and not isinstance(setup, str)):
        raise ConfigurationError("ros2.rclpy: python is the path of an interpreter, setup that of a script to source")
    if not isinstance(environment, dict) or not all(isinstance(item, str) for item in environment.values()):
        raise ConfigurationError("ros2.rclpy.environment: names and strings are expected")
    return RclpyInstallation(Path(python), Path(setup) if setup else None, environment)


@asynccontextmanager
async def start(
    config: BridgeConfig,
    domain_id: int,
    *,
    codecs: CodecFactory | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> AsyncIterator[Bridge]:
    """Run a bridge in a domain within the context; `on_end` is called when it ends by itself, as a killed rclpy does.

    Raises:
        ConfigurationError, DefinitionError: it cannot be started so.
    """
    codecs = codecs or config.codecs()
    backend = await _backend(config, codecs, domain_id, on_end)
    rules = remappings(config.remap, config.node, config.namespace)
    node = Node(backend, codecs, name=config.node, namespace=config.namespace, remappings=rules)
    handler = RosoutHandler(node)
    bridge = Bridge(node, config.policy, domain_id)
    try:
        _offer_parameters(node, config, domain_id, handler)
        logging.getLogger("wasmbed.bridges.ros2").addHandler(handler)
        yield bridge
    finally:
        logging.getLogger("wasmbed.bridges.ros2").removeHandler(handler)
        bridge.close()
        await backend.aclose()


async def _backend(config: BridgeConfig, codecs: CodecFactory, domain_id: int, on_end: Callable[[], None]) -> Backend:
    """The backend that is configured; with auto rclpy where it comes up, else DDS, and the log says why."""
    if config.backend != "dds":
        try:
            if config.rclpy is None:
                raise ConfigurationError("ros2.rclpy: the backend rclpy needs rclpy.python")
            environment = {**config.discovery.variables(), **config.rclpy.environment}
            worker = await RclpyBackend.start(
                replace(config.rclpy, environment=environment),
                codecs,
                domain_id=domain_id,
                node=config.node,
                namespace=config.namespace,
            )
            worker.on_end = on_end
            log.info("backend rclpy domain=%d rmw=%s", domain_id, worker.rmw)
            return worker
        except ConfigurationError as error:
            if config.backend == "rclpy":
                raise
            log.info("backend dds, since there is no rclpy domain=%d reason=%s", domain_id, error)
    return DdsBackend(
        codecs,
        domain_id=domain_id,
        node=config.node,
        namespace=config.namespace,
        discovery=config.discovery,
        distribution=config.distribution,
    )


def _offer_parameters(node: Node, config: BridgeConfig, domain_id: int, handler: RosoutHandler) -> None:
    def check(name: str, value: Any) -> str | None:
        return None if name != "log_level" or value in _LEVELS else f"one of {', '.join(_LEVELS)} is expected"

    node.offer_parameters(
        {
            "backend": Parameter(node.backend.name, "How the bridge takes part in ROS 2", read_only=True),
            "distribution": Parameter(config.distribution, "Whose interface definitions it uses", read_only=True),
            "domain_id": Parameter(domain_id, "DDS domain", read_only=True),
            "log_level": Parameter("info", "From which level its lines go to /rosout"),
        },
        check=check,
        on_change=lambda _, value: handler.setLevel(str(value).upper()),
    )


class RosoutHandler(logging.Handler):
    """Publishes the bridge's log lines on /rosout."""

    def __init__(self, node: Node) -> None:
        super().__init__(logging.INFO)
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record; what goes wrong then is not logged, since that would come here again."""
        try:
            self._node.log(record.levelno, record.getMessage())
        except Ros2Error:
            pass  # of a bridge that has ended
        except (ValueError, TypeError):
            self.handleError(record)
