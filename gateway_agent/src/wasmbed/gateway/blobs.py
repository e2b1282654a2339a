"""Modules on disk, one file by digest, whole or not there, within a total size."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import re
from typing import TYPE_CHECKING

from wasmbed.files import write_atomically
from wasmbed.gateway.state import ArtifactRow
from wasmbed.oci import ImageError

if TYPE_CHECKING:
    from collections.abc import Set
    from pathlib import Path

    from wasmbed.gateway.state import Store

_log = logging.getLogger(__name__)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class Blobs:
    """The folder of modules. A row in the store is written after its file and removed before it."""

    def __init__(self, directory: Path, store: Store, max_total_bytes: int) -> None:
        self._directory = directory
        self._store = store
        self._max_total_bytes = max_total_bytes
        self._rows: dict[str, ArtifactRow] = {}
        self._use = itertools.count(1)
        self._change = asyncio.Lock()

    async def open(self) -> None:
        """Make the folder, take up what is whole and remove the rest."""
        self._rows = {row.digest: row for row in await self._store.artifacts()}
        self._use = itertools.count(max((row.used for row in self._rows.values()), default=0) + 1)
        present = await asyncio.to_thread(_scan, self._directory, {_name(digest) for digest in self._rows})
        for digest in [digest for digest in self._rows if _name(digest) not in present]:
            await self._forget(digest)

    def size(self, digest: str) -> int | None:
        """Size in bytes of the module of `digest`, None when it is not here."""
        row = self._rows.get(digest)
        return None if row is None else row.size

    @property
    def total_bytes(self) -> int:
        """Bytes of all modules."""
        return sum(row.size for row in self._rows.values())

    async def add(self, digest: str, module: bytes, *, keep: Set[str]) -> None:
        """Write the module of `digest`; the unused ones that are not in `keep` make room, longest unused first.

        Raises ImageError when there is no room.
        """
        async with self._change:
            await self._make_room(len(module), keep | {digest})
            await asyncio.to_thread(write_atomically, self._directory / _name(digest), module)
            row = ArtifactRow(digest, hashlib.sha256(module).hexdigest(), len(module), next(self._use))
            await self._store.save_artifact(row)
            self._rows[digest] = row

    async def read(self, digest: str) -> bytes | None:
        """The module of `digest`; None (and forgotten) when it is gone or damaged."""
        row = self._rows.get(digest)
        if row is None:
            return None
        module = await asyncio.to_thread(_read, self._directory / _name(digest), row)
        async with self._change:
            if module is None:
                _log.error("a module on disk is damaged and pulled anew digest=%s", digest)
                await self._forget(digest)
            elif digest in self._rows:
                self._rows[digest] = row = ArtifactRow(row.digest, row.sha256, row.size, next(self._use))
                await self._store.save_artifact(row)
        return module

    async def _make_room(self, size: int, keep: Set[str]) -> None:
        unused = sorted((row for row in self._rows.values() if row.digest not in keep), key=lambda row: row.used)
        while self.total_bytes + size > self._max_total_bytes:
            if not unused:
                raise ImageError(
                    f"no room for {size} bytes: {self.total_bytes} of {self._max_total_bytes} are in use; raise "
                    "artifacts.max_total_bytes in agent.yaml or run fewer applications on this gateway"
                )
            await self._forget(unused.pop(0).digest)

    async def _forget(self, digest: str) -> None:
        await self._store.drop_artifact(digest)
        self._rows.pop(digest, None)
        await asyncio.to_thread((self._directory / _name(digest)).unlink, missing_ok=True)


def _name(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        # A digest becomes a file name: nothing else may.
        raise ImageError(f"{digest[:80]!r} is not sha256: and 64 hexadecimal digits", permanent=True)
    return match[1]


def _scan(directory: Path, known: set[str]) -> set[str]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = set()
    for path in directory.iterdir():
        if path.name in known:
            present.add(path.name)
        elif path.is_file():
            path.unlink()
    return present


def _read(path: Path, row: ArtifactRow) -> bytes | None:
    try:
        with path.open("rb") as file:
            module = file.read(row.size + 1)
    except OSError:
        return None
    return module if hashlib.sha256(module).hexdigest() == row.sha256 else None
