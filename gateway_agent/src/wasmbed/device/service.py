"""The parts of the device's service put together."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

import cbor2
from prometheus_client import CollectorRegistry

from wasmbed.device.keeper import Keeper
from wasmbed.device.metrics import Metrics
from wasmbed.device.modules import Modules
from wasmbed.device.sensors import OwnSensors
from wasmbed.device.spool import Spool, SpoolFull
from wasmbed.device.store import Store
from wasmbed.device.uplink import Uplink
from wasmbed.runtime import Delivery
from wasmbed.runtime.reports import STATES
from wasmbed.service import Health, notify, serve_http, watchdog

if TYPE_CHECKING:
    from wasmbed.device.config import DeviceConfig
    from wasmbed.runtime import HostRequest, LogEvent, StateEvent

_log = logging.getLogger(__name__)

HEALTH_S: Final = 0.5
MAX_SEALING: Final = 1024
_RESULT: Final = 6
_OK, _IO, _AGAIN, _INVALID = 0, -5, -11, -22


class Device:
    """One device's service. `run` returns only by being cancelled or by a fault that a restart has to cure."""

    def __init__(self, config: DeviceConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self.health = Health()
        self.metrics = Metrics(CollectorRegistry())
        self._modules = Modules(config.state_directory / "modules", store, config.modules_bytes)
        self._logs = Spool("logs", store, config.spool.logs_bytes)
        self._sealed = Spool("sealed", store, config.spool.sealed_bytes)
        self._keeper = Keeper(config.device, config.runtime_socket, store, self._modules)
        spools = {spool.name: spool for spool in (self._logs, self._sealed)}
        self._uplink = Uplink(config, store.stream, self._keeper, spools, self.metrics)
        self._sealing: asyncio.Queue[HostRequest] = asyncio.Queue(MAX_SEALING)
        self._sequences = asyncio.Event()
        self._sensors = OwnSensors(config.device, config.sensors, self._keeper) if config.sensors else None

    async def run(self) -> None:
        """Serve."""
        http = self._config.http
        await self._modules.open()
        for spool in (self._logs, self._sealed):
            await spool.open()
        await self._keeper.open()
        self._look()
        try:
            async with (
                serve_http(http.address, http.port, self.health, self.metrics.registry) as port,
                asyncio.TaskGroup() as tasks,
            ):
                _log.info("serving device=%s address=%s port=%d", self._config.device, http.address, port)
                tasks.create_task(watchdog())
                tasks.create_task(self._watch())
                tasks.create_task(self._seal())
                if self._sensors is not None:
                    tasks.create_task(self._sensors.run())
                tasks.create_task(self._number())
                tasks.create_task(self._logs.run())
                tasks.create_task(self._sealed.run())
                tasks.create_task(self._keeper.run(self))
                tasks.create_task(self._uplink.run())
                notify("READY=1")
        finally:
            for spool in (self._logs, self._sealed):
                await spool.close()

    # What the keeper tells

    def on_instances(self) -> None:
        """All instances are to be told anew."""
        if self._sensors is not None:
            self._sensors.keep({row.instance for row in self._keeper.instances()})
        self._uplink.on_instances()

    def on_state(self, event: StateEvent) -> None:
        """An instance has come to a state."""
        self._uplink.on_state(event)

    def on_log(self, event: LogEvent) -> None:
        """An application logged a line."""
        self._logs.add(event.instance, cbor2.dumps(event.to_wire()))

    def on_request(self, request: HostRequest) -> None:
        """An application asks for something; what is sealed is kept here until the gateway has it."""
        if request.module == "sensor" and self._sensors is not None:
            self._sensors.submit(request)
        elif request.module != "secure":
            self._uplink.on_request(request)
        elif request.op == "sequence":
            self._sequences.set()
        elif request.op != "send":
            self._answer(request, _INVALID)
        elif self._sealing.full():
            self._answer(request, _AGAIN)
        else:
            self._sealing.put_nowait(request)

    async def _number(self) -> None:
        """Give the runtime further sequence numbers when it is short of them."""
        while True:
            await self._sequences.wait()
            self._sequences.clear()
            await self._keeper.give_secrets()

    async def _seal(self) -> None:
        while True:
            request = await self._sealing.get()
            entry = {"application": request.application, "data": request.data or b""}
            try:
                await self._sealed.keep(request.instance, cbor2.dumps(entry))
            except SpoolFull as error:
                _log.warning("sealed message not kept instance=%s error=%s", request.instance, error)
                self._answer(request, _AGAIN)
            except sqlite3.Error as error:
                _log.error("sealed message not kept instance=%s error=%s", request.instance, error)
                self._answer(request, _IO)
            else:
                self._answer(request, _OK)

    def _answer(self, request: HostRequest, status: int) -> None:
        if request.token:
            data = status.to_bytes(4, "little", signed=True)
            self._keeper.deliver([Delivery(request.instance, _RESULT, request.token, data)])

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(HEALTH_S)

    def _look(self) -> None:
        metrics, keeper, uplink = self.metrics, self._keeper, self._uplink
        self.health.set("runtime", not keeper.problem, f"{keeper.problem}; look at wasmbed-runtime")
        self.health.set("gateway", uplink.up, f"{uplink.problem}; see wasmbed-device --check")
        metrics.link_up.set(uplink.up)
        metrics.runtime_up.set(not keeper.problem)
        metrics.module_bytes.set(self._modules.total_bytes)
        for spool in (self._logs, self._sealed):
            metrics.spooled_bytes.labels(spool.name).set(spool.bytes)
            metrics.dropped.labels(spool.name).set(spool.dropped)
        states = keeper.states()
        for state in STATES:
            metrics.instances.labels(state).set(states.get(state, 0))


async def serve(config: DeviceConfig) -> None:
    """Run until cancelled; raises OSError or sqlite3.Error when the state directory or the port cannot be used."""
    store = await Store.open(config.state_directory)
    try:
        await Device(config, store).run()
    finally:
        await store.close()
