"""The parts of the agent put together."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from wasmbed import __version__
from wasmbed.api import (
    DEFAULT_MAX_ARTIFACT_BYTES,
    DEFAULT_MAX_MODULES,
    DEVICE_SLICE,
    GATEWAY,
    MANAGER_AGENT,
    PLACEMENT,
    ApiObjectError,
    Gateway,
    GatewayStatus,
    gateway_namespace,
    timestamp,
)
from wasmbed.gateway.artifacts import Artifacts
from wasmbed.gateway.blobs import Blobs
from wasmbed.gateway.fleet import Fleet
from wasmbed.gateway.flight_service import FlightService
from wasmbed.gateway.hostcalls import HostCalls
from wasmbed.gateway.lease import renew_lease
from wasmbed.gateway.line_metrics import LineMetrics
from wasmbed.gateway.lines import Lines
from wasmbed.gateway.logs import LogForwarder
from wasmbed.gateway.metrics import Metrics
from wasmbed.gateway.placements import Placements
from wasmbed.gateway.runtime_link import keep_runtime
from wasmbed.gateway.session import Services
from wasmbed.gateway.sessions import SessionMetrics, Sessions
from wasmbed.gateway.signatures import Signatures
from wasmbed.gateway.slices import Slices
from wasmbed.gateway.state import Store
from wasmbed.gateway.status import gateway_status
from wasmbed.gateway.writer import StatusWriter, Target
from wasmbed.kube import Informer, Kube
from wasmbed.oci import Registry
from wasmbed.service import Health, notify, serve_http, watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.gateway.config import AgentConfig
    from wasmbed.gateway.model import Shown
    from wasmbed.kube import Kind
    from wasmbed.runtime import Hello

_log = logging.getLogger(__name__)

# Without the API for this long after the start, what was saved counts.
API_GRACE_S = 3.0
HEALTH_S = 0.5
Object = dict[str, Any]


class Agent:
    """One gateway's agent. `run` returns only by being cancelled or by a fault that a restart has to cure."""

    def __init__(self, config: AgentConfig, kube: Kube, store: Store, blobs: Blobs) -> None:
        self._config = config
        self._kube = kube
        self._store = store
        self._blobs = blobs
        self.health = Health()
        self.metrics = Metrics(CollectorRegistry())
        self._writer = StatusWriter(
            self._send, lambda kind, result: self.metrics.status_writes.labels(kind, result).inc()
        )
        registry = Registry(config.registry.mirrors, config.registry.ca_file, config.registry.credentials_file)
        signatures = Signatures(config.signatures, registry, store, self.metrics)
        artifacts = Artifacts(
            registry, blobs, signatures, self.metrics, concurrent_pulls=config.artifacts.concurrent_pulls
        )
        self._logs = LogForwarder(self.metrics)
        self._fleet = Fleet(artifacts, self.metrics, self._on_shown, self._on_link)
        routes = config.ros2.routes if config.ros2 is not None else ()
        self._placements = Placements(config.gateway, store, self._fleet, self._writer, self.metrics, routes)
        self._vehicles = FlightService(config.mavlink, store, self.metrics.registry, self.health)
        self._placements.on_placements.append(self._vehicles.set_placements)
        flight = self._vehicles.flight
        flight.on_gates.append(lambda: self._fleet.set_gates(flight.gates))
        self.hosts = HostCalls(config, self.metrics.registry)
        self._placements.on_wanted.append(self.hosts.set_wanted)
        self.hosts.register(self._vehicles.backend)
        self.hosts.vehicle_sensors = self._vehicles.sensors
        self.hosts.on_ros2 = self._vehicles.topics.connect
        link = config.link
        self._sessions: Sessions | None = None if link is None else Sessions(link, self._services(link.heartbeat_s))
        if self._sessions is not None:
            self.metrics.registry.register(SessionMetrics(self._sessions))
        lines = config.lines
        self._lines = None if lines is None else Lines(lines, self._services(lines.heartbeat_s))
        if self._lines is not None:
            self.metrics.registry.register(LineMetrics(self._lines))
        self._slices = Slices(
            store,
            self._fleet,
            self._writer,
            flight,
            on_devices=self._check_devices,
            missed_s=max(0.0 if link is None else link.missed_s, 0.0 if lines is None else lines.missed_s),
        )
        flight.on_told.append(self._slices.on_told)
        self._gateway: Gateway | None = None
        self._gateway_last: GatewayStatus | None = None
        self._limits: dict[str, int] | None = None
        self._hello: Hello | None = None
        self._runtime_problem = "not connected yet"
        namespace = gateway_namespace(config.gateway)
        self._placement_informer = Informer(kube, PLACEMENT, namespace=namespace, on_change=self._placements.on_change)
        self._slice_informer = Informer(kube, DEVICE_SLICE, namespace=namespace, on_change=self._slices.on_change)
        self._informers = (
            self._placement_informer,
            self._slice_informer,
            Informer(kube, GATEWAY, field_selector=f"metadata.name={config.gateway}", on_change=self._on_gateway),
        )

    async def run(self) -> None:
        """Serve."""
        config = self._config
        self.health.set("sync", False, "placements are not known yet")
        self._on_runtime(None, self._runtime_problem)
        self._check_api()
        async with (
            serve_http(config.http.address, config.http.port, self.health, self.metrics.registry) as port,
            asyncio.TaskGroup() as tasks,
        ):
            _log.info("serving address=%s port=%d gateway=%s", config.http.address, port, config.gateway)
            tasks.create_task(watchdog())
            tasks.create_task(renew_lease(self._kube, config.gateway, config.lease, self.metrics))
            tasks.create_task(self._writer.run())
            tasks.create_task(self._logs.run())
            tasks.create_task(self._placements.run_saver())
            tasks.create_task(self._slices.run_saver())
            await self._vehicles.restore()
            tasks.create_task(self._vehicles.run_saver())
            tasks.create_task(self._vehicles.run())
            tasks.create_task(self._watch_health())
            tasks.create_task(self.hosts.run())
            await self._slices.restore()
            for informer in self._informers:
                tasks.create_task(informer.run())
            tasks.create_task(self._sync_slices())
            await self._restore_limits()
            synced = tasks.create_task(self._sync())
            done, _ = await asyncio.wait({synced}, timeout=API_GRACE_S)
            if not done:
                await self._placements.restore()
            # Only now is it known which instances of the runtime are wanted.
            tasks.create_task(self._fleet.own.run())
            tasks.create_task(
                keep_runtime(
                    *(config.runtime_socket, self._fleet.own, self.hosts, self._logs, self.metrics),
                    on_state=self._on_runtime,
                )
            )
            if self._sessions is not None:
                tasks.create_task(self._sessions.run())
            if self._lines is not None:
                tasks.create_task(self._lines.run())
            self.health.set("sync", True)
            notify("READY=1")

    async def _sync(self) -> None:
        # A kill switch that was set meanwhile comes with the slices: nothing is started before.
        await self._slice_informer.wait_synced()
        await self._placement_informer.wait_synced()
        self._placements.take_all(self._placement_informer.items())

    async def _sync_slices(self) -> None:
        await self._slice_informer.wait_synced()
        self._slices.forget_restored()

    def _check_devices(self) -> None:
        if self._sessions is not None:
            self._sessions.check_devices()
        if self._lines is not None:
            self._lines.check_devices()

    def _services(self, heartbeat_s: float) -> Services:
        return Services(
            self._config.gateway,
            heartbeat_s,
            self._store,
            self._fleet,
            self.hosts,
            self._logs,
            self.metrics,
        )

    async def _restore_limits(self) -> None:
        limits = await self._store.fact("limits")
        if self._limits is None and isinstance(limits, dict):
            self._fleet.set_limits(
                max_modules=int(limits.get("max_modules", DEFAULT_MAX_MODULES)),
                max_artifact_bytes=int(limits.get("max_artifact_bytes", DEFAULT_MAX_ARTIFACT_BYTES)),
            )

    async def _send(self, kind: Kind, body: Object) -> None:
        await self._kube.apply_status(kind, body, manager=MANAGER_AGENT)

    async def _watch_health(self) -> None:
        was_up = False
        saved = None
        while True:
            up = self._check_api()
            if up and not was_up:
                self._writer.hurry()
            was_up = up
            self.metrics.artifact_bytes.set(self._blobs.total_bytes)
            if self._limits is not None and self._limits != saved:
                try:
                    await self._store.save_fact("limits", self._limits)
                    saved = self._limits
                except sqlite3.Error as error:
                    _log.error("limits not saved; free space in the state directory error=%s", error)
            await asyncio.sleep(HEALTH_S)

    def _check_api(self) -> bool:
        lost = [informer.kind.plural for informer in self._informers if informer.live_since is None]
        self.health.set(
            "api",
            not lost,
            f"no watch of {', '.join(lost)} at {self._kube.url}; look at the API server and the kubeconfig",
        )
        self.metrics.api_up.set(not lost)
        return not lost

    def _on_shown(self, changes: Mapping[str, Shown | None]) -> None:
        self._placements.on_shown(changes)
        self._tell_gateway()

    def _on_link(self, key: tuple[str, str]) -> None:
        self._slices.on_link(key)

    def _on_runtime(self, hello: Hello | None, why: str) -> None:
        self._hello = hello or self._hello
        self._runtime_problem = why
        self.health.set("runtime", not why, f"{why}; look at wasmbed-runtime")
        self.metrics.runtime_up.set(not why)
        self._tell_gateway()

    def _on_gateway(self, _: Object | None, new: Object | None) -> None:
        try:
            gateway = None if new is None else Gateway.from_dict(new)
        except ApiObjectError as error:
            _log.error("the gateway cannot be read and is left as it was error=%s", error)
            return
        before = self._gateway
        if gateway is None or before is None or gateway.metadata.uid != before.metadata.uid:
            self._gateway_last = None
            if before is not None:
                self._writer.forget(_gateway_target(before))
        self._gateway = gateway
        if gateway is not None:
            self._limits = {"max_modules": gateway.max_modules, "max_artifact_bytes": gateway.max_artifact_bytes}
            self._fleet.set_limits(**self._limits)
            self._tell_gateway()

    def _tell_gateway(self) -> None:
        gateway = self._gateway
        if gateway is None:
            return
        status = gateway_status(
            gateway,
            self._gateway_last or gateway.status,
            agent_version=__version__,
            wasmtime_version=self._hello.wasmtime if self._hello else "",
            modules=self._fleet.own.running_count,
            runtime_problem=self._runtime_problem,
            now=timestamp(),
        )
        self._gateway_last = status
        known = gateway.status.to_dict()
        self._writer.put(_gateway_target(gateway), status.to_dict(), known=known, settled=False)


def _gateway_target(gateway: Gateway) -> Target:
    return Target(GATEWAY, gateway.metadata.name, gateway.metadata.uid)


async def serve(config: AgentConfig) -> None:
    """Run an agent until cancelled.

    Raises OSError or sqlite3.Error when the state directory or the port cannot be used, ApiError for the kubeconfig.
    """
    store = await Store.open(config.state_directory)
    try:
        blobs = Blobs(config.state_directory / "artifacts", store, config.artifacts.max_total_bytes)
        await blobs.open()
        async with Kube.from_kubeconfig(config.kubeconfig, user_agent=f"wasmbed-agent/{__version__}") as kube:
            await Agent(config, kube, store, blobs).run()
    finally:
        await store.close()
