"""`wasmbed link-key`: the gateway's static key of the secure serial link, made once, and its rotation.

A rotation is files beside the key: KEY.previous with the key before and KEY.previous.until with the time (RFC 3339) up
to which the gateway accepts it. They are there from `--rotate` to `--end`.
"""

from __future__ import annotations

import base64
import binascii
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wasmbed.files import write_atomically

if TYPE_CHECKING:
    import argparse

KEY_BYTES: Final = 32
_FILE_MAX: Final = 256
_MOST_DAYS: Final = 365
# Of group and others.
_FOREIGN: Final = 0o077


class LinkKeyError(Exception):
    """A key file that cannot be used; the message names it and the remedy."""


def read(path: Path) -> X25519PrivateKey:
    """The private key of a file: 32 bytes in base64, one line, for its owner alone.

    Raises LinkKeyError, OSError.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _FOREIGN:
            raise LinkKeyError(f"{path} can be read by others; make its mode 0600, and make a new key if they did")
        text = file.read(_FILE_MAX + 1)
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise LinkKeyError(f"{path} does not hold {KEY_BYTES} bytes in base64; remove it to have a new key made")
    return X25519PrivateKey.from_private_bytes(key)


def _new() -> bytes:
    return base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()) + b"\n"


def ensure(path: Path) -> tuple[str, bool]:
    """Make the key unless it is there, and PATH.pub beside it; returns the public key in base64 and what changed.

    Raises LinkKeyError, OSError.
    """
    made = not path.exists()
    if made:
        write_atomically(path, _new())
    public = read(path).public_key().public_bytes_raw()
    beside = path.with_name(path.name + ".pub")
    text = base64.b64encode(public).decode()
    try:
        with beside.open("rb") as file:
            told = file.read(_FILE_MAX).strip() == text.encode()
    except OSError:
        told = False
    if not told:
        write_atomically(beside, f"{text}\n".encode(), mode=0o644)
    return text, made or not told


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def rotate(path: Path, overlap: timedelta, *, check: bool = False) -> bool:
    """Begin a rotation: a new key, and the one before accepted for a while; whether there was something to do.

    One that broke off goes on; one that is under way is left as it is. Raises LinkKeyError, OSError.
    """
    previous, until = _beside(path, ".previous"), _beside(path, ".previous.until")
    key = read(path).private_bytes_raw()
    if previous.exists() and read(previous).private_bytes_raw() != key:
        # It may have broken off before the public key was written.
        return not check and ensure(path)[1]
    if not check:
        time = (datetime.now(UTC) + overlap).strftime("%Y-%m-%dT%H:%M:%SZ\n")
        write_atomically(until, time.encode(), mode=0o644)
        write_atomically(previous, base64.b64encode(key) + b"\n")
        write_atomically(path, _new())
        ensure(path)
    return True


def end(path: Path, *, check: bool = False) -> bool:
    """End a rotation: the key before is of no use any more; whether there was one. Raises OSError."""
    files = [item for suffix in (".previous", ".previous.until") if (item := _beside(path, suffix)).exists()]
    if not check:
        for item in files:
            item.unlink()
    return bool(files)


def run(arguments: argparse.Namespace) -> int:
    """The command: prints the public key, and `changed` or `ok` before it."""
    key, check = arguments.key, arguments.check
    if arguments.rotate or arguments.end:
        begin = arguments.rotate
        changed = rotate(key, timedelta(days=arguments.overlap_days), check=check) if begin else end(key, check=check)
        public = base64.b64encode(read(key).public_key().public_bytes_raw()).decode()
    else:
        public, changed = ensure(key)
    print("changed" if changed else "ok", public)
    return 0


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= _MOST_DAYS:
        raise ValueError(f"{text} is not above 0 and at most {_MOST_DAYS}")
    return days


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    one = commands.add_parser("link-key", help="make or rotate a gateway's key for serial links; print the public one")
    one.add_argument("key", type=Path, help="the private key's file, for its owner alone; KEY.pub is written beside it")
    what = one.add_mutually_exclusive_group()
    what.add_argument("--rotate", action="store_true", help="make the next key; keep the one before as KEY.previous")
    what.add_argument("--end", action="store_true", help="end a rotation: remove KEY.previous")
    one.add_argument(
        "--overlap-days", type=_days, default=7.0, help="how long the key before is accepted (%(default)s)"
    )
    one.add_argument("--check", action="store_true", help="with --rotate and --end: change nothing, tell what would")
    one.set_defaults(action=run)
