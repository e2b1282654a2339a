"""The key files that applications' sealing keys are derived of."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wasmbed.runtime.sealing import KEY_BYTES

if TYPE_CHECKING:
    from pathlib import Path


class KeyFileError(Exception):
    """The key file cannot be used; the message names it and the remedy."""


def read_key(path: Path) -> bytes:
    """Read a key file (32 bytes in base64), which nobody but its owner may read; raises KeyFileError.

    systemd's credentials are in a folder of the service's own and read by an ACL, whose mask the group's mode shows.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as stream:
            text = stream.read(1024)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; the role gateway writes it") from error
    credential = str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
    if mode & (stat.S_IRWXO if credential else stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others may read it; set its mode to 0600")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: not {KEY_BYTES} bytes in base64; the role gateway writes it")
    return key


def gateway_key(site_key: bytes, gateway: str) -> bytes:
    """A gateway's key of the site's (HKDF-SHA256, RFC 5869), as the role gateway derives it."""
    info = f"wasmbed gateway 1|{gateway}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(site_key)
