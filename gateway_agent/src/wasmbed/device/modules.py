"""Modules on the device's disk: taken in parts, whole or not there, checked before they are used."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from wasmbed.device.store import ModuleRow
from wasmbed.files import move_atomically
from wasmbed.runtime import MAX_MODULE_BYTES, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Set
    from pathlib import Path

    from wasmbed.device.store import Store

_log = logging.getLogger(__name__)

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# Transfers that were begun and not ended; more are thrown away.
MAX_PARTIAL: Final = 4


class Modules:
    """The folder of modules. A row in the store is written after its file and removed before it."""

    def __init__(self, directory: Path, store: Store, limit_bytes: int) -> None:
        self._directory = directory
        self._store = store
        self._limit_bytes = limit_bytes
        self._rows: dict[str, ModuleRow] = {}
        self._offers: dict[str, ModuleRow] = {}
        self._change = asyncio.Lock()

    async def open(self) -> None:
        """Make the folder, take up what is whole, remove what nobody knows of; transfers begun stay."""
        self._rows = {row.digest: row for row in await self._store.modules()}
        present = await asyncio.to_thread(_scan, self._directory, {_name(digest) for digest in self._rows})
        for digest in [digest for digest in self._rows if _name(digest) not in present]:
            await self._forget(digest)

    @property
    def total_bytes(self) -> int:
        """Bytes of all modules that are whole."""
        return sum(row.size for row in self._rows.values())

    def has(self, digest: str) -> bool:
        """Whether a module is here."""
        return digest in self._rows

    async def read(self, digest: str) -> bytes | None:
        """The module; None (and forgotten) when it is not here or damaged."""
        row = self._rows.get(digest)
        if row is None:
            return None
        module = await asyncio.to_thread(_read, self._directory / _name(digest), row)
        if module is None:
            _log.error("a module on disk is damaged and fetched anew digest=%s", digest)
            async with self._change:
                await self._forget(digest)
        return module

    async def offer(self, digest: str, size: int, sha256: str, keep: Set[str]) -> int:
        """Begin or resume a transfer; returns how many bytes are here. Raises RequestRefused when there is no room.

        `keep` are the digests that must not make room for it.
        """
        if not 0 < size <= MAX_MODULE_BYTES or not _HEX.fullmatch(sha256):
            raise RequestRefused("BadRequest", f"a module of {size} bytes cannot be taken")
        row = ModuleRow(digest, sha256, size)
        async with self._change:
            if self._rows.get(digest) == row:
                return size
            await self._make_room(size, keep | {digest})
            path = self._partial(row)
            have = await asyncio.to_thread(_prepare_partial, self._directory, path, size)
            self._offers[digest] = row
            return have

    async def part(self, digest: str, offset: int, data: bytes) -> None:
        """Take the next bytes of a transfer; raises RequestRefused when they are not those that come next."""
        row = self._offers.get(digest)
        if row is None or offset + len(data) > row.size:
            raise RequestRefused("BadRequest", f"no transfer of {digest} to which these bytes belong")
        await asyncio.to_thread(_append, self._partial(row), offset, data)

    async def finish(self, digest: str) -> None:
        """End a transfer; raises RequestRefused when what came is not what was offered."""
        async with self._change:
            row = self._offers.pop(digest, None)
            if row is None:
                if digest in self._rows:
                    return
                raise RequestRefused("NotFound", f"no transfer of {digest}; offer it first")
            path = self._partial(row)
            module = await asyncio.to_thread(_read, path, row)
            if module is None:
                path.unlink(missing_ok=True)
                raise RequestRefused("DeviceError", f"{digest} was damaged on its way or on disk; it is fetched anew")
            await asyncio.to_thread(move_atomically, path, self._directory / _name(digest))
            await self._store.save_module(row)
            self._rows[digest] = row

    async def forget(self, digest: str) -> None:
        """Remove a module, as one that the runtime refuses."""
        async with self._change:
            await self._forget(digest)

    def _partial(self, row: ModuleRow) -> Path:
        return self._directory / f"{_name(row.digest)}.{row.sha256}.part"

    async def _make_room(self, size: int, keep: Set[str]) -> None:
        unused = [row.digest for row in self._rows.values() if row.digest not in keep]
        while self.total_bytes + size > self._limit_bytes:
            if not unused:
                raise RequestRefused(
                    "DeviceError",
                    f"no room for {size} bytes: {self.total_bytes} of {self._limit_bytes} are in use; raise "
                    "modules_bytes in device.yaml or run fewer applications on this device",
                )
            await self._forget(unused.pop(0))

    async def _forget(self, digest: str) -> None:
        await self._store.drop_module(digest)
        self._rows.pop(digest, None)
        await asyncio.to_thread((self._directory / _name(digest)).unlink, missing_ok=True)


def _name(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        # A digest becomes a file name: nothing else may.
        raise RequestRefused("BadRequest", f"{digest[:80]!r} is not sha256: and 64 hexadecimal digits")
    return match[1]


def _scan(directory: Path, known: set[str]) -> set[str]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = set()
    for path in directory.iterdir():
        if path.name in known:
            present.add(path.name)
        elif path.suffix != ".part" and path.is_file():
            path.unlink()
    _prune(directory, MAX_PARTIAL)
    return present


def _prune(directory: Path, keep: int) -> None:
    partial = sorted(directory.glob("*.part"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in partial[keep:]:
        path.unlink(missing_ok=True)


def _prepare_partial(directory: Path, path: Path, size: int) -> int:
    if not path.exists():
        _prune(directory, MAX_PARTIAL - 1)
        path.touch(mode=0o600)
    have = path.stat().st_size
    if have > size:
        os.truncate(path, 0)
        return 0
    return have


def _append(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        if file.seek(0, os.SEEK_END) != offset:
            raise RequestRefused("BadRequest", f"bytes from {offset} do not come next; offer the module again")
        file.write(data)


def _read(path: Path, row: ModuleRow) -> bytes | None:
    try:
        with path.open("rb") as file:
            module = file.read(row.size + 1)
    except OSError:
        return None
    return module if hashlib.sha256(module).hexdigest() == row.sha256 else None
