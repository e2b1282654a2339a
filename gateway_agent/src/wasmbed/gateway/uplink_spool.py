"""Sealed messages on disk on their way to the cloud, and the sequence numbers that were given out.

What `keep` has answered 0 for is there after a crash, and stays until the server said that it has it or refuses it.
When the spool is full, new messages are refused; none that was taken is dropped.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from wasmbed.hostcalls import Status
from wasmbed.runtime.sealing import BLOCK
from wasmbed.service import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
# What a message takes beside its envelope.
ROW_BYTES: Final = 256
# Of the whole spool, for one application.
SHARE: Final = 4
_SCHEMA: Final = """
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, application TEXT NOT NULL, device TEXT NOT NULL, sequence INTEGER NOT NULL,
  envelope BLOB NOT NULL, UNIQUE (application, device, sequence)
) STRICT;
CREATE TABLE blocks (
  application TEXT NOT NULL, device TEXT NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (application, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE received (
  application TEXT NOT NULL, device TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (application, device)
) STRICT, WITHOUT ROWID;
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    """A message of the spool; ids rise in the order of arrival and are never used again."""

    id: int
    application: str
    device: str
    envelope: bytes


@dataclass(frozen=True)
class _New:
    application: str
    device: str
    sequence: int
    envelope: bytes
    done: asyncio.Future[int]

    @property
    def size(self) -> int:
        return len(self.envelope) + ROW_BYTES


class Spool:
    """The database. Its work is done in one thread, in order, and durable when a method returns."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor, max_bytes: int) -> None:
        self._connection = connection
        self._executor = executor
        self._max_bytes = max_bytes
        self._waiting: list[_New] = []
        self._wake = asyncio.Event()
        self._sizes: dict[str, int] = {}
        self.messages = self.size_bytes = 0
        self.arrived = asyncio.Event()
        """Set when there is something new."""

    @classmethod
    async def open(cls, directory: Path, max_bytes: int) -> Spool:
        """Open (or make) `directory`/uplink.db; raises OSError or sqlite3.Error.

        A damaged database is put aside, for what is in it may still be read by hand; numbers are not used again, since
        a new one begins with the time.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="spool")
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(executor, _open, directory / "uplink.db")
        spool = cls(connection, executor, max_bytes)
        await spool._in_thread(spool._count)
        if spool.messages:
            spool.arrived.set()
        return spool

    async def close(self) -> None:
        """Close the database."""
        await self._in_thread(self._connection.close)
        self._executor.shutdown(wait=False)

    async def keep(self, application: str, device: str, sequence: int, envelope: bytes) -> int:
        """Keep a message, once: 0 when it is on disk, or Status.AGAIN while there is no room, Status.IO."""
        new = _New(application, device, sequence, envelope, asyncio.get_running_loop().create_future())
        self._waiting.append(new)
        self._wake.set()
        return await new.done

    async def run(self) -> None:
        """Write what is to be kept, until cancelled; messages that come together are written together."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            try:
                results = await self._in_thread(functools.partial(self._insert, batch))
            except sqlite3.Error as error:
                _log.error("sealed messages not kept; free space in the state directory error=%s", error)
                results = [int(Status.IO)] * len(batch)
            if Status.OK in results:
                self.arrived.set()
            for new, result in zip(batch, results, strict=True):
                if not new.done.done():
                    new.done.set_result(result)

    def _insert(self, batch: list[_New]) -> list[int]:
        """Raises sqlite3.Error, and then nothing of the batch is kept."""
        try:
            return self._insert_all(batch)
        except sqlite3.Error:
            self._count()
            raise

    def _insert_all(self, batch: list[_New]) -> list[int]:
        results = []
        with self._connection as connection:
            for new in batch:
                used = self._sizes.get(new.application, 0)
                if self.size_bytes + new.size > self._max_bytes or used + new.size > self._max_bytes // SHARE:
                    results.append(int(Status.AGAIN))
                    continue
                cursor = connection.execute(
                    "INSERT OR IGNORE INTO messages (application, device, sequence, envelope) VALUES (?, ?, ?, ?)",
                    (new.application, new.device, new.sequence, new.envelope),
                )
                if cursor.rowcount == 1:
                    self._sizes[new.application] = used + new.size
                    self.size_bytes += new.size
                    self.messages += 1
                results.append(int(Status.OK))
        return results

    async def oldest(self, count: int, max_bytes: int) -> list[Kept]:
        """The oldest messages, at least one when there are any, else within max_bytes."""

        def work() -> list[Kept]:
            rows = self._connection.execute(
                "SELECT id, application, device, envelope FROM messages ORDER BY id LIMIT ?", (count,)
            )
            found: list[Kept] = []
            size = 0
            for row in rows:
                size += len(row[3])
                if found and size > max_bytes:
                    break
                found.append(Kept(*row))
            return found

        return await self._in_thread(work)

    async def drop(self, ids: Iterable[int]) -> None:
        """Forget messages that the server has taken or refused."""
        numbers = [(number,) for number in ids]

        def work() -> None:
            with self._connection as connection:
                connection.executemany("DELETE FROM messages WHERE id = ?", numbers)
            self._count()

        await self._in_thread(work)

    async def reserve(self, application: str, device: str) -> int:
        """The first of BLOCK numbers that nobody was ever given for this application on this device."""

        def work() -> int:
            # Above all that a database that is lost may have given out.
            floor = int(time.time()) << 20
            with self._connection as connection:
                row = connection.execute(
                    "SELECT next FROM blocks WHERE application = ? AND device = ?", (application, device)
                ).fetchone()
                first = row[0] if row is not None else floor
                connection.execute(
                    "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (application, device, first + BLOCK)
                )
            return int(first)

        return await self._in_thread(work)

    async def last_received(self, application: str, device: str) -> int:
        """The number of the last message from the cloud, -1 before the first."""

        def work() -> int:
            row = self._connection.execute(
                "SELECT last FROM received WHERE application = ? AND device = ?", (application, device)
            ).fetchone()
            return -1 if row is None else int(row[0])

        return await self._in_thread(work)

    async def set_received(self, application: str, device: str, sequence: int) -> None:
        """Note the number of the last message from the cloud."""

        def work() -> None:
            with self._connection as connection:
                connection.execute("INSERT OR REPLACE INTO received VALUES (?, ?, ?)", (application, device, sequence))

        await self._in_thread(work)

    def _count(self) -> None:
        rows = self._connection.execute(
            f"SELECT application, count(*), sum(length(envelope) + {ROW_BYTES}) FROM messages GROUP BY application"  # noqa: S608 - a constant
        ).fetchall()
        self._sizes = {application: size for application, _, size in rows}
        self.messages, self.size_bytes = sum(row[1] for row in rows), sum(row[2] for row in rows)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _open(path: Path) -> sqlite3.Connection:
    return open_database(path, _SCHEMA, SCHEMA_VERSION, keep_aside=True)
