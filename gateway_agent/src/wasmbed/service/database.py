"""Databases of services: SQLite, durable when a transaction returns, put aside when damaged."""

import logging
import sqlite3
import time
from pathlib import Path

_log = logging.getLogger(__name__)


def open_database(path: Path, schema: str, version: int, *, keep_aside: bool = False) -> sqlite3.Connection:
    """Open the database at `path` (mode 0600), made with `schema` when it is new; for use in any one thread at a time.

    A file that is damaged or of another version is put aside as .unusable and a new one is made; with `keep_aside`,
    for what cannot be learned anew, one of before is not replaced. Raises OSError, and sqlite3.OperationalError for a
    disk that is full or a file that is locked, which passes.
    """
    try:
        return _connect(path, schema, version)
    except sqlite3.OperationalError:
        # Of the machine, not of the file: that is good again when this has passed.
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_suffix(f".unusable-{time.time_ns()}" if keep_aside else ".unusable")
        _log.error("the database is put aside and made anew path=%s aside=%s error=%s", path, aside, error)
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path, schema, version)


def _connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
        elif found != version:
            raise sqlite3.DatabaseError(f"schema version {found}, this service knows {version}")
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")
    except BaseException:
        connection.close()
        raise
    return connection
