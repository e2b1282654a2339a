"""The keys of serial lines: the gateway's own, the one before it while devices still know that, and devices' next ones.

A key is 32 bytes; files hold it as one line of base64.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from wasmbed.link.noise import KEY_BYTES, public_key

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from wasmbed.api import SliceDevice
    from wasmbed.gateway.config import LinesConfig

_FILE_MAX: Final = 256


class LineKeyError(Exception):
    """The gateway's key for its lines cannot be used; the message names the file and what to do."""


def read_key(path: Path) -> bytes:
    """Read a static private key. Raises LineKeyError."""
    try:
        with path.open("rb") as file:
            # A longer file is no key, and is not read to its end to find that out.
            text = file.read(_FILE_MAX + 1)
        if len(text) > _FILE_MAX:
            raise LineKeyError(f"the key {path} has more than {_FILE_MAX} bytes; `wasmbed link-key` makes one")
        key = base64.b64decode(text.strip(), validate=True)
    except (OSError, binascii.Error) as error:
        raise LineKeyError(f"cannot read the key {path}: {error}; `wasmbed link-key {path}` makes one") from error
    if len(key) != KEY_BYTES:
        raise LineKeyError(f"the key {path} has {len(key)} bytes, not {KEY_BYTES}; `wasmbed link-key` makes one")
    return key


def key_of(device: SliceDevice) -> bytes:
    """The device's static public key, empty when it has none that can be one."""
    try:
        key = base64.b64decode(device.public_key, validate=True)
    except (ValueError, binascii.Error):
        return b""
    return key if len(key) == KEY_BYTES else b""


class LineKeys:
    """The gateway's keys, and which keys of devices are to be replaced."""

    def __init__(self, config: LinesConfig) -> None:
        """Raises LineKeyError."""
        self._key = read_key(config.key_file)
        self.public = public_key(self._key)
        self._previous: tuple[bytes, ...] = ()
        self.until = config.previous_key_until
        if config.previous_key_file is not None:
            self._previous = (read_key(config.previous_key_file),)
            self._ends = datetime.fromisoformat(self.until)
        self._replaced: Collection[str] = frozenset(config.replace_device_keys)

    def _over(self) -> bool:
        return bool(self._previous) and datetime.now(UTC) >= self._ends

    @property
    def privates(self) -> tuple[bytes, ...]:
        """The keys by which devices may know the gateway: its own, and the one before while its time lasts."""
        return (self._key,) if self._over() else (self._key, *self._previous)

    @property
    def retired(self) -> tuple[bytes, ...]:
        """The key whose time is over."""
        return self._previous if self._over() else ()

    def is_replaced(self, device_key: bytes) -> bool:
        """Whether a device with this key is to make another one."""
        return base64.b64encode(device_key).decode() in self._replaced
