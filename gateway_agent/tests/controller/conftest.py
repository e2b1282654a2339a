"""A controller with its real rights on the real control plane, and what its tests need around it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from wasmbed.api import EDGE_DEVICE, PLACEMENT, WASM_APPLICATION
from wasmbed.controller.controller import Controller
from wasmbed.controller.metrics import Metrics
from wasmbed.kube import EVENT, NAMESPACE, Kube, Recorder
from wasmbed.oci import ImageError
from wasmbed.service import Health

from tests.support.processes import ROOT
from tests.support.simulated import SimulatedGateway
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.cluster import Cluster

USER = "wasmbed:controller"


@dataclass
class World:
    """A namespace, a gateway and images of one test; the controller resolves `images` and counts how often."""

    cluster: Cluster
    kube: Kube
    namespace: str
    gateway: SimulatedGateway
    device_type: str
    images: dict[str, str] = field(default_factory=dict)
    resolved: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def image(self, name: str) -> str:
        """A reference that can be resolved."""
        reference = f"registry.example/{name}:v1"
        self.images[reference] = "sha256:" + secrets.token_hex(32)
        return reference

    async def resolve(self, reference: str) -> str:
        self.resolved.append(reference)
        if reference not in self.images:
            raise ImageError(f"{reference} does not exist; push it")
        return self.images[reference]

    @contextlib.asynccontextmanager
    async def controller(self, *, port: int | None = None) -> AsyncIterator[Controller]:
        """A controller that runs while the context lasts; `port` is that of a proxy before the API server."""
        self.metrics = Metrics()
        kubeconfig = self.cluster.folder / f"{USER.replace(':', '-')}.kubeconfig"
        if port is not None:
            kubeconfig = self.cluster.user(USER, url=f"https://127.0.0.1:{port}")
        async with Kube.from_kubeconfig(kubeconfig, user_agent="test-controller") as kube:
            recorder = Recorder(kube, controller="wasmbed.io/controller", instance="test")
            controller = Controller(kube, self.resolve, recorder, self.metrics, Health(), image_backoff_s=(0.05, 0.2))
            async with running(controller.run()):
                yield controller

    async def device(self, name: str, **changes: Any) -> dict[str, Any]:
        """Create or change an EdgeDevice that the gateway serves."""
        labels = changes.pop("labels", {"model": "a"})
        spec = {"deviceType": self.device_type, "network": {"gatewayEndpoint": self.gateway.endpoint}, **changes}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        return await self.kube.apply(EDGE_DEVICE, {"metadata": metadata, "spec": spec}, manager="test")

    async def application(self, name: str, image: str, **changes: Any) -> dict[str, Any]:
        """Create or change a WasmApplication for devices with the label model=a."""
        target = {"deviceType": self.device_type, "selector": {"matchLabels": {"model": "a"}}}
        spec = {"wasmImage": image, "targetDevices": [target], **changes}
        metadata = {"name": name, "namespace": self.namespace}
        return await self.kube.apply(WASM_APPLICATION, {"metadata": metadata, "spec": spec}, manager="test")

    async def get(self, kind: Any, name: str) -> dict[str, Any]:
        found = await self.kube.get(kind, name, self.namespace)
        assert found is not None
        return found

    async def application_in(self, name: str, phase: str, reason: str = "", running: int | None = None) -> Any:
        """Wait until an application is in a phase, for its present generation."""

        async def check() -> Any:
            found = await self.get(WASM_APPLICATION, name)
            status = found.get("status") or {}
            counts = status.get("counts") or {}
            good = (
                status.get("phase") == phase
                and status.get("reason", "") == reason
                and status.get("observedGeneration") == found["metadata"]["generation"]
                and running in {None, counts.get("running")}
            )
            return found if good else self._remember(status)

        return await eventually(check, f"{name} {phase}/{reason} running={running}: {self._last}")

    _last: Any = None

    def _remember(self, status: Any) -> None:
        self._last = status

    async def device_in(self, name: str, phase: str, reason: str = "") -> dict[str, Any]:
        async def check() -> Any:
            found = await self.get(EDGE_DEVICE, name)
            status = found.get("status") or {}
            return found if (status.get("phase"), status.get("reason", "")) == (phase, reason) else None

        return await eventually(check, f"{name} {phase}/{reason}")

    async def events(self, name: str) -> list[tuple[str, str]]:
        items, _ = await self.kube.list(EVENT, self.namespace)
        return [(item["type"], item["reason"]) for item in items if item["regarding"]["name"] == name]

    async def told(self, name: str, *events: tuple[str, str]) -> None:
        """Wait for events of an object, which come after the status they are about."""

        async def check() -> bool:
            return set(events) <= set(await self.events(name))

        await eventually(check, f"{events} about {name}")


@contextlib.asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator[None]:
    """Run a coroutine in the background; its failure is the test's."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(scope="session")
def controller_rights(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(ROOT / "roles/controller/files/rbac.yaml"))
    cluster.user(USER)


@pytest.fixture
def run() -> Callable[[Any], AbstractAsyncContextManager[None]]:
    return running


@pytest.fixture
async def world(cluster: Cluster, controller_rights: None) -> AsyncIterator[World]:
    suffix = secrets.token_hex(3)
    async with Kube.from_kubeconfig(cluster.kubeconfig, user_agent="test") as kube:
        gateway = SimulatedGateway(kube, f"gw-{suffix}")
        world = World(cluster, kube, f"apps-{suffix}", gateway, f"type-{suffix}")
        await kube.apply(NAMESPACE, {"metadata": {"name": world.namespace}}, manager="test")
        await gateway.create()
        try:
            yield world
        finally:
            applications, _ = await kube.list(WASM_APPLICATION, world.namespace)
            for application in applications:
                name = application["metadata"]["name"]
                await kube.merge_patch(WASM_APPLICATION, name, world.namespace, {"metadata": {"finalizers": None}})
                await kube.delete(WASM_APPLICATION, name, world.namespace)
            for kind in (EDGE_DEVICE, PLACEMENT):
                items, _ = await kube.list(kind, world.namespace)
                for item in items:
                    await kube.delete(kind, item["metadata"]["name"], world.namespace)
            await gateway.delete()
