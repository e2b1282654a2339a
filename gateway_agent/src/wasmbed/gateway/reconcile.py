"""Carrying plans out: pulls, loads, stops and starts, each once at a time, and what came of them."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wasmbed.api import DEFAULT_MAX_ARTIFACT_BYTES, DEFAULT_MAX_MODULES, InstanceState, Reason
from wasmbed.gateway.model import Failure, Observed, Progress, Refusal, Runtime, Shown, Stage, Wanted, retry_delay_s
from wasmbed.gateway.plan import Plan, World, make_plan
from wasmbed.gateway.signatures import UntrustedError
from wasmbed.runtime import RequestRefused, RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from wasmbed.gateway.artifacts import Artifacts
    from wasmbed.gateway.flight_model import Gate
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.runtime import InstanceStatus, StartRequest, StateEvent

_log = logging.getLogger(__name__)

# A runtime that is back within this time leaves no trace in any status.
RUNTIME_GRACE_S = 3.0
CONCURRENT_LOADS = 2
CONCURRENT_CALLS = 8
STOP_RETRY_S = 1.0
_TOLD_WITHOUT_RUNTIME = (Reason.IMAGE_PULL_FAILED, Reason.SUSPENDED, Reason.IN_FLIGHT)


class Reconciler:
    """Brings the runtime to what is wanted; `on_shown` gets, after every plan, what changed (None: gone)."""

    def __init__(
        self,
        artifacts: Artifacts,
        metrics: Metrics,
        on_shown: Callable[[Mapping[str, Shown | None]], None],
        *,
        load_slots: asyncio.Semaphore | None = None,
    ) -> None:
        """`load_slots` bounds the modules that are in memory on their way to a runtime; several may share it."""
        self._artifacts = artifacts
        self._metrics = metrics
        self._on_shown = on_shown
        self._wanted: dict[str, Wanted] = {}
        self._wanted_since: dict[str, float] = {}
        self._complete = False
        self._max_modules = DEFAULT_MAX_MODULES
        self._max_artifact_bytes = DEFAULT_MAX_ARTIFACT_BYTES
        self._client: Runtime | None = None
        self._away_since = -math.inf
        self._away_why = "not connected yet"
        self._running: dict[str, Observed] = {}
        self._busy: set[str] = set()
        self._pulled: dict[str, Progress] = {}
        self._modules: dict[str, Progress] = {}
        self._refusals: dict[str, Refusal] = {}
        self._shown: dict[str, Shown] = {}
        self._gates: dict[str, Gate] = {}
        self.planned = False
        self._wake = asyncio.Event()
        self._load_slots = load_slots or asyncio.Semaphore(CONCURRENT_LOADS)
        self._call_slots = asyncio.Semaphore(CONCURRENT_CALLS)

    def set_wanted(self, wanted: Mapping[str, Wanted], *, complete: bool) -> None:
        """Replace what is wanted; `complete` when nothing else is, so that the rest is stopped.

        `planned` is false from now until the states shown are about this.
        """
        now = _now()
        self.planned = False
        for name, new in wanted.items():
            old = self._wanted.get(name)
            if old != new:
                self._wanted_since[name] = now
                self._try_again_now(new.request.digest)
        for name in self._wanted.keys() - wanted.keys():
            self._refusals.pop(name, None)
            self._wanted_since.pop(name, None)
        self._wanted, self._complete = dict(wanted), complete
        digests = {item.request.digest for item in wanted.values()}
        for progress in (self._pulled, self._modules):
            for digest in [digest for digest in progress if digest not in digests]:
                if progress[digest].stage is not Stage.BUSY:
                    del progress[digest]
        self._wake.set()

    def set_limits(self, *, max_modules: int, max_artifact_bytes: int) -> None:
        """Take the limits of the Gateway; artifacts are looked at again when theirs changed."""
        if max_artifact_bytes != self._max_artifact_bytes:
            for digest, progress in self._pulled.items():
                if progress.stage is not Stage.BUSY:
                    self._pulled[digest] = Progress()
        self._max_modules, self._max_artifact_bytes = max_modules, max_artifact_bytes
        self._wake.set()

    def set_gates(self, gates: Mapping[str, Gate]) -> None:
        """Take what holds starts and updates up, by device."""
        self._gates = dict(gates)
        self._wake.set()

    def attach(self, client: Runtime, instances: Iterable[InstanceStatus]) -> None:
        """Take up a connected runtime with what runs in it; equal instances are adopted by the next plan."""
        self._client = client
        self._running = {
            item.instance: Observed(
                *(item.digest, item.key, item.state, item.reason, item.message, item.restarts),
                grants=frozenset(item.grants),
                previous=item.previous,
            )
            for item in instances
        }
        self._modules.clear()
        self._refusals.clear()
        self._wake.set()

    def detach(self, why: str) -> None:
        """Forget the runtime; nothing is known of its instances until the next one is attached."""
        if self._client is not None:
            self._away_since = _now()
        self._client, self._away_why = None, why
        self._running = {}
        self._modules.clear()
        self._wake.set()

    def observe(self, event: StateEvent) -> None:
        """Take an instance's new state; that of an instance that was stopped is old news."""
        known = self._running.get(event.instance)
        if known is None:
            return
        if event.rolled_back and event.rolled_back == known.key:
            # Without a `before` the update is older than this agent; the name is enough not to try it again.
            before = known.before or replace(known, key="rolled back")
            known = replace(before, previous=event.rolled_back, before=None)
            _log.warning("update taken back instance=%s message=%s", event.instance, event.message)
        self._running[event.instance] = replace(
            known, state=event.state, reason=event.reason, message=event.message, restarts=event.restarts
        )
        wanted = self._wanted.get(event.instance)
        if event.state == InstanceState.RUNNING.value and wanted is not None and wanted.key == known.key:
            since = self._wanted_since.pop(event.instance, None)
            if since is not None:
                self._metrics.start_seconds.observe(_now() - since)
        self._wake.set()

    @property
    def wanted(self) -> Mapping[str, Wanted]:
        """Every wanted instance."""
        return self._wanted

    @property
    def shown(self) -> Mapping[str, Shown]:
        """The state of every wanted instance."""
        return self._shown

    @property
    def running_count(self) -> int:
        """How many instances are Running."""
        return sum(item.state == InstanceState.RUNNING for item in self._running.values())

    async def run(self) -> None:
        """Plan and act whenever something changed, until cancelled."""
        self._away_since = _now()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                wake_at = self._step(tasks)
                try:
                    async with asyncio.timeout_at(None if wake_at == math.inf else wake_at):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _step(self, tasks: asyncio.TaskGroup) -> float:
        now = _now()
        plan = make_plan(
            World(
                wanted=self._wanted,
                running=self._running,
                busy=self._busy,
                artifacts=self._pulled,
                modules=self._modules,
                refusals=self._refusals,
                max_modules=self._max_modules,
                complete=self._complete,
                now=now,
                gates=self._gates,
                verify=self._artifacts.verifies,
            )
        )
        for digest in plan.pulls:
            self._pulled[digest] = Progress(Stage.BUSY, self._failure(self._pulled, digest))
            tasks.create_task(self._pull(digest))
        client = self._client
        if client is None:
            back_by = self._away_since + RUNTIME_GRACE_S
            if now < back_by:
                return min(plan.wake_at, back_by)
            plan.shown = {name: self._waiting(plan, name) for name in plan.shown}
        else:
            self._act(plan, client, tasks)
        self._publish(plan.shown)
        return plan.wake_at

    def _act(self, plan: Plan, client: Runtime, tasks: asyncio.TaskGroup) -> None:
        for digest in plan.loads:
            self._modules[digest] = Progress(Stage.BUSY, self._failure(self._modules, digest))
            tasks.create_task(self._load(client, digest))
        for name in plan.stops:
            self._busy.add(name)
            tasks.create_task(self._call(client, name, self._stop_unwanted(client, name)))
        for name, request in plan.starts.items():
            self._busy.add(name)
            tasks.create_task(self._call(client, name, self._start(client, name, request)))

    def _waiting(self, plan: Plan, name: str) -> Shown:
        shown = plan.shown[name]
        if shown.reason in _TOLD_WITHOUT_RUNTIME:
            return shown
        return Shown(InstanceState.PENDING, shown.digest, message=f"waiting for the runtime: {self._away_why}")

    def _publish(self, shown: dict[str, Shown]) -> None:
        changes: dict[str, Shown | None] = {
            name: state for name, state in shown.items() if self._shown.get(name) != state
        }
        changes.update(dict.fromkeys(self._shown.keys() - shown.keys()))
        self._shown = shown
        self.planned = True
        self._on_shown(changes)

    def _try_again_now(self, digest: str) -> None:
        progress = self._pulled.get(digest)
        if progress is not None and progress.stage is Stage.MISSING:
            del self._pulled[digest]

    async def _pull(self, digest: str) -> None:
        images = {item.image for item in self._wanted.values() if item.request.digest == digest}
        try:
            warning = await self._artifacts.ensure(digest, images, limit_bytes=self._max_artifact_bytes)
        except Exception as error:  # a full disk or a fault of ours is this image's failure alone
            self._pulled[digest] = self._failed(self._pulled, digest, Reason.IMAGE_PULL_FAILED, error)
        else:
            self._pulled[digest] = Progress(Stage.DONE, warning=warning)
        self._wake.set()

    async def _load(self, client: Runtime, digest: str) -> None:
        result = Progress()
        try:
            async with self._load_slots:
                if not await client.has(digest):
                    module = await self._artifacts.read(digest)
                    if module is None:
                        self._pulled.pop(digest, None)
                    else:
                        await client.load(digest, module)
                        result = Progress(Stage.DONE)
                else:
                    result = Progress(Stage.DONE)
        except RuntimeGone:
            pass
        except Exception as error:
            result = self._failed(self._modules, digest, Reason.DEVICE_ERROR, error)
        if self._client is client:
            self._modules[digest] = result
        self._wake.set()

    async def _call(self, client: Runtime, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` on one instance; whatever fails is that instance's failure."""
        wanted = self._wanted.get(name)
        try:
            async with self._call_slots:
                await work
        except RuntimeGone:
            pass
        except Exception as error:
            if self._client is client and wanted is not None:
                previous = self._refusals.get(name)
                count = previous.failure.count if previous is not None and previous.key == wanted.key else 0
                self._refusals[name] = Refusal(wanted.key, _failure_of(error, Reason.DEVICE_ERROR, count + 1))
        finally:
            work.close()
            self._busy.discard(name)
            self._wake.set()

    async def _stop(self, client: Runtime, name: str) -> None:
        await client.stop(name)
        if self._client is client:
            self._running.pop(name, None)

    async def _stop_unwanted(self, client: Runtime, name: str) -> None:
        try:
            await self._stop(client, name)
        except RequestRefused as error:
            _log.error("not stopped, tried again instance=%s error=%s", name, error)
            await asyncio.sleep(STOP_RETRY_S)

    async def _start(self, client: Runtime, name: str, request: StartRequest) -> None:
        """Start or update; what cannot be updated is stopped first, if the runtime finds no fault with the new one."""
        try:
            before = self._running.get(name)
            try:
                await self._start_new(client, name, request, before)
            except RequestRefused as error:
                if error.reason != "BadRequest" or before is None or self._client is not client:
                    raise
                await client.check(request)
                await self._stop(client, name)
                if self._client is client:
                    await self._start_new(client, name, request, None)
        except RequestRefused as error:
            if error.reason == "NotFound" and self._client is client:
                self._modules.pop(request.digest, None)
            raise

    async def _start_new(self, client: Runtime, name: str, request: StartRequest, before: Observed | None) -> None:
        self._running[name] = Observed(
            *(request.digest, request.key(), InstanceState.STARTING),
            grants=frozenset(request.grants),
            before=None if before is None else replace(before, before=None),
        )
        try:
            await client.start(request)
        except RequestRefused as error:
            if self._client is client and before is not None:
                self._running[name] = before
            elif self._client is client and error.reason == "BadRequest":
                # Something of this name may run that was not listed: the next try replaces it.
                self._running[name] = Observed(request.digest, "", InstanceState.FAILED)
            elif self._client is client:
                self._running.pop(name, None)
            raise
        self._refusals.pop(name, None)

    @staticmethod
    def _failure(progress: Mapping[str, Progress], digest: str) -> Failure | None:
        return progress[digest].failure if digest in progress else None

    def _failed(self, progress: Mapping[str, Progress], digest: str, reason: str, error: Exception) -> Progress:
        previous = self._failure(progress, digest)
        return Progress(Stage.MISSING, _failure_of(error, reason, previous.count + 1 if previous else 1))


def _failure_of(error: Exception, reason: str, count: int) -> Failure:
    retry_at = _now() + retry_delay_s(count)
    if isinstance(error, RequestRefused):
        message = error.message
        if error.reason == Reason.INVALID_MODULE:
            # The same bytes stay invalid until another runtime looks at them.
            return Failure(Reason.INVALID_MODULE, message, math.inf, count)
    else:
        message = str(error) or type(error).__name__
    _log.warning("failed reason=%s count=%d error=%s", reason, count, message, exc_info=_unexpected(error))
    return Failure(reason, message, retry_at, count, untrusted=isinstance(error, UntrustedError))


def _unexpected(error: Exception) -> Exception | None:
    return error if isinstance(error, (TypeError, KeyError, AttributeError, AssertionError)) else None


def _now() -> float:
    return asyncio.get_running_loop().time()
