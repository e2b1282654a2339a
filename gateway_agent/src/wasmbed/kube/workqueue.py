"""A keyed work queue: a key that waits is not queued twice, and no two workers have the same key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from wasmbed.kube.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    Observer = Callable[[Hashable, float, Exception | None], None]

logger = logging.getLogger(__name__)

K = TypeVar("K", bound="Hashable")

BACKOFF_S = (0.05, 60.0)


class WorkQueue(Generic[K]):
    """Keys to be worked on, in the order they came, each with a back-off of its own after failures."""

    def __init__(self, name: str = "queue", *, observer: Observer | None = None) -> None:
        """Make an empty queue; `observer` gets key, duration in seconds and error of each piece of work."""
        self._name = name
        self._observer = observer
        self._waiting: deque[K] = deque()
        self._queued: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Keys that wait; those with a timer and those being worked on are not counted."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Queue a key; one that is being worked on comes again when that is done."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.append(key)
            self._ready.set()
            self._idle.clear()

    def add_after(self, key: K, seconds: float) -> None:
        """Queue a key in `seconds`, unless it comes sooner anyway."""
        if key in self._queued:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self.add, key)

    @property
    def idle(self) -> bool:
        """Whether no key waits or is being worked on; timers do not count."""
        return self._idle.is_set()

    async def wait_idle(self) -> None:
        """Wait until the queue is idle."""
        await self._idle.wait()

    async def run(self, handler: Callable[[K], Awaitable[None]], *, workers: int = 1) -> None:
        """Work until cancelled; a key whose handler raises comes again after its back-off (50 ms doubling to 60 s)."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._work(handler), name=f"{self._name}-{number}")
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _next(self) -> K:
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        key = self._waiting.popleft()
        self._queued.discard(key)
        self._working.add(key)
        return key

    async def _work(self, handler: Callable[[K], Awaitable[None]]) -> None:
        while True:
            key = await self._next()
            started = time.perf_counter()
            failure: Exception | None = None
            try:
                await handler(key)
            except Exception as error:
                failure = error
            finally:
                self._working.discard(key)
            if self._observer is not None:
                self._observer(key, time.perf_counter() - started, failure)
            self._finish(key, failure)

    def _finish(self, key: K, failure: Exception | None) -> None:
        again = key in self._again
        self._again.discard(key)
        if failure is None:
            self._failures.pop(key, None)
        else:
            self._retry(key, failure)
        if again:
            self.add(key)
        if not self._waiting and not self._working:
            self._idle.set()

    def _retry(self, key: K, failure: Exception) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        shortest, longest = BACKOFF_S
        delay = min(longest, shortest * 2.0 ** min(count - 1, 16))
        if isinstance(failure, ApiError):
            logger.warning("work failed queue=%s key=%s retry_s=%.2f error=%s", self._name, key, delay, failure)
        else:
            logger.error("work failed queue=%s key=%s retry_s=%.2f", self._name, key, delay, exc_info=failure)
        self.add_after(key, delay)
