"""The backend of `wasmbed:secure`: hands out keys and numbers, keeps what is sent, delivers what the cloud says."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from wasmbed.gateway.sealing_key import read_key
from wasmbed.gateway.uplink import Uplink
from wasmbed.gateway.uplink_spool import Spool
from wasmbed.hostcalls import Ended, HostCall, Instance, Outcome, Outlet, PeerGoneError, Status
from wasmbed.runtime import Secret
from wasmbed.runtime.abi import ENVELOPE_MAX, SECURE_MAX, EventType
from wasmbed.runtime.sealing import UP, SealError, application_key, parse, unseal_down

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric

    from wasmbed.gateway.uplink import Received
    from wasmbed.gateway.uplink_config import SecureConfig
    from wasmbed.runtime import Sensor

_log = logging.getLogger(__name__)

# Messages of one instance that wait for the disk.
_KEEP_S: Final = 30.0


class SecureBackend(Collector):
    """Made by `running`, whose context is its life."""

    module = "secure"
    operations: ClassVar[Mapping[str, float]] = {"send": _KEEP_S, "sequence": _KEEP_S}

    def __init__(self, key: bytes, config: SecureConfig, gateway: str, spool: Spool) -> None:
        self._key = key
        self._spool = spool
        self._instances: dict[tuple[str, str], Instance] = {}
        self._uplink = Uplink(config.uplink, gateway, spool, self._receive) if config.uplink is not None else None

    @classmethod
    @asynccontextmanager
    async def running(cls, config: SecureConfig, gateway: str, state_directory: Path) -> AsyncIterator[SecureBackend]:
        """Forward within the context; raises KeyFileError, OSError, sqlite3.Error."""
        key = await asyncio.to_thread(read_key, config.key_file)
        spool = await Spool.open(state_directory, config.uplink.max_spool_bytes if config.uplink is not None else 0)
        backend = cls(key, config, gateway, spool)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(spool.run())]
                if backend._uplink is not None:
                    work.append(tasks.create_task(backend._uplink.run()))
                try:
                    yield backend
                finally:
                    for task in work:
                        task.cancel()
        finally:
            await spool.close()

    def attach(self, outlet: Outlet) -> None:
        pass

    def available(self, device: str) -> bool:
        return True

    def sensors(self, device: str) -> Sequence[Sensor]:
        return ()

    async def open(self, instance: Instance) -> None:
        """Give the runtime the application's key and a block of numbers."""
        spec = instance.spec
        self._instances[spec.application, spec.device] = instance
        await self._give(instance)

    async def close(self, instance: Instance, why: Ended) -> None:
        """Nothing is delivered to it any more."""
        key = (instance.spec.application, instance.spec.device)
        if self._instances.get(key) is instance:
            del self._instances[key]

    def handle(self, call: HostCall) -> Awaitable[Outcome] | Outcome:
        """Carry a call out."""
        if call.op == "sequence":
            return self._sequence(call.instance)
        spec = call.instance.spec
        return self._send(spec.application, spec.device, call.data)

    async def keep(self, device: str, application: str, message: bytes) -> int:
        """Keep a sealed message that a device brought, once; 0 or a Status."""
        return (await self._send(application, device, message)).status

    async def _sequence(self, instance: Instance) -> Outcome:
        await self._give(instance)
        return Outcome()

    async def _give(self, instance: Instance) -> None:
        spec = instance.spec
        first = await self._spool.reserve(spec.application, spec.device)
        key = application_key(self._key, spec.application, spec.application_uid)
        received = await self._spool.last_received(spec.application, spec.device)
        try:
            await instance.peer.secret(Secret(spec.application, spec.device, key, first, received))
        except PeerGoneError:
            _log.debug("nobody to give a key to instance=%s", instance.name)

    async def _send(self, application: str, device: str, data: bytes) -> Outcome:
        if self._uplink is None:
            return Outcome(Status.UNAVAILABLE)
        if len(data) > SECURE_MAX + ENVELOPE_MAX:
            return Outcome(Status.TOOBIG)
        try:
            envelope = parse(data)
        except SealError:
            return Outcome(Status.INVALID)
        # An instance, or a device, speaks for itself alone.
        if (envelope.application, envelope.device, envelope.direction) != (application, device, UP):
            return Outcome(Status.DENIED)
        return Outcome(await self._spool.keep(application, device, envelope.sequence, data))

    async def _receive(self, application: str, device: str, data: bytes) -> Received:
        instance = self._instances.get((application, device))
        if instance is None:
            return "away"
        key = application_key(self._key, application, instance.spec.application_uid)
        try:
            envelope = unseal_down(key, application, device, data)
        except SealError:
            _log.error("a message from the cloud is not authentic application=%s device=%s", application, device)
            return "rejected"
        if envelope.sequence <= await self._spool.last_received(application, device):
            return "duplicate"
        # In this order: what a crash has delivered twice, the runtime knows by its number.
        instance.post(EventType.SECURE, 0, data)
        await self._spool.set_received(application, device, envelope.sequence)
        return "delivered"

    def collect(self) -> Iterator[Metric]:
        """Figures of the uplink, for Prometheus."""
        spool, uplink = self._spool, self._uplink
        yield GaugeMetricFamily(
            "wasmbed_uplink_spooled_messages", "Sealed messages that wait for the cloud", spool.messages
        )
        yield GaugeMetricFamily("wasmbed_uplink_spooled_bytes", "Their size", spool.size_bytes)
        if uplink is None:
            return
        yield GaugeMetricFamily("wasmbed_uplink_up", "Whether the last request was answered", float(not uplink.problem))
        yield CounterMetricFamily("wasmbed_uplink_failures", "Requests that failed", uplink.failures)
        sent = CounterMetricFamily("wasmbed_uplink_sent", "Sealed messages by the server's word", labels=["result"])
        sent.add_metric(["accepted"], uplink.sent)
        sent.add_metric(["refused"], uplink.refused)
        yield sent
        received = CounterMetricFamily("wasmbed_uplink_received", "Messages from the cloud by fate", labels=["fate"])
        for fate, count in uplink.down.items():
            received.add_metric([fate], count)
        yield received
