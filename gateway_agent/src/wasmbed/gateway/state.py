"""What outlives the agent: placements and facts in SQLite, so that applications start without the API.

Everything here can be had again from the API and the registry, so a database that is damaged is put aside.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from wasmbed.service import open_database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path


SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE placements (name TEXT PRIMARY KEY, object TEXT NOT NULL) STRICT;
CREATE TABLE artifacts (
  digest TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

T = TypeVar("T")


@dataclass(frozen=True)
class ArtifactRow:
    """A module on disk: sha256 (hexadecimal) and size (bytes) of the file, order of last use."""

    digest: str
    sha256: str
    size: int
    used: int


class Store:
    """The database. Every method runs in one thread of its own, in order, and is durable when it returns."""

    def __init__(self, connection: sqlite3.Connection, executor: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._executor = executor

    @classmethod
    async def open(cls, directory: Path) -> Store:
        """Open (or make) `directory`/agent.db in a folder only the agent can read.

        Raises OSError when the folder cannot be made, sqlite3.OperationalError when the disk is full or the file is
        locked.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="state")
        connection = await asyncio.get_running_loop().run_in_executor(executor, _open, directory)
        return cls(connection, executor)

    async def close(self) -> None:
        """Close the database."""
        await self._in_thread(self._connection.close)
        self._executor.shutdown(wait=False)

    async def placements(self) -> dict[str, dict[str, Any]]:
        """The placements last saved, by name."""

        def work() -> dict[str, dict[str, Any]]:
            rows = self._connection.execute("SELECT name, object FROM placements").fetchall()
            return {name: json.loads(text) for name, text in rows}

        return await self._in_thread(work)

    async def save_placements(self, changes: Mapping[str, dict[str, Any] | None], *, complete: bool = False) -> None:
        """Save changed placements and remove those that are None; `complete` removes all that are not named."""
        texts = {name: None if value is None else json.dumps(value) for name, value in changes.items()}

        def work() -> None:
            with self._connection as connection:
                if complete:
                    connection.execute("DELETE FROM placements")
                    connection.execute("INSERT OR REPLACE INTO facts VALUES ('complete', 'true')")
                for name, text in texts.items():
                    if text is None:
                        connection.execute("DELETE FROM placements WHERE name = ?", (name,))
                    else:
                        connection.execute("INSERT OR REPLACE INTO placements VALUES (?, ?)", (name, text))

        await self._in_thread(work)

    async def fact(self, name: str) -> Any:
        """A saved value, None when there is none."""

        def work() -> Any:
            row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])

        return await self._in_thread(work)

    async def save_fact(self, name: str, value: Any) -> None:
        """Save a value that JSON can hold."""
        await self.save_facts({name: value})

    async def facts(self, prefix: str) -> dict[str, Any]:
        """The saved values whose names begin with `prefix`, by the rest of their names."""

        def work() -> dict[str, Any]:
            rows = self._connection.execute("SELECT name, value FROM facts").fetchall()
            return {name.removeprefix(prefix): json.loads(text) for name, text in rows if name.startswith(prefix)}

        return await self._in_thread(work)

    async def save_facts(self, changes: Mapping[str, Any]) -> None:
        """Save values that JSON can hold, all or none; those that are None are removed."""
        texts = {name: None if value is None else json.dumps(value) for name, value in changes.items()}

        def work() -> None:
            with self._connection as connection:
                for name, text in texts.items():
                    if text is None:
                        connection.execute("DELETE FROM facts WHERE name = ?", (name,))
                    else:
                        connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))

        await self._in_thread(work)

    async def artifacts(self) -> list[ArtifactRow]:
        """Every artifact, the one that was not used for longest first."""

        def work() -> list[ArtifactRow]:
            rows = self._connection.execute("SELECT digest, sha256, size, used FROM artifacts ORDER BY used, digest")
            return [ArtifactRow(*row) for row in rows]

        return await self._in_thread(work)

    async def save_artifact(self, row: ArtifactRow) -> None:
        """Save what is known about an artifact."""

        def work() -> None:
            with self._connection as connection:
                values = (row.digest, row.sha256, row.size, row.used)
                connection.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?)", values)

        await self._in_thread(work)

    async def drop_artifact(self, digest: str) -> None:
        """Forget an artifact."""

        def work() -> None:
            with self._connection as connection:
                connection.execute("DELETE FROM artifacts WHERE digest = ?", (digest,))

        await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _open(directory: Path) -> sqlite3.Connection:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return open_database(directory / "agent.db", _SCHEMA, SCHEMA_VERSION)
