"""Compiled modules on disk, by digest. Loading compiled code is running it, so only files of our own are trusted.

The directory belongs to this process' user and to nobody else (0700), and each file's sha256 is compared once in a
process' life, which finds what a power cut may have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import shutil
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import engine
from wasmbed.runtime.compile import MAX_OUTPUT_BYTES, compile_module
from wasmbed.runtime.profiles import MIB
from wasmbed.runtime.validate import Facts

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

CACHE_BYTES: Final = 1024 * MIB
_MAX_DESCRIPTION_BYTES: Final = 4 * MIB
_PREFIX: Final = "wasmtime-"


class CacheError(Exception):
    """The cache directory cannot be trusted or used; the message says what to change."""


class NotLoadedError(Exception):
    """No compiled module of this digest is here."""


@dataclass(frozen=True)
class Artifact:
    """A compiled module and what is known of it."""

    path: Path
    facts: Facts


class Artifacts:
    """The compiled modules of this version of wasmtime; at most cache_bytes of them, the least used go first."""

    def __init__(self, directory: Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Make the directory ready; raises CacheError."""
        self._root = directory
        self._directory = directory / engine.cache_key()
        self._cache_bytes = cache_bytes
        self._known: dict[str, Artifact] = {}
        # One compilation at a time: its memory and the second core are then sure.
        self._compiling = asyncio.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(directory)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            _check_private(self._directory)
            self._remove_stale()
        except OSError as error:
            raise CacheError(f"the cache directory {directory} cannot be used: {error}") from error

    def _remove_stale(self) -> None:
        for path in self._root.iterdir():
            if path.name.startswith(_PREFIX) and path != self._directory:
                shutil.rmtree(path, ignore_errors=True)
        for path in self._directory.glob(".*.new"):
            path.unlink(missing_ok=True)

    async def get(self, digest: str) -> Artifact:
        """Return a compiled module; raises NotLoadedError."""
        name = _name(digest)
        known = self._known.get(name)
        if known is None or not known.path.exists():
            known = await asyncio.to_thread(self._read, name)
            self._known[name] = known
        with contextlib.suppress(OSError):
            # Exact: the kernel's own time of now is the same for everything within a few milliseconds.
            os.utime(known.path, ns=(time.time_ns(),) * 2)
        return known

    async def has(self, digest: str) -> bool:
        """Tell whether `get` would succeed."""
        try:
            await self.get(digest)
        except NotLoadedError:
            return False
        return True

    async def load(self, digest: str, module: bytes) -> None:
        """Check and compile a module unless its digest is here; raises compile.CompileError."""
        async with self._compiling:
            if await self.has(digest):
                return
            await compile_module(module, self._directory, _name(digest))
            artifact = await self.get(digest)
            log.info("compiled digest=%s bytes=%d code_bytes=%d", digest, len(module), artifact.path.stat().st_size)
            await asyncio.to_thread(self._evict, _name(digest))

    def _read(self, name: str) -> Artifact:
        path = self._directory / f"{name}.cwasm"
        try:
            description = json.loads(_read_bounded(self._directory / f"{name}.json", _MAX_DESCRIPTION_BYTES))
            facts = Facts.from_dict(description["facts"])
            actual = hashlib.sha256(_read_bounded(path, MAX_OUTPUT_BYTES)).hexdigest()
            if not hmac.compare_digest(actual, description["sha256"]):
                raise ValueError("its sha256 differs")
        except FileNotFoundError:
            raise NotLoadedError(name) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("removing a damaged compiled module digest=sha256:%s error=%s", name, error)
            self._remove(name)
            raise NotLoadedError(name) from error
        return Artifact(path, facts)

    def _remove(self, name: str) -> None:
        self._known.pop(name, None)
        # The description first: without it the code is not valid. Instances that run keep their mapping.
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        (self._directory / f"{name}.cwasm").unlink(missing_ok=True)

    def _evict(self, keep: str) -> None:
        files = sorted(
            (path.stat().st_mtime_ns, path.stat().st_size, path.stem) for path in self._directory.glob("*.cwasm")
        )
        total = sum(size for _, size, _ in files)
        for _, size, name in files:
            if total <= self._cache_bytes:
                return
            if name != keep:
                self._remove(name)
                total -= size


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _check_private(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise CacheError(
            f"{directory} must be a directory of user {os.geteuid()} with mode 0700: code in it is run unchecked"
        )


def _read_bounded(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"{path.name} is larger than {limit_bytes} bytes")
    return data
