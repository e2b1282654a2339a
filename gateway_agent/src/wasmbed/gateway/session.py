"""One Linux device's session, from the moment it is known who it is."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import cbor2

from wasmbed import __version__
from wasmbed.gateway.remote import RemoteRuntime
from wasmbed.link import messages
from wasmbed.link.channel import ChannelClosed
from wasmbed.link.messages import MessageError, Welcome
from wasmbed.runtime import HostRequest, InstanceStatus, LogEvent, ProtocolError, RuntimeGone, StateEvent
from wasmbed.runtime.reports import event_from_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.gateway.fleet import Fleet
    from wasmbed.gateway.hostcalls import HostCalls, HostedRuntime
    from wasmbed.gateway.logs import LogForwarder
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.gateway.reconcile import Reconciler
    from wasmbed.gateway.state import Store
    from wasmbed.link.channel import Channel
    from wasmbed.link.messages import Hello
    from wasmbed.link.tls import Identity

_log = logging.getLogger(__name__)

# A sealed message the gateway cannot keep now is tried again after this time; it waits on the device until then.
SEALED_RETRY_S: Final = 5.0
MAX_INSTANCES: Final = 1024
# What a device may tell while calls to it are under way.
MAX_EVENTS: Final = 4096
_OK: Final = 0
# Outcomes that another try cannot change (denied, not found, invalid, too big, as in the SDK's header).
_FINAL: Final = frozenset({-1, -2, -22, -90})


@dataclass(frozen=True)
class Services:
    """What all sessions use."""

    gateway: str
    heartbeat_s: float
    store: Store
    fleet: Fleet
    hosts: HostCalls
    logs: LogForwarder
    metrics: Metrics


@dataclass
class Vitals:
    """What a device told last of itself, for metrics."""

    uptime_s: float = 0.0
    memory_bytes: int = 0
    spooled_bytes: int = 0
    dropped_logs: int = 0
    versions: tuple[str, str] = ("", "")

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Vitals:
        """Read a heartbeat; raises MessageError."""
        number = messages.number
        return cls(
            number(message, "uptime_s", 0, 1 << 40),
            number(message, "memory_bytes", 0, 1 << 50),
            number(message, "spooled_bytes", 0, 1 << 50),
            number(message, "dropped_logs", 0, 1 << 62),
            (messages.text(message, "wasmbed", 64), messages.text(message, "wasmtime", 64, empty=True)),
        )


@dataclass
class Session:
    """The gateway's end of one session; `serve` runs until it ends."""

    services: Services
    channel: Channel
    identity: Identity
    hello: Hello
    vitals: Vitals = field(default_factory=Vitals)

    def __post_init__(self) -> None:
        self.remote = RemoteRuntime(self.channel)
        self.key = (self.identity.namespace, self.identity.name)
        self._fact = f"stream:{self.identity}"
        self._taken: dict[str, int] = {}
        self._spools: dict[str, asyncio.Queue[list[tuple[int, bytes]]]] = {
            name: asyncio.Queue(1) for name in messages.SPOOLS
        }
        self._events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_EVENTS)
        self._attached = asyncio.Event()
        self._ended = asyncio.Event()
        self._farewell: messages.Refused | None = None

    def end(self, reason: str, message: str) -> None:
        """End the session, with a word to the device."""
        self._farewell = messages.Refused(reason, message)
        self._stop(message)

    def _stop(self, why: str) -> None:
        self.remote.end(why)
        self._ended.set()

    def welcome(self, taken: Mapping[str, int]) -> Welcome:
        """The answer to the device's hello."""
        services = self.services
        return Welcome(messages.VERSION, __version__, services.gateway, services.heartbeat_s, taken)

    async def serve(self) -> None:
        """Serve until the session ends."""
        self._taken = await self._known()
        await self.channel.send(self.welcome(self._taken).to_wire())
        fleet = self.services.fleet
        reconciler = fleet.join(self.key)
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._receive()),
                    tasks.create_task(self._follow(reconciler)),
                    tasks.create_task(self._reconcile(reconciler)),
                ]
                work += [tasks.create_task(self._take(spool)) for spool in messages.SPOOLS]
                await self._ended.wait()
                for task in work:
                    task.cancel()
        finally:
            self.remote.end("the session ended")
            fleet.leave(self.key, reconciler)
        if self._farewell is not None:
            await self.channel.finish(self._farewell.to_wire())

    async def _known(self) -> dict[str, int]:
        saved = await self.services.store.fact(self._fact)
        same = isinstance(saved, dict) and saved.get("stream") == self.hello.stream
        return {name: int(saved.get(name, 0)) if same else 0 for name in messages.SPOOLS}

    async def _reconcile(self, reconciler: Reconciler) -> None:
        # Not before it is known what runs there, or all of it would be started anew.
        await self._attached.wait()
        await reconciler.run()

    async def _receive(self) -> None:
        idle_s = self.services.heartbeat_s * messages.MISSED_HEARTBEATS
        try:
            while True:
                message = await self.channel.receive(idle_s)
                if "id" in message:
                    self.remote.take_answer(message)
                else:
                    self._on_event(message)
        except ChannelClosed as error:
            _log.info("session ended device=%s why=%s", self.identity, error)
            self._stop(str(error))
        except (MessageError, ProtocolError) as error:
            self._bad(error)

    def _bad(self, error: Exception) -> None:
        _log.warning("session ended device=%s error=%s", self.identity, error)
        self.services.metrics.link_refusals.labels("BadMessage").inc()
        self.end("BadMessage", str(error)[:1024])

    def _on_event(self, message: Mapping[str, Any]) -> None:
        match message.get("event"):
            case "heartbeat":
                self.vitals = Vitals.from_wire(message)
                self.channel.post({"event": "heartbeat"})
            case "instances" | "state" | "request":
                if self._events.full():
                    raise MessageError(f"more than {MAX_EVENTS} events at once")
                self._events.put_nowait(message)
            case "entries":
                spool, entries = messages.entries_of(message)
                if self._spools[spool].full():
                    raise MessageError(f"entries of {spool} before the ones before were taken")
                self._spools[spool].put_nowait(entries)
            case other:
                raise MessageError(f"unknown event {str(other)[:32]!r}")

    async def _follow(self, reconciler: Reconciler) -> None:
        """Take what the runtime on the device tells, in order. It may take calls to the device, so it is no reader."""
        hosted: HostedRuntime | None = None
        try:
            while True:
                message = await self._events.get()
                if message.get("event") == "instances":
                    if hosted is not None:
                        hosted.lost()
                    hosted = await self._attach(message, reconciler)
                    continue
                event = event_from_wire(message)
                if isinstance(event, StateEvent):
                    if hosted is not None:
                        await hosted.observe(event)
                    reconciler.observe(event)
                elif isinstance(event, HostRequest) and hosted is not None:
                    # A device speaks for itself alone.
                    hosted.submit(event._replace(device=str(self.identity)))
        except (MessageError, ProtocolError) as error:
            self._bad(error)
        except RuntimeGone as error:
            self._stop(str(error))
        finally:
            if hosted is not None:
                hosted.lost()

    async def _attach(self, message: Mapping[str, Any], reconciler: Reconciler) -> HostedRuntime | None:
        problem = messages.text(message, "problem", 1024, empty=True)
        rows = message.get("instances")
        if not isinstance(rows, list) or len(rows) > MAX_INSTANCES:
            raise MessageError(f"field 'instances' is not a list of at most {MAX_INSTANCES}")
        hosted = None
        if problem:
            reconciler.detach(problem)
        else:
            instances = [InstanceStatus.from_wire(row) for row in rows]
            hosted, instances = await self.services.hosts.attach(self.remote, instances, reconciler.wanted)
            reconciler.attach(hosted, instances)
        self._attached.set()
        return hosted

    async def _take(self, spool: str) -> None:
        try:
            while True:
                await self._take_entries(spool, await self._spools[spool].get())
                await self.channel.send({"event": "taken", "spool": spool, "number": self._taken[spool]})
        except ChannelClosed as error:
            self._stop(str(error))
        except (MessageError, ProtocolError) as error:
            self._bad(error)
        except sqlite3.Error as error:
            _log.error("entries not taken; free space in the state directory device=%s error=%s", self.identity, error)
            self.end("NoRoom", "the gateway cannot save what it takes; free space in its state directory")

    async def _take_entries(self, spool: str, entries: list[tuple[int, bytes]]) -> None:
        for number, data in entries:
            # What was taken before the link was lost comes again when the device did not hear of it.
            if number <= self._taken[spool]:
                continue
            if spool == "logs":
                await self._take_log(number, data)
                self._taken[spool] = number
            else:
                await self._take_sealed(data)
                self._taken[spool] = number
                await self._save()
            self.services.metrics.link_entries.labels(spool).inc()
        await self._save()

    async def _save(self) -> None:
        await self.services.store.save_fact(self._fact, {"stream": self.hello.stream, **self._taken})

    async def _take_log(self, number: int, data: bytes) -> None:
        event = event_from_wire(_map(data))
        if not isinstance(event, LogEvent):
            raise MessageError("an entry of logs is no log")
        # A device speaks for itself alone.
        event = replace(event, device=str(self.identity))
        await self.services.logs.deliver(event, f"{self.hello.stream}:{number}")

    async def _take_sealed(self, data: bytes) -> None:
        fields = _map(data)
        application, message = messages.text(fields, "application", 512), fields.get("data")
        if not isinstance(message, bytes):
            raise MessageError("a sealed entry without data")
        while True:
            status = await self.services.hosts.keep(str(self.identity), application, message)
            if status == _OK:
                return
            if status in _FINAL:
                _log.error("sealed message lost device=%s application=%s code=%d", self.identity, application, status)
                self.services.metrics.link_lost.inc()
                return
            await asyncio.sleep(SEALED_RETRY_S)


def _map(data: bytes) -> dict[str, Any]:
    try:
        fields = cbor2.loads(data)
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise MessageError(f"an entry is not CBOR: {error}") from error
    if not isinstance(fields, dict):
        raise MessageError("an entry is not a map")
    return fields
