"""Host calls in the agent: its backends, and the instances of every runtime opened before they start and closed after.

A reconciler works with `HostedRuntime` in place of the runtime itself and notices nothing but starts that are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from wasmbed.bridges.ros2 import Ros2Error
from wasmbed.gateway.ros2 import Ros2Backend
from wasmbed.gateway.runtime_figures import RuntimeFigures
from wasmbed.gateway.sealing_key import KeyFileError
from wasmbed.gateway.secure import SecureBackend
from wasmbed.hostcalls import Dispatcher, Ended, HostCallMetrics, PeerGoneError, RefusedError, Status
from wasmbed.runtime import HostRequest, ProtocolError, RequestRefused, RuntimeGone, StateEvent
from wasmbed.sensors import SensorBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    from wasmbed.gateway.config import AgentConfig
    from wasmbed.gateway.model import Wanted
    from wasmbed.gateway.ros2_bridges import Ros2Bridges
    from wasmbed.hostcalls import Backend, HostInstance
    from wasmbed.runtime import Delivery, InstanceStatus, Provision, Secret, StartRequest
    from wasmbed.sensors import VehicleSource

_log = logging.getLogger(__name__)

# Instances of a runtime that is connected again are opened so many at a time.
CONCURRENT_OPENS: Final = 16


class HostRuntime(Protocol):
    """A runtime that carries host calls: `RuntimeClient`, or what reaches a device's."""

    @property
    def backlog_bytes(self) -> int: ...
    async def has(self, digest: str) -> bool: ...
    async def load(self, digest: str, wasm: bytes) -> None: ...
    async def check(self, request: StartRequest) -> None: ...
    async def start(self, request: StartRequest) -> None: ...
    async def stop(self, instance: str) -> None: ...
    async def provide(self, provision: Provision) -> None: ...
    async def secret(self, secret: Secret) -> None: ...
    def deliver(self, batch: Iterable[Delivery]) -> int: ...


class HostCalls:
    """The dispatcher of one agent. `run` has the backends of the configuration; others are registered before."""

    def __init__(self, config: AgentConfig, registry: CollectorRegistry) -> None:
        self._config = config
        self._registry = registry
        self.dispatcher = Dispatcher(metrics=HostCallMetrics(registry))
        self.figures = RuntimeFigures()
        registry.register(self.figures)
        self._specs: dict[str, HostInstance] = {}
        self.secure: SecureBackend | None = None
        self.vehicle_sensors: VehicleSource | None = None
        """The autopilots' sensors, set before `run`."""
        self.on_ros2: Callable[[Ros2Bridges], None] = lambda _: None
        """Gets the ROS 2 bridge when it runs, set before `run`."""
        self.ready = asyncio.Event()

    def register(self, backend: Backend, figures: Collector | None = None) -> None:
        """Take a backend, and its figures when it has some."""
        self.dispatcher.register(backend)
        if figures is not None:
            self._registry.register(figures)

    def set_wanted(self, wanted: Mapping[str, Wanted]) -> None:
        """Take what the Placements say of instances; it counts from their next start."""
        self._specs = {name: item.host for name, item in wanted.items() if item.host is not None}

    async def keep(self, device: str, application: str, message: bytes) -> int:
        """Keep a sealed message that a device brought durably, once; 0 or a Status."""
        return int(Status.UNAVAILABLE) if self.secure is None else await self.secure.keep(device, application, message)

    def spec(self, name: str) -> HostInstance | None:
        """What the Placements say of an instance."""
        return self._specs.get(name)

    async def run(self) -> None:
        """Serve until cancelled; a backend that cannot be had is logged, and its calls are UNAVAILABLE."""
        async with contextlib.AsyncExitStack() as stack:
            await self._backends(stack, self._config.state_directory)
            self.ready.set()
            await self.dispatcher.run()

    async def _backends(self, stack: contextlib.AsyncExitStack, state: Path) -> None:
        config = self._config
        if config.ros2 is not None:
            try:
                ros2 = await stack.enter_async_context(Ros2Backend.running(config.ros2, config.gateway, state))
                self.register(ros2, ros2)
                self.on_ros2(ros2.bridges)
            except Ros2Error as error:
                _log.error("no ROS 2: correct the section ros2 of the configuration error=%s", error)
        if config.sensors:
            sensors = await stack.enter_async_context(SensorBackend.running(config.sensors, self.vehicle_sensors))
            self.register(sensors, sensors)
        if config.secure is not None:
            try:
                self.secure = await stack.enter_async_context(
                    SecureBackend.running(config.secure, config.gateway, state)
                )
                self.register(self.secure, self.secure)
            except (KeyFileError, OSError, sqlite3.Error) as error:
                _log.error("no sealed messages error=%s", error)

    async def attach(
        self, runtime: HostRuntime, instances: Sequence[InstanceStatus], wanted: Mapping[str, Wanted]
    ) -> tuple[HostedRuntime, list[InstanceStatus]]:
        """Take up a runtime with what runs in it; instances as they are wanted are opened.

        Returns the runtime for the reconciler and the instances: one that may not have what it had is to be replaced.
        """
        await self.ready.wait()
        hosted = HostedRuntime(self, runtime)
        slots = asyncio.Semaphore(CONCURRENT_OPENS)

        async def adopt(item: InstanceStatus) -> InstanceStatus:
            known = wanted.get(item.instance)
            if known is None or known.key != item.key or known.host is None:
                return item
            async with slots:
                try:
                    await self.dispatcher.open(known.host, hosted)
                except RefusedError as error:
                    _log.warning("no longer allowed instance=%s error=%s", item.instance, error)
                    return replace(item, key="refused")
                except PeerGoneError as error:
                    raise RuntimeGone(str(error)) from error
            return item

        return hosted, list(await asyncio.gather(*(adopt(item) for item in instances)))


class HostedRuntime:
    """A runtime for its reconciler, and the dispatcher's way to the instances in it."""

    def __init__(self, hosts: HostCalls, runtime: HostRuntime) -> None:
        self._hosts = hosts
        self._runtime = runtime
        self._open: dict[str, HostInstance] = {}
        self._before: dict[str, HostInstance] = {}
        self._failures: dict[str, int] = {}

    # For the reconciler

    async def has(self, digest: str) -> bool:
        return await self._runtime.has(digest)

    async def load(self, digest: str, wasm: bytes) -> None:
        await self._runtime.load(digest, wasm)

    async def check(self, request: StartRequest) -> None:
        await self._runtime.check(request)

    async def start(self, request: StartRequest) -> None:
        """Open the instance and start it; what it may not have is a DeviceError that names the manifest's field."""
        name = request.instance
        spec, before = self._hosts.spec(name), self._open.get(name)
        try:
            if spec is not None:
                await self._hosts.dispatcher.open(spec, self)
                self._open[name] = spec
                self._failures.pop(name, None)
                if before is not None:
                    self._before[name] = before
            await self._runtime.start(request)
        except (RefusedError, RequestRefused) as error:
            await self._restore(name, before)
            if isinstance(error, RefusedError):
                raise RequestRefused("DeviceError", str(error)) from error
            raise
        except PeerGoneError as error:
            raise RuntimeGone(str(error)) from error

    async def stop(self, instance: str) -> None:
        """Stop the instance, which may make calls until its end, and close it."""
        await self._runtime.stop(instance)
        self._before.pop(instance, None)
        self._open.pop(instance, None)
        await self._hosts.dispatcher.close(instance, Ended.STOPPED)

    async def _restore(self, name: str, before: HostInstance | None) -> None:
        """The new content did not start: what ran before has its own again."""
        if before is None:
            self._open.pop(name, None)
            await self._hosts.dispatcher.close(name, Ended.STOPPED)
            return
        with contextlib.suppress(RefusedError, PeerGoneError):
            await self._hosts.dispatcher.open(before, self)
            self._open[name] = before

    # From the runtime

    def submit(self, request: HostRequest) -> None:
        """Take a request of an instance."""
        self._hosts.dispatcher.submit(request, self)

    async def observe(self, event: StateEvent) -> None:
        """Take a state: one that failed begins anew, one that was rolled back has what it had."""
        name = event.instance
        if event.rolled_back and name in self._before:
            await self._restore(name, self._before.pop(name))
        elif event.state == "Failed" and self._failures.get(name) != event.restarts:
            self._failures[name] = event.restarts
            self._hosts.dispatcher.trapped(name)

    def lost(self) -> None:
        """The runtime is gone."""
        self._hosts.dispatcher.lost(self)

    # For the dispatcher

    @property
    def backlog_bytes(self) -> int:
        return self._runtime.backlog_bytes

    def deliver(self, events: Sequence[Delivery]) -> None:
        try:
            lost = self._runtime.deliver(events)
        except RuntimeGone:
            return
        except ProtocolError as error:
            _log.error("events not delivered error=%s", error)
            return
        if lost:
            self._hosts.dispatcher.dropped("any", lost)

    async def provide(self, provision: Provision) -> None:
        try:
            await self._runtime.provide(provision)
        except RuntimeGone as error:
            raise PeerGoneError(str(error)) from error
        except RequestRefused as error:  # the instance runs all the same
            _log.error("host modules not made available device=%s error=%s", provision.device, error)

    async def secret(self, secret: Secret) -> None:
        try:
            await self._runtime.secret(secret)
        except RuntimeGone as error:
            raise PeerGoneError(str(error)) from error
        except RequestRefused as error:
            _log.error("no sealing application=%s error=%s", secret.application, error)
