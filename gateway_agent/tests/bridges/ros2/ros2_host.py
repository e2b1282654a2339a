"""An instance of an application as the dispatcher sees it, and somebody else's node in the same domain."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry
from ros2_support import LOOPBACK, until
from wasmbed.bridges.ros2 import Node
from wasmbed.bridges.ros2.dds import DdsBackend
from wasmbed.gateway.ros2 import Ros2Backend
from wasmbed.gateway.ros2_config import Ros2Config, Ros2DiscoveryConfig, Ros2PolicyConfig
from wasmbed.hostcalls import Dispatcher, HostCallMetrics, HostInstance, Status
from wasmbed.runtime import HostRequest
from wasmbed.runtime.abi import ROS2_HEADER, EventType, Ros2Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from wasmbed.bridges.ros2.types import CodecFactory
    from wasmbed.runtime import Delivery, Provision, Secret

ALL = Ros2PolicyConfig(("/*",), ("/*",), ("/*",), ("/*",))


class Told(NamedTuple):
    """An event ROS2."""

    handle: int
    kind: Ros2Kind
    status: int
    token: int
    data: bytes


@dataclass
class Runtime:
    """What the runtime would get."""

    backlog_bytes: int = 0
    events: list[Delivery] = field(default_factory=list)
    offers: list[Provision] = field(default_factory=list)

    def deliver(self, events: Sequence[Delivery]) -> None:
        self.events += events

    async def provide(self, provision: Provision) -> None:
        self.offers.append(provision)

    async def secret(self, secret: Secret) -> None:
        raise AssertionError

    def told(self, *kinds: Ros2Kind) -> list[Told]:
        found = []
        for event in self.events:
            if event.type == EventType.ROS2:
                kind, status, token, _ = ROS2_HEADER.unpack_from(event.data)
                found.append(Told(event.source, Ros2Kind(kind), status, token, event.data[ROS2_HEADER.size :]))
        return [told for told in found if not kinds or told.kind in kinds]


@dataclass
class Host:
    """The dispatcher with the backend; calls as an application's runtime makes them."""

    dispatcher: Dispatcher
    backend: Ros2Backend
    registry: CollectorRegistry
    runtime: Runtime = field(default_factory=Runtime)

    async def open(self, name: str = "app", device: str = "default/drone-1", **ros2: Any) -> None:
        await self.dispatcher.open(self.spec(name, device, **ros2), self.runtime)

    def spec(self, name: str = "app", device: str = "default/drone-1", **ros2: Any) -> HostInstance:
        return HostInstance(
            f"uid-{name}/{device}", f"default/{name}", f"uid-{name}", device, frozenset({"wasmbed:ros2"}), ros2=ros2
        )

    def call(
        self, op: str, *args: Any, data: bytes = b"", token: int = 0, name: str = "app", device: str = "default/drone-1"
    ) -> None:
        request = HostRequest(f"uid-{name}/{device}", f"default/{name}", device, "ros2", op, token, args, data)
        self.dispatcher.submit(request, self.runtime)

    def results(self, op: str) -> dict[str, int]:
        """How often an operation came to what."""
        return {
            result: int(count)
            for result in (status.name.lower() for status in Status)
            if (
                count := self.registry.get_sample_value(
                    "wasmbed_host_calls_total", {"module": "ros2", "op": op, "result": result}
                )
            )
        }

    def fate(self, route: str, fate: str, application: str = "default/app", device: str = "default/drone-1") -> int:
        """A counter of a route."""
        labels = {"application": application, "device": device, "route": route, "fate": fate}
        return int(self.registry.get_sample_value("wasmbed_ros2_route_messages_total", labels) or 0)


@contextlib.asynccontextmanager
async def hosted(section: Ros2Config, folder: Path) -> AsyncIterator[Host]:
    """A dispatcher with the backend of a configuration."""
    registry = CollectorRegistry()
    dispatcher = Dispatcher(metrics=HostCallMetrics(registry))
    async with Ros2Backend.running(section, "gw-1", folder) as backend:
        dispatcher.register(backend)
        registry.register(backend)  # type: ignore[arg-type]
        task = asyncio.create_task(dispatcher.run())
        try:
            yield Host(dispatcher, backend, registry)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def section(domain: int, **changes: Any) -> Ros2Config:
    """A configuration that stays on the loopback interface and allows everything."""
    values: dict[str, Any] = {"policy": ALL, "discovery": Ros2DiscoveryConfig(LOOPBACK.interfaces), **changes}
    return Ros2Config(domain=domain, **values)


@contextlib.asynccontextmanager
async def other_node(codecs: CodecFactory, domain: int) -> AsyncIterator[Node]:
    """A node in a participant of its own."""
    backend = DdsBackend(codecs, domain_id=domain, node="other", discovery=LOOPBACK)
    try:
        yield Node(backend, codecs, name="other")
    finally:
        await backend.aclose()


__all__ = ["ALL", "Host", "Runtime", "Told", "hosted", "other_node", "section", "until"]
