"""What outlives the device's service and the device's power: SQLite in a folder that only the service can read.

A database that is damaged is put aside: the gateway then tells anew what is wanted.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from wasmbed.service import open_database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from pathlib import Path


SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE wanted (instance TEXT PRIMARY KEY, key TEXT NOT NULL, request BLOB NOT NULL, before BLOB) STRICT;
CREATE TABLE modules (digest TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL) STRICT;
CREATE TABLE secrets (
  application TEXT, device TEXT, key BLOB NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (application, device)
) STRICT;
CREATE TABLE entries (spool TEXT, number INTEGER, instance TEXT NOT NULL, data BLOB NOT NULL,
  dropped INTEGER NOT NULL, PRIMARY KEY (spool, number)) STRICT, WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

T = TypeVar("T")


@dataclass(frozen=True)
class WantedRow:
    """One instance; key is the gateway's name for the content of request (CBOR), before the row it replaced (CBOR)."""

    instance: str
    key: str
    request: bytes
    before: bytes | None = None


@dataclass(frozen=True)
class ModuleRow:
    """A module on disk: sha256 (hexadecimal) and size (bytes) of the file."""

    digest: str
    sha256: str
    size: int


@dataclass(frozen=True)
class EntryRow:
    """One entry of a spool; dropped counts the entries of its instance that gave way before it."""

    number: int
    instance: str
    data: bytes
    dropped: int = 0


@dataclass(frozen=True)
class SecretRow:
    """A sealing key and the first sequence number that nobody has used."""

    application: str
    device: str
    key: bytes
    next: int


class Store:
    """The database. Every method runs in one thread of its own, in order, and is durable when it returns."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor, stream: str) -> None:
        self._connection = connection
        self._executor = executor
        # Names the numbers of the spools: with another database they begin anew.
        self.stream = stream

    @classmethod
    async def open(cls, directory: Path) -> Store:
        """Open (or make) `directory`/device.db; raises OSError or sqlite3.OperationalError of the machine."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        connection, stream = await asyncio.get_running_loop().run_in_executor(executor, _open, directory)
        return cls(connection, executor, stream)

    async def close(self) -> None:
        """Close the database."""
        await self._in_thread(self._connection.close)
        self._executor.shutdown(wait=False)

    async def wanted(self) -> list[WantedRow]:
        """Every instance that is wanted."""
        return await self._in_thread(
            lambda: [WantedRow(*row) for row in self._connection.execute("SELECT * FROM wanted ORDER BY instance")]
        )

    async def save_wanted(self, row: WantedRow) -> None:
        """Save one instance in place of what it was."""
        await self._write("INSERT OR REPLACE INTO wanted VALUES (?, ?, ?, ?)", [tuple(row.__dict__.values())])

    async def drop_wanted(self, instance: str) -> None:
        """Forget an instance."""
        await self._write("DELETE FROM wanted WHERE instance = ?", [(instance,)])

    async def modules(self) -> list[ModuleRow]:
        """Every module on disk."""
        return await self._in_thread(
            lambda: [ModuleRow(*row) for row in self._connection.execute("SELECT * FROM modules ORDER BY digest")]
        )

    async def save_module(self, row: ModuleRow) -> None:
        """Save what is known of a module."""
        await self._write("INSERT OR REPLACE INTO modules VALUES (?, ?, ?)", [tuple(row.__dict__.values())])

    async def drop_module(self, digest: str) -> None:
        """Forget a module."""
        await self._write("DELETE FROM modules WHERE digest = ?", [(digest,)])

    async def secrets(self) -> list[SecretRow]:
        """Every sealing key."""
        return await self._in_thread(
            lambda: [SecretRow(*row) for row in self._connection.execute("SELECT * FROM secrets")]
        )

    async def save_secret(self, row: SecretRow) -> None:
        """Save a sealing key."""
        await self._write("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)", [tuple(row.__dict__.values())])

    async def drop_secret(self, application: str, device: str) -> None:
        """Forget a sealing key."""
        await self._write("DELETE FROM secrets WHERE application = ? AND device = ?", [(application, device)])

    async def entries(self, spool: str) -> list[EntryRow]:
        """The entries of a spool in order."""

        def work() -> list[EntryRow]:
            query = "SELECT number, instance, data, dropped FROM entries WHERE spool = ? ORDER BY number"
            return [EntryRow(*row) for row in self._connection.execute(query, (spool,))]

        return await self._in_thread(work)

    async def change_entries(
        self, spool: str, *, taken: int, dropped: Iterable[int], added: Iterable[EntryRow], reserved: int
    ) -> None:
        """Remove entries up to `taken` and those dropped, add or replace others, save `reserved`: all or none."""
        gone = [(spool, number) for number in dropped]
        rows = [(spool, row.number, row.instance, row.data, row.dropped) for row in added]

        def work() -> None:
            with self._connection as connection:
                connection.execute("DELETE FROM entries WHERE spool = ? AND number <= ?", (spool, taken))
                connection.executemany("DELETE FROM entries WHERE spool = ? AND number = ?", gone)
                connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (f"reserved:{spool}", str(reserved)))

        await self._in_thread(work)

    async def reserved(self, spool: str) -> int:
        """The last number of a spool that may have been used."""

        def work() -> int:
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (f"reserved:{spool}",)).fetchone()
            return 0 if row is None else int(row[0])

        return await self._in_thread(work)

    async def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        def work() -> None:
            with self._connection as connection:
                connection.executemany(statement, rows)

        await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _open(directory: Path) -> tuple[sqlite3.Connection, str]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    connection = open_database(directory / "device.db", _SCHEMA, SCHEMA_VERSION)
    try:
        with connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('stream', ?)", (secrets.token_hex(8),))
        (stream,) = connection.execute("SELECT value FROM facts WHERE name = 'stream'").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection, str(stream)
