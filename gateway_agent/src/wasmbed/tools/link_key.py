"""`wasmbed link-key`: the gateway's static key of the secure serial link, made once."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wasmbed.files import write_atomically

if TYPE_CHECKING:
    import argparse

KEY_BYTES: Final = 32
_FILE_MAX: Final = 256
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


def ensure(path: Path) -> tuple[str, bool]:
    """Make the key unless it is there, and PATH.pub beside it; returns the public key in base64 and what changed.

    Raises LinkKeyError, OSError.
    """
    made = not path.exists()
    if made:
        write_atomically(path, base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()) + b"\n")
    public = read(path).public_key().public_bytes_raw()
    beside = path.with_name(path.name + ".pub")
    text = base64.b64encode(public).decode()
    try:
        told = beside.read_text(encoding="ascii").strip() == text
    except (OSError, UnicodeDecodeError):
        told = False
    if not told:
        write_atomically(beside, f"{text}\n".encode(), mode=0o644)
    return text, made or not told


def run(arguments: argparse.Namespace) -> int:
    """The command: prints the public key, and `changed` or `ok` before it."""
    public, changed = ensure(arguments.key)
    print("changed" if changed else "ok", public)
    return 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    one = commands.add_parser(
        "link-key", help="make a gateway's key for serial links unless it is there; print the public one"
    )
    one.add_argument("key", type=Path, help="the private key's file, for its owner alone; KEY.pub is written beside it")
    one.set_defaults(action=run)
