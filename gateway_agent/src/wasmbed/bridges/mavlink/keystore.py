"""Signing keys on disk: one folder per gateway, mode 0700, its files 0600, written atomically.

`<name>.key` holds the key in hexadecimal and is made by whoever rolls the gateway out; `<name>.state` holds the time
and the streams, so that after a restart nothing that was accepted before is accepted again.
"""

import json
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from wasmbed.bridges.mavlink.signing import KEY_BYTES, MAX_STREAMS, MAX_TIMESTAMP, Signer, SigningState

SAVE_EVERY_S = 15.0
_MAX_STATE_BYTES = 64 * MAX_STREAMS


class KeyStoreError(Exception):
    """A key that cannot be used; the message says what to change."""


def new_key() -> str:
    """A fresh key, as the content of a `.key` file."""
    return secrets.token_bytes(KEY_BYTES).hex() + "\n"


class KeyStore:
    """The keys of a folder. `clock` is UNIX seconds, replaceable in tests."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._signers: dict[str, Signer] = {}

    def signer(self, name: str) -> Signer:
        """The signer of a key, one and the same for every link that uses it.

        Raises KeyStoreError for a missing key, one that others can read, and a state file that is damaged: with a
        state that is not known old frames could be accepted again.
        """
        if name not in self._signers:
            if not name or not name.replace("-", "").replace("_", "").isalnum():
                raise KeyStoreError(f"{name!r} is not a key name; use letters, digits, - and _")
            self._signers[name] = Signer(self._key(name), self._clock, self._state(name))
        return self._signers[name]

    def snapshot(self) -> dict[str, SigningState]:
        """The states to write, taken on the thread that uses the signers.

        The stored time is ahead of the used one by `SAVE_EVERY_S`, so an unclean end reuses none.
        """
        return {name: signer.state(lead_s=SAVE_EVERY_S) for name, signer in self._signers.items()}

    def save(self, states: dict[str, SigningState]) -> None:
        """Write a snapshot; do it more often than every `SAVE_EVERY_S` and when the gateway stops."""
        for name, state in states.items():
            streams = [[*stream, stamp] for stream, stamp in state.streams.items()]
            text = json.dumps({"timestamp": state.timestamp, "streams": streams})
            write_private(self._folder / f"{name}.state", text.encode())

    def _key(self, name: str) -> bytes:
        path = self._folder / f"{name}.key"
        text = _read_private(path, 4 * KEY_BYTES)
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise KeyStoreError(f"{path}: not a key; it must hold {2 * KEY_BYTES} hexadecimal digits")
        return key

    def _state(self, name: str) -> SigningState:
        path = self._folder / f"{name}.state"
        if not path.exists():
            return SigningState()
        try:
            return parse_state(_read_private(path, _MAX_STATE_BYTES))
        except ValueError as error:
            raise KeyStoreError(
                f"{path}: damaged ({error}); remove it and the vehicles' frames of the last minute can be replayed once"
            ) from error


def parse_state(data: bytes) -> SigningState:
    """A state file's content; ValueError when it is not one."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("no mapping")
    timestamp, entries = value.get("timestamp"), value.get("streams")
    if (
        not isinstance(timestamp, int)
        or not _is_stamp(timestamp)
        or not isinstance(entries, list)
        or len(entries) > MAX_STREAMS
    ):
        raise ValueError("no timestamp or no streams")
    streams = {}
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 4 or not all(_is_stamp(item) for item in entry):
            raise ValueError("a stream is not four numbers")
        if any(item > 255 for item in entry[:3]):
            raise ValueError("an id is above 255")
        streams[entry[0], entry[1], entry[2]] = entry[3]
    return SigningState(timestamp, streams)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, readable by its owner alone, on disk before the old content is gone."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_private(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(limit + 1)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be read: {error.strerror}; create it with mode 0600") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyStoreError(f"{path}: others can read it (mode {stat.S_IMODE(mode):04o}); set it to 0600")
    if len(data) > limit:
        raise KeyStoreError(f"{path}: larger than {limit} bytes")
    return data


def _is_stamp(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TIMESTAMP
