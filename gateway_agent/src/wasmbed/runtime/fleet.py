"""All instances of a runtime and the workers that run them; a worker that dies is started again with its instances."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from wasmbed.runtime import wire
from wasmbed.runtime.abi import EventType
from wasmbed.runtime.course import FIRST_DELAY_S, LONGEST_DELAY_S
from wasmbed.runtime.instances import Refusal
from wasmbed.runtime.protocol import NO_BLOCK
from wasmbed.runtime.reports import HostRequest, InstanceStatus, StateEvent
from wasmbed.runtime.sealing import SealError, unseal_down
from wasmbed.runtime.update import TRIAL_S, rolled_back_message
from wasmbed.runtime.workers import WorkerGoneError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wasmbed.runtime.events import EventQueue
    from wasmbed.runtime.protocol import Group, Provision, Secret, StartRequest
    from wasmbed.runtime.reports import Event

log = logging.getLogger(__name__)

MAX_INSTANCES: Final = 1024
SHARED: Final = ""
# A worker is told of requests that were handed over so much later, or when there are so many: each word costs more than
# a request, and far more may be under way.
SENT_S: Final = 0.004
MAX_UNTOLD: Final = 64


@dataclass
class _Entry:
    """One instance as it is to run; before is what ran until its last update."""

    request: StartRequest
    artifact: Path
    shown: StateEvent
    before: tuple[StartRequest, Path] | None = None
    updated_s: float = 0.0
    previous: str = ""


class _Worker:
    """A worker that is kept alive as long as it is wanted."""

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.ready = asyncio.Event()
        self.wanted = True
        self.task: asyncio.Task[None] | None = None


class Fleet:
    """Use within `async with`: it keeps the shared worker ready."""

    def __init__(self, events: EventQueue, owners: Path) -> None:
        self._events = events
        self._owners = owners
        self._entries: dict[str, _Entry] = {}
        self._workers: dict[str, _Worker] = {}
        self._provisions: dict[str, Provision] = {}
        self._secrets: dict[tuple[str, str], Secret] = {}
        self._peer = False
        self._sent: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Fleet:
        worker = self._worker(SHARED)
        await worker.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.wanted = False
        await asyncio.gather(*(self._end(worker) for worker in self._workers.values()))

    @staticmethod
    async def _end(worker: _Worker) -> None:
        worker.wanted = False
        if worker.process is not None:
            await worker.process.end()
        if worker.task is not None:
            if worker.process is None:
                worker.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker.task

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [worker.process.pid for worker in self._workers.values() if worker.process is not None]

    # Workers

    def _worker(self, name: str) -> _Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker()
            worker.task = asyncio.get_running_loop().create_task(self._keep(name, worker))
        return worker

    async def _keep(self, name: str, worker: _Worker) -> None:
        delay_s = FIRST_DELAY_S
        while worker.wanted:
            began_s = time.monotonic()
            try:
                process = await WorkerProcess.start(self._owners)
            except OSError as error:
                death = f"no process can be made for it: {error}"
            else:
                log.info("worker started pid=%d application=%s", process.pid, name or "shared")
                reading = asyncio.get_running_loop().create_task(process.run(self._take))
                worker.process = process
                await self._fill(name, process)
                worker.ready.set()
                death = await reading
                worker.process = None
                worker.ready.clear()
            if not worker.wanted:
                break
            log.error("worker died application=%s cause=%s", name or "shared", death)
            self._mark_dead(name, death)
            if time.monotonic() - began_s > LONGEST_DELAY_S:
                delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        worker.ready.set()

    async def _fill(self, name: str, process: WorkerProcess) -> None:
        """Give a new worker what the one before it had."""
        process.tell({"peer": self._peer})
        for provision in self._provisions.values():
            process.tell({"provide": provision.to_wire()})
        for secret in self._secrets.values():
            # The numbers of its block may be used up; the first seal asks for another.
            process.tell({"secret": {**secret.to_wire(), "sequence": NO_BLOCK}})
        for instance, entry in list(self._entries.items()):
            if _home(entry.request) == name:
                try:
                    await process.call("start", self._start_fields(entry, again=True))
                except Refusal as refusal:
                    self._show(instance, StateEvent(instance, "Failed", "DeviceError", str(refusal), 0))
                except WorkerGoneError:
                    return

    def _start_fields(self, entry: _Entry, *, again: bool = False) -> dict[str, Any]:
        fields = {**entry.request.to_wire(), "artifact": str(entry.artifact)}
        if again and entry.shown.state == "Failed":
            fields |= {"failed": entry.shown.message, "restarts": entry.shown.restarts}
        return fields

    def _mark_dead(self, name: str, death: str) -> None:
        for instance, entry in self._entries.items():
            if _home(entry.request) != name:
                continue
            rolled_back = ""
            if entry.before is not None and time.monotonic() - entry.updated_s < TRIAL_S:
                rolled_back = entry.request.key()
                death = rolled_back_message(entry.before[0].digest, death)
                (entry.request, entry.artifact), entry.before = entry.before, None
                entry.previous = rolled_back
            self._show(
                instance, StateEvent(instance, "Failed", "DeviceError", death, entry.shown.restarts, rolled_back)
            )

    def _show(self, instance: str, state: StateEvent) -> None:
        entry = self._entries.get(instance)
        if entry is not None:
            entry.shown = state
            self._events.put(state)

    def _take(self, event: Event) -> None:
        if isinstance(event, StateEvent):
            entry = self._entries.get(event.instance)
            if entry is None:
                return
            entry.shown = event
            if event.rolled_back and event.rolled_back == entry.request.key() and entry.before is not None:
                (entry.request, entry.artifact), entry.before = entry.before, None
                entry.previous = event.rolled_back
        elif isinstance(event, HostRequest) and not self._peer:
            return
        self._events.put(event)

    # Instances

    async def start(self, request: StartRequest, artifact: Path) -> None:
        """Start or update an instance; raises Refusal."""
        async with self._locks[request.instance]:
            entry = self._entries.get(request.instance)
            if entry is not None and entry.request.key() == request.key():
                return
            if entry is not None and _differs(entry.request, request):
                what = _differs(entry.request, request)
                message = f"instance {request.instance!r} runs with another {what}; stop it first"
                raise Refusal("BadRequest", message)
            if entry is None and len(self._entries) >= MAX_INSTANCES:
                raise Refusal("DeviceError", f"this runtime already runs {MAX_INSTANCES} instances")
            name = _home(request)
            worker = self._worker(name)
            new = _Entry(request, artifact, StateEvent(request.instance, "Starting", "", "", 0))
            if entry is not None:
                new.shown = entry.shown
                new.before, new.updated_s = (entry.request, entry.artifact), time.monotonic()
            self._entries[request.instance] = new
            if worker.process is None:
                if not worker.ready.is_set() and name != SHARED:
                    await worker.ready.wait()
                return
            try:
                await worker.process.call("start", self._start_fields(new))
            except WorkerGoneError:
                # It is started with the next worker.
                return
            except Refusal:
                if entry is None:
                    self._entries.pop(request.instance, None)
                    await self._end_unused(name)
                else:
                    self._entries[request.instance] = entry
                raise

    async def stop(self, instance: str) -> None:
        """Stop an instance and wait until it is gone; raises Refusal."""
        async with self._locks[instance]:
            entry = self._entries.pop(instance, None)
            if entry is not None:
                name = _home(entry.request)
                worker = self._workers.get(name)
                if worker is not None and worker.process is not None:
                    try:
                        await worker.process.call("stop", {"instance": instance})
                    except WorkerGoneError:
                        pass
                    except Refusal:
                        self._entries[instance] = entry
                        raise
                self._events.forget(instance)
                await self._end_unused(name)
        self._locks.pop(instance, None)

    async def _end_unused(self, name: str) -> None:
        if name != SHARED and not any(_home(entry.request) == name for entry in self._entries.values()):
            worker = self._workers.pop(name, None)
            if worker is not None:
                await self._end(worker)

    async def list(self) -> list[dict[str, Any]]:
        """Return a row for every instance."""
        rows: dict[str, dict[str, Any]] = {}
        for worker in list(self._workers.values()):
            if worker.process is not None:
                with contextlib.suppress(WorkerGoneError, Refusal):
                    answer = await worker.process.call("list", {})
                    rows |= {row["instance"]: row for row in answer["instances"]}
        # A worker that was started again does not know of an update that brought the one before down.
        return [
            {**row, "previous": row["previous"] or entry.previous} if (row := rows.get(name)) else _row(entry)
            for name, entry in self._entries.items()
        ]

    async def metrics(self) -> dict[str, int]:
        """Return the counters of all workers that run, added up."""
        total: Counter[str] = Counter()
        for worker in list(self._workers.values()):
            if worker.process is not None:
                with contextlib.suppress(WorkerGoneError, Refusal):
                    total.update((await worker.process.call("metrics", {}))["counters"])
        return dict(total)

    # What the peer tells

    def _all(self, message: dict[str, Any]) -> None:
        for worker in self._workers.values():
            if worker.process is not None:
                worker.process.tell(message)

    def deliver(self, batch: Iterable[Group]) -> None:
        """Hand events to the workers of their instances."""
        by_worker: defaultdict[str, list[Group]] = defaultdict(list)
        for group in batch:
            instance, kind, _, items = group
            entry = self._entries.get(instance)
            if entry is not None:
                by_worker[_home(entry.request)].append(group)
                if kind == EventType.SECURE:
                    for data in items:
                        self._note_received(entry.request, data)
        for name, groups in by_worker.items():
            worker = self._workers.get(name)
            if worker is not None and worker.process is not None:
                worker.process.tell({"deliver": groups})

    def provide(self, provision: Provision) -> None:
        self._provisions[provision.device] = provision
        self._all({"provide": provision.to_wire()})

    def _note_received(self, request: StartRequest, data: bytes) -> None:
        """Remember a message's number for the worker after this one, which must not deliver it again."""
        secret = self._secrets.get((request.application, request.device))
        if secret is not None:
            with contextlib.suppress(SealError):
                sequence = unseal_down(secret.key, secret.application, secret.device, data).sequence
                if sequence > secret.received:
                    self._secrets[secret.application, secret.device] = replace(secret, received=sequence)

    def secret(self, secret: Secret) -> None:
        before = self._secrets.get((secret.application, secret.device))
        if before is not None and before.key == secret.key:
            secret = replace(secret, received=max(secret.received, before.received))
        self._secrets[secret.application, secret.device] = secret
        self._all({"secret": secret.to_wire()})

    def set_peer(self, up: bool) -> None:
        """Take note of a peer, or of its loss; nothing is available until it says so."""
        if not up:
            self._events.drop_requests()
            self._sent.clear()
            self._provisions = {
                device: type(provision)(device, (), provision.link) for device, provision in self._provisions.items()
            }
        self._peer = up
        self._all({"peer": up})

    def sent(self, events: Iterable[Event]) -> None:
        """Take note of requests that were handed to the peer; their workers are told soon."""
        self._sent.update(event.instance for event in events if isinstance(event, HostRequest))
        if self._sent and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(SENT_S, self._tell_sent)
        if self._telling is not None and self._sent.total() >= MAX_UNTOLD:
            self._telling.cancel()
            self._tell_sent()

    def _tell_sent(self) -> None:
        counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        for instance, count in self._sent.items():
            entry = self._entries.get(instance)
            counts[None if entry is None else _home(entry.request)][instance] = count
        self._sent, self._telling = Counter(), None
        # An instance that was stopped meanwhile has no home any more, but may be started again under its name.
        if gone := counts.pop(None, None):
            self._all({"sent": dict(gone)})
        for name, sent in counts.items():
            worker = self._workers.get(name or SHARED)
            if worker is not None and worker.process is not None:
                worker.process.tell({"sent": dict(sent)})


def _home(request: StartRequest) -> str:
    """The worker of an instance: its application's own, or the shared one."""
    return request.application if request.isolation == "dedicated" else SHARED


def _differs(old: StartRequest, new: StartRequest) -> str:
    """What of a request cannot be changed while it runs."""
    for what in ("isolation", "application", "device", "device_class"):
        if getattr(old, what) != getattr(new, what):
            return what.replace("_", " ")
    return ""


def _row(entry: _Entry) -> dict[str, Any]:
    """The row of an instance whose worker does not tell."""
    request, shown = entry.request, entry.shown
    return InstanceStatus(
        *(request.instance, request.digest, shown.state, shown.reason, wire.shorten(shown.message), shown.restarts),
        key=request.key(),
        grants=request.grants,
        previous=entry.previous,
    ).to_wire()
