"""What waits for the gateway, in order, bounded in bytes, and numbered so that it arrives once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from wasmbed.device.store import EntryRow
from wasmbed.link.messages import ENTRIES, ENTRIES_BYTES

if TYPE_CHECKING:
    from wasmbed.device.store import Store

_log = logging.getLogger(__name__)

# Numbers reserved on disk ahead of their use: after a crash counting goes on behind them.
BLOCK: Final = 10_000
# What was not taken by then goes to disk.
FLUSH_S: Final = 1.0
FLUSH_RETRY_S: Final = 5.0
# So far ahead the next entry of an instance is looked for; behind that, the one that is added next will do.
LOOK_AHEAD: Final = 1000
# Bytes that an entry takes beside its data.
_ENTRY_BYTES: Final = 64


class SpoolFull(Exception):  # noqa: N818 - a state of the spool
    """No room for what may not be dropped."""


class Spool:
    """One sequence of entries: all in memory, and on disk what waits longer than FLUSH_S or is kept durably."""

    def __init__(self, name: str, store: Store, limit_bytes: int) -> None:
        self.name = name
        self._store = store
        self._limit_bytes = limit_bytes
        self._entries: dict[int, EntryRow] = {}
        self._sent: deque[int] = deque()
        self._waiting: deque[int] = deque()
        self._unsaved: set[int] = set()
        self._gone: list[int] = []
        self._lost: dict[str, int] = {}
        self._taken = self._removed = 0
        self._last = self._reserved = 0
        self._change = asyncio.Lock()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self.bytes = 0
        self.dropped = 0

    async def open(self) -> None:
        """Take up what is on disk."""
        self._last = self._reserved = await self._store.reserved(self.name)
        for row in await self._store.entries(self.name):
            self._put(row)
        await self._save()

    @property
    def waiting(self) -> int:
        """How many entries were not sent in this session."""
        return len(self._waiting)

    def add(self, instance: str, data: bytes) -> None:
        """Add an entry that may be dropped; the oldest ones that were not sent give way to it and are counted."""
        while self._waiting and not self._fits(data):
            self._drop_oldest()
        # Without a number that is reserved on disk an entry could arrive twice.
        if not self._fits(data) or self._last >= self._reserved:
            self._lose(instance, 1)
            return
        self._last += 1
        self._put(EntryRow(self._last, instance, data, self._lost.pop(instance, 0)))
        self._unsaved.add(self._last)
        self._wake.set()

    async def keep(self, instance: str, data: bytes) -> None:
        """Add an entry that is on disk when this returns; raises SpoolFull or sqlite3.Error, then it is not added."""
        if not self._fits(data) or self._last >= self._reserved:
            raise SpoolFull(f"{self.bytes} of {self._limit_bytes} bytes wait for the gateway already")
        self._last += 1
        row = EntryRow(self._last, instance, data)
        # Not to be sent before it is on disk: the gateway would have what its sender was told is lost.
        self.bytes += _size(row)
        async with self._change:
            try:
                await self._store.change_entries(
                    self.name, taken=self._taken, dropped=(), added=(row,), reserved=self._reserved
                )
            finally:
                self.bytes -= _size(row)
        self._put(row)
        self._wake.set()

    def taken(self, number: int) -> None:
        """The gateway has everything up to `number`."""
        self._taken = max(self._taken, min(number, self._last))
        for order in (self._sent, self._waiting):
            while order and order[0] <= self._taken:
                self._remove(order.popleft())
        if not self._sent:
            self._settled.set()

    def rewind(self, taken: int) -> None:
        """A new session begins: what the gateway has not taken is to be sent again."""
        self.taken(taken)
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()

    async def next(self) -> list[tuple[int, bytes, int]]:
        """Wait for entries that were not sent in this session: number, data, and how many were lost before each."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        batch: list[tuple[int, bytes, int]] = []
        size = 0
        while self._waiting and len(batch) < ENTRIES:
            row = self._entries[self._waiting[0]]
            if batch and size + len(row.data) > ENTRIES_BYTES:
                break
            self._sent.append(self._waiting.popleft())
            batch.append((row.number, row.data, row.dropped))
            size += len(row.data)
        return batch

    async def all_taken(self) -> None:
        """Wait until everything that was sent in this session was taken."""
        while self._sent:
            self._settled.clear()
            await self._settled.wait()

    async def run(self) -> None:
        """Bring to disk what waits, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self._save()
            except sqlite3.Error as error:
                _log.error("spool not saved; free space in the state directory spool=%s error=%s", self.name, error)
                await asyncio.sleep(FLUSH_RETRY_S)

    async def close(self) -> None:
        """Bring to disk what waits, before an orderly end."""
        await self._save()

    async def _save(self) -> None:
        async with self._change:
            reserved = self._reserved
            if reserved - self._last < BLOCK // 2:
                reserved = self._last + BLOCK
            numbers, taken, gone = self._unsaved, self._taken, self._gone
            if not numbers and not gone and taken == self._removed and reserved == self._reserved:
                return
            self._unsaved, self._gone = set(), []
            added = [self._entries[number] for number in sorted(numbers) if number in self._entries]
            try:
                await self._store.change_entries(self.name, taken=taken, dropped=gone, added=added, reserved=reserved)
            except BaseException:
                self._unsaved |= numbers & self._entries.keys()
                self._gone += gone
                raise
            self._removed, self._reserved = taken, reserved

    def _fits(self, data: bytes) -> bool:
        return self.bytes + len(data) + _ENTRY_BYTES <= self._limit_bytes

    def _put(self, row: EntryRow) -> None:
        self._entries[row.number] = row
        self._waiting.append(row.number)
        self.bytes += _size(row)

    def _remove(self, number: int) -> EntryRow:
        row = self._entries.pop(number)
        self._unsaved.discard(number)
        self.bytes -= _size(row)
        return row

    def _drop_oldest(self) -> None:
        row = self._remove(self._waiting.popleft())
        self._gone.append(row.number)
        self._lose(row.instance, 1 + row.dropped)

    def _lose(self, instance: str, count: int) -> None:
        """Count lost entries; the next one of the instance tells of them."""
        self.dropped += 1
        for number in islice(self._waiting, LOOK_AHEAD):
            row = self._entries[number]
            if row.instance == instance:
                self._entries[number] = replace(row, dropped=row.dropped + count)
                self._unsaved.add(number)
                return
        self._lost[instance] = self._lost.get(instance, 0) + count


def _size(row: EntryRow) -> int:
    return len(row.data) + _ENTRY_BYTES
