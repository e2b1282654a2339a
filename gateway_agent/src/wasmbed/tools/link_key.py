"""The gateway's static key for its serial lines: made once, 0600, with its public half in a file beside it."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from typing import TYPE_CHECKING

from wasmbed.link import noise

if TYPE_CHECKING:
    from pathlib import Path


class LinkKeyError(OSError):
    """The key file cannot be made or used; the message says why and what to do."""


def make(path: Path) -> str:
    """Make the private key unless it is there; return its public key in base64. Raises LinkKeyError."""
    try:
        if not path.exists():
            _write(path, base64.b64encode(noise.new_private_key()), 0o600)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise LinkKeyError(f"{path} can be read by others; chmod 600 {path}, or remove it and make another key")
        private = base64.b64decode(path.read_text("ascii").strip(), validate=True)
    except (OSError, ValueError) as error:
        raise LinkKeyError(f"cannot use {path}: {error}; remove it for a new key") from error
    if len(private) != noise.KEY_BYTES:
        raise LinkKeyError(f"{path} has {len(private)} bytes, not {noise.KEY_BYTES}; remove it for a new key")
    public = base64.b64encode(noise.public_key(private))
    beside = path.with_name(f"{path.name}.pub")
    if not beside.exists() or beside.read_bytes().strip() != public:
        beside.unlink(missing_ok=True)
        _write(beside, public, 0o644)
    return public.decode()


def _write(path: Path, data: bytes, mode: int) -> None:
    """All or nothing; what somebody else makes meanwhile counts."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
