"""The instances of one worker and the operations on them; everything here is on the worker's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from wasmbed.runtime import abi
from wasmbed.runtime.content import Shared
from wasmbed.runtime.course import Course
from wasmbed.runtime.deliveries import take_provision
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.supervisor import Supervisor
from wasmbed.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasmbed.runtime.backends import Backends
    from wasmbed.runtime.content import Content
    from wasmbed.runtime.events import EventQueue
    from wasmbed.runtime.protocol import Group, Provision, Secret
    from wasmbed.runtime.reports import HostRequest, Reason

STOP_GRACE_S: Final = 1.0
STOP_TIMEOUT_S: Final = 10.0
UPDATE_TIMEOUT_S: Final = 10.0


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is not carried out."""

    def __init__(self, reason: Reason, message: str, findings: list[str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.findings = findings or []


class Outbound:
    """Requests on their way to the peer: so many an instance, until the main process says that they were sent."""

    def __init__(self, events: EventQueue) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._sizes: dict[str, deque[int]] = {}
        self._bytes: Counter[str] = Counter()
        self.peer = False

    def post(self, request: HostRequest, must: bool) -> bool:
        """Queue a request; False when there is no peer or its instance has too much under way (unless it must)."""
        size = len(request.data or b"")
        with self._lock:
            if not self.peer:
                return False
            sizes = self._sizes.setdefault(request.instance, deque())
            waiting = self._bytes[request.instance]
            full = len(sizes) >= abi.REQUESTS or (sizes and waiting + size > abi.REQUEST_BYTES)
            if full and not must:
                return False
            sizes.append(size)
            self._bytes[request.instance] += size
        self._events.put(request)
        return True

    def sent(self, counts: dict[str, int]) -> None:
        """Take the word that the oldest requests of instances were handed over."""
        with self._lock:
            for instance, count in counts.items():
                sizes = self._sizes.get(instance, deque())
                for _ in range(min(count, len(sizes))):
                    self._bytes[instance] -= sizes.popleft()
                if not sizes:
                    self._sizes.pop(instance, None)
                    self._bytes.pop(instance, None)

    def set_peer(self, up: bool) -> None:
        with self._lock:
            self.peer = up
            self._sizes.clear()
            self._bytes.clear()


class _Slot:
    """The version that runs under one name, and the one that is about to."""

    def __init__(self, current: Supervisor) -> None:
        self.current = current
        self.candidate: Supervisor | None = None
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()

    def versions(self) -> list[Supervisor]:
        return [self.current] if self.candidate is None else [self.current, self.candidate]


class Instances:
    """All instances of this process."""

    def __init__(self, events: EventQueue, backends: Backends) -> None:
        self._events = events
        self._backends = backends
        self.outbound = Outbound(events)
        self._watchdog = Watchdog()
        self._watchdog.start()
        self._shared = Shared(events, Exchange(), self._watchdog, backends, self.outbound.post)
        self._slots: dict[str, _Slot] = {}
        self._loop = asyncio.get_running_loop()
        # Of instances that are gone.
        self._past_calls: Counter[str] = Counter()

    def list(self) -> list[dict[str, Any]]:
        # One that is to stop is as good as gone: an agent that took it for running would never start it again.
        return [slot.current.status().to_wire() for slot in self._slots.values() if not slot.current.stopping]

    async def start(self, content: Content, course: Course | None = None) -> None:
        """Start an instance, or update the one of this name; raises Refusal."""
        name = content.request.instance
        slot = self._slots.get(name)
        if slot is not None and slot.current.stopping:
            await self.stop(name)
            slot = self._slots.get(name)
        if slot is None:
            slot = _Slot(self._make(content, course=course))
            self._slots[name] = slot
            try:
                slot.current.start()
            except (RuntimeError, ValueError) as error:
                del self._slots[name]
                raise Refusal("DeviceError", f"no room for one more instance: {error}") from error
            return
        key = content.request.key()
        if slot.candidate is not None and slot.candidate.key != key:
            try:
                async with asyncio.timeout(UPDATE_TIMEOUT_S):
                    await slot.settled.wait()
            except TimeoutError:
                raise Refusal("DeviceError", f"another update of {name!r} is under way") from None
            await self.start(content)
            return
        if slot.candidate is None and slot.current.key != key:
            self._update(slot, content)

    def _update(self, slot: _Slot, content: Content) -> None:
        candidate = self._make(content, predecessor=slot.current)
        slot.settled.clear()
        slot.candidate = candidate
        try:
            candidate.start()
        except (RuntimeError, ValueError) as error:
            slot.candidate = None
            slot.settled.set()
            raise Refusal("DeviceError", f"no room for one more instance: {error}") from error

    def _make(
        self,
        content: Content,
        *,
        course: Course | None = None,
        predecessor: Supervisor | None = None,
        state: bytes | None = None,
    ) -> Supervisor:
        return Supervisor(
            content,
            self._shared,
            on_end=lambda supervisor: self._soon(self._has_ended, supervisor),
            course=course,
            predecessor=predecessor,
            on_taken_over=lambda supervisor: self._soon(self._taken_over, supervisor),
            on_rolled_back=lambda supervisor, message: self._soon(self._rolled_back, supervisor, message),
            state=state,
        )

    def _soon(self, call: Any, *arguments: object) -> None:
        # A loop that is closed has nobody who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _taken_over(self, supervisor: Supervisor) -> None:
        slot = self._slots.get(supervisor.request.instance)
        if slot is not None and slot.candidate is supervisor:
            old, slot.current, slot.candidate = slot.current, supervisor, None
            slot.settled.set()
            self._loop.call_later(STOP_GRACE_S, old.end_now)

    def _rolled_back(self, failed: Supervisor, message: str) -> None:
        slot = self._slots.get(failed.request.instance)
        if slot is None:
            return
        if slot.candidate is failed:
            slot.candidate = None
            slot.settled.set()
            slot.current.resume(failed.key, message)
        elif slot.current is failed and failed.fallback is not None and not failed.stopping:
            fallback = failed.fallback
            course = Course(restarts=failed.status().restarts + 1)
            slot.current = self._make(fallback.content, course=course, state=fallback.state)
            slot.current.previous, slot.current.previous_message = failed.key, message
            slot.current.start()

    def _has_ended(self, supervisor: Supervisor) -> None:
        for name, (calls, refused) in supervisor.counters().items():
            self._past_calls[f"calls {name}"] += calls
            self._past_calls[f"refused {name}"] += refused
        for kind, count in supervisor.context.inbox.dropped.items():
            self._past_calls[f"dropped {abi.EventType(kind).name}"] += count
        name = supervisor.request.instance
        slot = self._slots.get(name)
        if slot is None:
            return
        if slot.candidate is supervisor:
            slot.candidate = None
            slot.settled.set()
        if slot.current is supervisor and slot.candidate is None:
            slot.ended.set()
            # Not only in `stop`, whose caller may have gone away.
            if supervisor.stopping:
                self._forget(name, slot)

    def _forget(self, name: str, slot: _Slot) -> None:
        if self._slots.get(name) is slot:
            del self._slots[name]
            self._events.forget(name)

    async def stop(self, instance: str) -> None:
        """Stop an instance and wait until its threads ended; raises Refusal when they do not."""
        slot = self._slots.get(instance)
        if slot is None:
            return
        self._ask_to_stop(slot)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                if slot.candidate is not None:
                    await slot.settled.wait()
                    self._ask_to_stop(slot)
                await slot.ended.wait()
        except TimeoutError:
            raise Refusal("DeviceError", f"instance {instance!r} did not stop in {STOP_TIMEOUT_S:.0f} s") from None
        self._forget(instance, slot)

    def _ask_to_stop(self, slot: _Slot) -> None:
        for supervisor in slot.versions():
            if not supervisor.stopping:
                supervisor.stop()
                self._loop.call_later(STOP_GRACE_S, supervisor.end_now)

    def deliver(self, batch: Iterable[Group]) -> None:
        """Hand events to their instances."""
        for instance, kind, source, items in batch:
            slot = self._slots.get(instance)
            if slot is None:
                continue
            # A sealed message opens once, and what runs is the one to get it.
            versions = [slot.current] if kind == abi.EventType.SECURE else slot.versions()
            for supervisor in versions:
                supervisor.deliver(kind, source, items)

    def provide(self, provision: Provision) -> None:
        before = self._backends.provide(provision)
        self._follow(before, provision)

    def _follow(self, before: Provision, now: Provision) -> None:
        for slot in self._slots.values():
            for supervisor in slot.versions():
                if supervisor.request.device == now.device:
                    take_provision(supervisor.context, before, now)

    def secret(self, secret: Secret) -> None:
        self._backends.secret(secret)

    def set_peer(self, up: bool) -> None:
        """Take the word that there is a peer, or that it is gone and with it all backends."""
        if not up:
            for before in self._backends.peer_lost():
                self._follow(before, self._backends.of(before.device))
            for slot in self._slots.values():
                for supervisor in slot.versions():
                    supervisor.context.calls.lost()
        self.outbound.set_peer(up)

    def counters(self) -> dict[str, int]:
        """Return counts since this process began."""
        total = Counter(self._past_calls)
        for slot in self._slots.values():
            for supervisor in slot.versions():
                for name, (calls, refused) in list(supervisor.counters().items()):
                    total[f"calls {name}"] += calls
                    total[f"refused {name}"] += refused
                for kind, count in list(supervisor.context.inbox.dropped.items()):
                    total[f"dropped {abi.EventType(kind).name}"] += count
        return {name: count for name, count in total.items() if count}

    async def close(self) -> None:
        """Stop everything."""
        for slot in self._slots.values():
            self._ask_to_stop(slot)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                for slot in list(self._slots.values()):
                    await slot.ended.wait()
        self._watchdog.close()
