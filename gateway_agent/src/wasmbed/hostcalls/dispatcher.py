"""Host calls of applications: from the runtime or device that asks to the backend that does it, and the outcome back.

Calls are bounded in number and time. Calls of one instance reach a backend in their order; what takes time runs beside
the ones after it.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections import Counter, deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from wasmbed.hostcalls.codes import Status
from wasmbed.hostcalls.metrics import HostCallMetrics
from wasmbed.hostcalls.model import (
    BadCallError,
    Ended,
    HostCall,
    Instance,
    Outcome,
    PeerGoneError,
    RefusedError,
)
from wasmbed.runtime import Delivery, Provision
from wasmbed.runtime.abi import ROS2_HEADER, EventType, Ros2Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from wasmbed.hostcalls.model import Backend, HostInstance, Peer
    from wasmbed.runtime import HostRequest

log = logging.getLogger(__name__)

# As many as a runtime lets wait for a RESULT, and as many as it queues; a remote runtime is not trusted to do so.
MAX_ACTIVE: Final = 64
MAX_QUEUED: Final = 256
MAX_ACTIVE_TOTAL: Final = 8192
# Above this a peer does not keep up, and events that may be dropped are.
MAX_BACKLOG_BYTES: Final = 2 << 20
# So that one frame of events stays far below the protocol's limit.
MAX_BATCH_BYTES: Final = 2 << 20
_RESULTS: Final = {code.value: code.name.lower() for code in Status}
_MODULES: Final = {EventType.TELEMETRY: "px4", EventType.SENSOR: "sensor", EventType.ROS2: "ros2"}


class _Open:
    """An instance, what of it is under way, and what waits while it is opened or closed."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiting: deque[HostRequest] = deque()
        self.changing = 0
        self.lock = asyncio.Lock()
        self.gone = False


class _Outbox:
    """What goes to a peer at the end of this turn of the loop, with the bytes that wait for it in all."""

    __slots__ = ("events", "peer", "size")

    def __init__(self, peer: Peer, size: int) -> None:
        self.peer = peer
        self.events: list[Delivery] = []
        self.size = size


class Dispatcher:
    """The backends, the open instances, and their peers; `run` keeps peers informed of what is available."""

    def __init__(self, backends: Iterable[Backend] = (), metrics: HostCallMetrics | None = None) -> None:
        self._metrics = metrics or HostCallMetrics(CollectorRegistry())
        self._backends: dict[str, Backend] = {}
        self._open: dict[str, _Open] = {}
        self._outbox: dict[int, _Outbox] = {}
        self._flush_planned = False
        self._active = 0
        self._told: dict[tuple[int, str], Provision] = {}
        self._changed: set[str] = set()
        self._trapped: set[str] = set()
        self._lost: list[_Open] = []
        self._wake = asyncio.Event()
        for backend in backends:
            self.register(backend)

    def register(self, backend: Backend) -> None:
        """Take a backend; one a module."""
        if backend.module in self._backends:
            raise ValueError(f"two backends for {backend.module}")
        self._backends[backend.module] = backend
        backend.attach(self)

    def changed(self, device: str | None = None) -> None:
        """A backend's word that what it makes available for a device (None: for all) is not what it was."""
        devices = {item.instance.device for item in self._open.values()}
        self._changed |= devices if device is None else devices & {device}
        self._wake.set()

    def dropped(self, module: str, count: int = 1) -> None:
        """Count events that a backend did not send."""
        self._metrics.dropped.labels(module).inc(count)

    async def open(self, spec: HostInstance, peer: Peer) -> None:
        """Open an instance that is about to start on a peer, in place of one of its name.

        Raises RefusedError (then nothing is open) and PeerGoneError.
        """
        before = self._open.get(spec.name)
        if before is not None:
            if before.instance.spec == spec and before.instance.peer is peer:
                return
            await self.close(spec.name, Ended.UPDATED)
        found = self._open[spec.name] = _Open(Instance(spec, peer, lambda events: self._post(peer, events)))
        self._metrics.instances.set(len(self._open))
        found.changing += 1
        try:
            async with found.lock:
                await self._open_backends(found)
            await self._provide(peer, spec.device)
        except BaseException:
            await self._drop(found, Ended.STOPPED)
            raise
        finally:
            self._settle(found)

    async def close(self, name: str, why: Ended) -> None:
        """Close an instance; nothing happens when there is none."""
        found = self._open.get(name)
        if found is not None:
            await self._drop(found, why)

    def trapped(self, name: str) -> None:
        """An instance trapped and is started again by its runtime: its backends begin anew, in `run`."""
        found = self._open.get(name)
        if found is not None and name not in self._trapped:
            found.changing += 1
            self._trapped.add(name)
            self._cancel(found)
            self._wake.set()

    def lost(self, peer: Peer) -> None:
        """A peer is gone, and with it the way to its instances; backends hear of it in `run`."""
        for name in [name for name, found in self._open.items() if found.instance.peer is peer]:
            found = self._open.pop(name)
            found.gone = True
            self._cancel(found)
            self._lost.append(found)
        self._told = {key: offer for key, offer in self._told.items() if key[0] != id(peer)}
        self._outbox.pop(id(peer), None)
        self._metrics.instances.set(len(self._open))
        self._wake.set()

    async def run(self) -> None:
        """Carry on with what was noted by `changed`, `trapped` and `lost`, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                # Beside each other: an autopilot must not wait for another instance's routes.
                for found in self._lost:
                    tasks.create_task(self._close_backends(found, Ended.LINK_LOST))
                for name in self._trapped & self._open.keys():
                    tasks.create_task(self._reopen(self._open[name]))
                for device in self._changed:
                    tasks.create_task(self._inform(device))
                self._lost, self._trapped, self._changed = [], set(), set()

    def submit(self, request: HostRequest, peer: Peer) -> None:
        """Take a request of an instance on a peer; its outcome goes back as the event RESULT. Never waits."""
        found = self._open.get(request.instance)
        if found is None or found.instance.peer is not peer:
            self._answer(peer, request, Outcome(Status.UNAVAILABLE), self._backends.get(request.module))
            return
        if found.changing:
            if len(found.waiting) >= MAX_QUEUED:
                self._answer(peer, request, Outcome(Status.AGAIN), self._backends.get(request.module))
            else:
                found.waiting.append(request)
            return
        self._begin(found, request)

    def _begin(self, found: _Open, request: HostRequest) -> None:
        backend = self._backends.get(request.module)
        began = time.perf_counter()
        outcome = self._refusal(found, request, backend)
        if outcome is None and backend is not None:
            try:
                call = HostCall(found.instance, request.op, request.args, request.data or b"", request.token)
                result = backend.handle(call)
            except BadCallError as error:
                log.debug("bad call instance=%s error=%s", request.instance, error)
                result = Outcome(Status.INVALID)
            except Exception:
                log.exception("host call failed module=%s op=%s", request.module, request.op)
                result = Outcome(Status.IO)
            if not isinstance(result, Outcome):
                self._active += 1
                limit_s = backend.operations[request.op]
                task = asyncio.get_running_loop().create_task(self._finish(found, request, result, limit_s, began))
                found.tasks.add(task)
                task.add_done_callback(lambda task: self._ended(found, task, result))
                return
            outcome = result
        self._metrics.call_seconds(request.module if backend else "other").observe(time.perf_counter() - began)
        self._answer(found.instance.peer, request, outcome or Outcome(Status.UNAVAILABLE), backend)

    def _refusal(self, found: _Open, request: HostRequest, backend: Backend | None) -> Outcome | None:
        if f"wasmbed:{request.module}" not in found.instance.spec.grants:
            return Outcome(Status.DENIED)
        if backend is None:
            return Outcome(Status.UNAVAILABLE)
        if request.op not in backend.operations:
            return Outcome(Status.INVALID)
        if not backend.available(found.instance.device):
            return Outcome(Status.UNAVAILABLE)
        if len(found.tasks) >= MAX_ACTIVE or self._active >= MAX_ACTIVE_TOTAL:
            return Outcome(Status.AGAIN)
        return None

    async def _finish(
        self, found: _Open, request: HostRequest, result: Awaitable[Outcome], limit_s: float, began: float
    ) -> None:
        try:
            async with asyncio.timeout(limit_s):
                outcome = await result
        except TimeoutError:
            outcome = Outcome(Status.TIMEOUT)
        except BadCallError as error:
            log.debug("bad call instance=%s error=%s", request.instance, error)
            outcome = Outcome(Status.INVALID)
        except Exception:
            log.exception("host call failed module=%s op=%s", request.module, request.op)
            outcome = Outcome(Status.IO)
        self._metrics.call_seconds(request.module).observe(time.perf_counter() - began)
        self._answer(found.instance.peer, request, outcome, self._backends.get(request.module))

    def _ended(self, found: _Open, task: asyncio.Task[None], result: Awaitable[Outcome]) -> None:
        if isinstance(result, Coroutine):
            result.close()  # it may never have begun
        self._active -= 1
        found.tasks.discard(task)

    def _answer(self, peer: Peer, request: HostRequest, outcome: Outcome, backend: Backend | None) -> None:
        # Names an application made up must not become labels.
        module = request.module if backend is not None else "other"
        op = request.op if backend is not None and request.op in backend.operations else "other"
        self._metrics.call(module, op, _RESULTS.get(outcome.status, "other")).inc()
        event = _event(request, outcome)
        if event is not None:
            self._post(peer, (event,))

    def _post(self, peer: Peer, events: Sequence[Delivery]) -> None:
        box = self._outbox.get(id(peer))
        if box is None:
            box = self._outbox[id(peer)] = _Outbox(peer, peer.backlog_bytes)
        for event in events:
            if box.size >= MAX_BACKLOG_BYTES and _droppable(event):
                self.dropped(_MODULES[EventType(event.type)])
                continue
            box.events.append(event)
            box.size += len(event.data)
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        outbox, self._outbox = self._outbox, {}
        for box in outbox.values():
            peer, events = box.peer, box.events
            batch: list[Delivery] = []
            size = 0
            for event in events:
                if batch and size + len(event.data) > MAX_BATCH_BYTES:
                    peer.deliver(batch)
                    batch, size = [], 0
                batch.append(event)
                size += len(event.data)
            peer.deliver(batch)
            for kind, count in Counter(event.type for event in events).items():
                self._metrics.events.labels(EventType(kind).name.lower()).inc(count)

    async def _open_backends(self, found: _Open) -> None:
        for backend in self._used(found):
            await backend.open(found.instance)

    def _used(self, found: _Open) -> list[Backend]:
        grants = found.instance.spec.grants
        return [backend for module, backend in self._backends.items() if f"wasmbed:{module}" in grants]

    async def _close_backends(self, found: _Open, why: Ended) -> None:
        async def close(backend: Backend) -> None:
            try:
                await backend.close(found.instance, why)
            except Exception:  # the instance ends all the same
                log.exception("not closed well instance=%s module=%s", found.instance.name, backend.module)

        async with found.lock:
            await asyncio.gather(*(close(backend) for backend in self._used(found)))

    async def _reopen(self, found: _Open) -> None:
        try:
            await self._close_backends(found, Ended.TRAPPED)
            async with found.lock:
                if not found.gone:
                    await self._open_backends(found)
        except RefusedError as error:
            # What was allowed at the start is not now; its calls find nothing open and are refused.
            log.warning("not opened again instance=%s error=%s", found.instance.name, error)
        finally:
            self._settle(found)

    def _settle(self, found: _Open) -> None:
        found.changing -= 1
        while found.waiting and not found.changing:
            request = found.waiting.popleft()
            if found.gone:
                self._answer(
                    found.instance.peer, request, Outcome(Status.UNAVAILABLE), self._backends.get(request.module)
                )
            else:
                self._begin(found, request)

    async def _drop(self, found: _Open, why: Ended) -> None:
        name = found.instance.name
        found.gone = True
        self._cancel(found)
        if self._open.get(name) is found:
            del self._open[name]
        self._trapped.discard(name)
        self._metrics.instances.set(len(self._open))
        await self._close_backends(found, why)

    @staticmethod
    def _cancel(found: _Open) -> None:
        for task in found.tasks:
            task.cancel()

    async def _inform(self, device: str) -> None:
        peers = {id(found.instance.peer): found.instance.peer for found in self._open.values()}
        using = {id(item.instance.peer) for item in self._open.values() if item.instance.device == device}
        for key in using:
            try:
                await self._provide(peers[key], device)
            except PeerGoneError:
                log.debug("nobody to tell what is available device=%s", device)

    async def _provide(self, peer: Peer, device: str) -> None:
        available = tuple(sorted(name for name, backend in self._backends.items() if backend.available(device)))
        sensors = tuple(offer for backend in self._backends.values() for offer in backend.sensors(device))
        offer = Provision(device, available, True, sensors)
        if self._told.get((id(peer), device)) != offer:
            self._told[id(peer), device] = offer
            try:
                await peer.provide(offer)
            except BaseException:
                self._told.pop((id(peer), device), None)
                raise


def _droppable(event: Delivery) -> bool:
    """Whether newer ones make up for it: samples, and messages of ROS 2 but nothing that belongs to a call."""
    if event.type == EventType.ROS2:
        return event.data[:1] == bytes([Ros2Kind.MESSAGE])
    return event.type in {EventType.TELEMETRY, EventType.SENSOR}


def _event(request: HostRequest, outcome: Outcome) -> Delivery | None:
    """The event that tells an outcome: RESULT, but for calls of ROS 2, of which only a failure is told here."""
    if request.token <= 0:
        return None
    if (request.module, request.op) != ("ros2", "call"):
        data = struct.pack("<i", outcome.status) + outcome.detail
        return Delivery(request.instance, EventType.RESULT, request.token, data)
    if outcome.status == Status.OK:
        return None
    handle = request.args[0] if request.args and type(request.args[0]) is int else 0
    header = ROS2_HEADER.pack(Ros2Kind.FAILURE, outcome.status, request.token, time.time_ns())
    return Delivery(request.instance, EventType.ROS2, max(0, handle), header + outcome.detail)
