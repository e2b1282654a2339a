"""Status writes: only changes, gathered for a moment, a bounded number per object and second, until they succeed."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wasmbed.gateway.model import retry_delay_s
from wasmbed.kube import ApiError, ApiUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wasmbed.kube import Kind

_log = logging.getLogger(__name__)

# Somebody waits for a settled status; one in between is often followed by another at once.
SETTLED_DELAY_S = 0.01
UNSETTLED_DELAY_S = 0.15
WRITES_PER_S = 5.0
BURST = 5.0
CONCURRENT_WRITES = 8


@dataclass(frozen=True)
class Target:
    """An object whose status is written; the uid keeps a write from one that was made anew under the name."""

    kind: Kind
    name: str
    uid: str
    namespace: str | None = None

    def body(self, status: dict[str, Any]) -> dict[str, Any]:
        """The object to apply."""
        metadata = {"name": self.name, "uid": self.uid}
        if self.namespace:
            metadata["namespace"] = self.namespace
        return {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": metadata,
            "status": status,
        }


@dataclass
class _Entry:
    wanted: dict[str, Any]
    written: dict[str, Any] | None
    due: float = math.inf
    busy: bool = False
    failures: int = 0
    tokens: float = BURST
    counted_at: float = 0.0

    def token_wait_s(self, now: float) -> float:
        self.tokens = min(BURST, self.tokens + (now - self.counted_at) * WRITES_PER_S)
        self.counted_at = now
        return max(0.0, (1.0 - self.tokens) / WRITES_PER_S)


class StatusWriter:
    """Writes statuses with `send`; later ones of an object replace those that were not written yet."""

    def __init__(
        self, send: Callable[[Kind, dict[str, Any]], Awaitable[object]], count: Callable[[str, str], None]
    ) -> None:
        self._send = send
        self._count = count
        self._entries: dict[Target, _Entry] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(CONCURRENT_WRITES)

    def put(
        self, target: Target, status: dict[str, Any], *, known: dict[str, Any] | None, settled: bool = True
    ) -> None:
        """Have `status` written; `known` is what the API has, used when nothing was written to the object yet."""
        now = asyncio.get_running_loop().time()
        entry = self._entries.get(target)
        if entry is None:
            entry = self._entries[target] = _Entry(status, known, counted_at=now)
        entry.wanted = status
        if entry.wanted == entry.written:
            entry.due = math.inf
        elif not entry.failures:
            delay_s = SETTLED_DELAY_S if settled else UNSETTLED_DELAY_S
            entry.due = min(entry.due, now + max(delay_s, entry.token_wait_s(now)))
        self._wake.set()

    def forget(self, target: Target) -> None:
        """Stop writing to an object that is gone."""
        self._entries.pop(target, None)

    def hurry(self) -> None:
        """Try again now what failed: the API is back."""
        now = asyncio.get_running_loop().time()
        for entry in self._entries.values():
            if entry.failures and entry.wanted != entry.written:
                entry.due = now
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                now = asyncio.get_running_loop().time()
                due = [
                    (target, entry) for target, entry in self._entries.items() if entry.due <= now and not entry.busy
                ]
                for target, entry in due:
                    entry.busy, entry.due = True, math.inf
                    tasks.create_task(self._write(target, entry))
                wake_at = min((entry.due for entry in self._entries.values() if not entry.busy), default=math.inf)
                try:
                    async with asyncio.timeout_at(None if wake_at == math.inf else wake_at):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _write(self, target: Target, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        async with self._slots:
            status = entry.wanted
            entry.token_wait_s(loop.time())
            entry.tokens -= 1.0
            try:
                await self._send(target.kind, target.body(status))
            except ApiError as error:
                self._failed(target, entry, error)
            else:
                self._count(target.kind.kind, "written")
                entry.written, entry.failures = status, 0
                if entry.wanted != status:
                    now = loop.time()
                    entry.due = now + max(SETTLED_DELAY_S, entry.token_wait_s(now))
        entry.busy = False
        self._wake.set()

    def _failed(self, target: Target, entry: _Entry, error: ApiError) -> None:
        self._count(target.kind.kind, "failed")
        if error.status == 404:
            # If it comes again, the informer tells. A conflict passes, or is with another object of this name: as well.
            if self._entries.get(target) is entry:
                del self._entries[target]
            return
        entry.failures += 1
        if entry.failures == 1 or not isinstance(error, ApiUnreachableError):
            _log.warning("status not written kind=%s name=%s error=%s", target.kind.kind, target.name, error)
        entry.due = asyncio.get_running_loop().time() + retry_delay_s(entry.failures, first_s=0.5, cap_s=15.0)
