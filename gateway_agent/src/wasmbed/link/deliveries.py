"""Events on their way to a microcontroller's instances: in order, one at a time, each once; the newest of a kind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from wasmbed.link.exchange import Priority
from wasmbed.link.smp import Id, Op, Result, ResultError
from wasmbed.runtime import RuntimeGone, abi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wasmbed.link.exchange import Exchange
    from wasmbed.runtime import Delivery

MAX_WAITING: Final = 512
MAX_WAITING_BYTES: Final = 64 * 1024
# A device whose application does not take its events is asked again for so long; then what may be lost is dropped.
BUSY_S: Final = 0.05
_NEWEST_ONLY: Final = (abi.EventType.TELEMETRY, abi.EventType.SENSOR)
_BUSY_TRIES: Final = 20


class Deliveries:
    """The queue of one device; `run` empties it."""

    def __init__(self, exchange: Exchange, wire_name: Callable[[str], str]) -> None:
        self._exchange = exchange
        self._wire_name = wire_name
        self._queue: OrderedDict[object, Delivery] = OrderedDict()
        self._numbers = itertools.count(1)
        self._wake = asyncio.Event()
        self.waiting_bytes = 0
        self.dropped = 0

    def clear(self) -> None:
        """Another device is there."""
        self._queue.clear()
        self.waiting_bytes = 0

    def begin(self) -> None:
        """A new session: numbers begin again."""
        self._numbers = itertools.count(1)
        self._wake.set()

    def put(self, batch: Iterable[Delivery], limit_bytes: int) -> int:
        """Queue events; returns how many were left out for their size or for want of room."""
        lost = 0
        for event in batch:
            if event.type == abi.EventType.ROS2 and len(event.data) > limit_bytes:
                short = abi.too_big(event.data)
                event = event if short is None else event._replace(data=short)  # noqa: PLW2901
            newest = event.type in _NEWEST_ONLY
            key: object = (event.instance, event.type, event.source) if newest else object()
            before = self._queue.get(key)
            size = self.waiting_bytes + len(event.data) - (0 if before is None else len(before.data))
            full = len(self._queue) >= MAX_WAITING or size > MAX_WAITING_BYTES
            if len(event.data) > limit_bytes or (full and before is None and abi.may_be_lost(event.type, event.data)):
                lost += 1
                continue
            self._queue[key] = event
            self.waiting_bytes = size
        self.dropped += lost
        self._wake.set()
        return lost

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            if not self._queue or not self._exchange.up:
                self._wake.clear()
                await self._wake.wait()
                continue
            key, event = next(iter(self._queue.items()))
            number = next(self._numbers)
            with contextlib.suppress(RuntimeGone):
                await self._send(event, number)
                # A newer one may have come meanwhile.
                if self._queue.get(key) is event:
                    del self._queue[key]
                    self.waiting_bytes -= len(event.data)

    async def _send(self, event: Delivery, number: int) -> None:
        body = {0: self._wire_name(event.instance), 1: event.type, 2: event.source, 3: event.data, 4: number}
        tries = itertools.count(1)
        while True:
            try:
                await self._exchange.ask(Op.WRITE, Id.DELIVER, body, priority=Priority.EVENT)
            except ResultError as error:
                needed = not abi.may_be_lost(event.type, event.data)
                if error.result == Result.BUSY and (next(tries) < _BUSY_TRIES or needed):
                    await asyncio.sleep(BUSY_S)
                    continue
                # The instance is gone, or the event is none it can take.
                self.dropped += 1
            return
