"""Messages sealed between an application and the cloud: AES-256-GCM in a CBOR envelope (docs/abi.md)."""

from __future__ import annotations

import hmac
import os
import threading
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wasmbed.runtime import abi

VERSION: Final = 1
UP: Final = 0
DOWN: Final = 1
BLOCK: Final = 1000
# With as few numbers left a new block is asked for.
LOW: Final = 100
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MAX_ENVELOPE_BYTES: Final = abi.SECURE_MAX + abi.ENVELOPE_MAX


class SealError(ValueError):
    """An envelope that is none, or not of this key; the message does not say what its content would be."""


@dataclass(frozen=True)
class Envelope:
    """An opened envelope."""

    application: str
    device: str
    direction: int
    sequence: int
    content: bytes


def application_key(site_key: bytes, application: str, uid: str) -> bytes:
    """Return an application's key (HKDF-SHA256, RFC 5869) from the gateway's site key of 32 bytes."""
    if len(site_key) != KEY_BYTES:
        raise ValueError(f"a site key has {KEY_BYTES} bytes, not {len(site_key)}")
    info = f"wasmbed secure 1|{application}|{uid}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(site_key)


def seal(key: bytes, application: str, device: str, direction: int, sequence: int, content: bytes) -> bytes:
    """Return the envelope of a content; a sequence must not be used twice for a key, a device and a direction."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, content, _additional(application, device, direction, sequence))
    fields = {1: VERSION, 2: application, 3: device, 4: direction, 5: sequence, 6: nonce, 7: sealed}
    return cbor2.dumps(fields, canonical=True)


def unseal(key: bytes, data: bytes) -> Envelope:
    """Open an envelope; raises SealError when it is none or was not sealed with this key."""
    fields = _fields(data)
    application, device, direction, sequence = (fields[number] for number in (2, 3, 4, 5))
    try:
        content = AESGCM(key).decrypt(fields[6], fields[7], _additional(application, device, direction, sequence))
    except InvalidTag:
        raise SealError("the message is not authentic: it was changed, or sealed with another key") from None
    return Envelope(application, device, direction, sequence, content)


def unseal_down(key: bytes, application: str, device: str, data: bytes) -> Envelope:
    """Open a message from the cloud to this application on this device; raises SealError."""
    envelope = unseal(key, data)
    if (envelope.application, envelope.device, envelope.direction) != (application, device, DOWN):
        raise SealError("not from the cloud to this application on this device")
    return envelope


def parse(data: bytes) -> Envelope:
    """Read an envelope without its content, which takes the key; raises SealError when it is none."""
    fields = _fields(data)
    return Envelope(fields[2], fields[3], fields[4], fields[5], b"")


def _additional(application: str, device: str, direction: int, sequence: int) -> bytes:
    return cbor2.dumps([VERSION, application, device, direction, sequence], canonical=True)


def _fields(data: bytes) -> dict[int, Any]:
    if len(data) > _MAX_ENVELOPE_BYTES:
        raise SealError(f"an envelope has at most {_MAX_ENVELOPE_BYTES} bytes, not {len(data)}")
    try:
        fields = cbor2.loads(data)
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise SealError("not a sealed message: it is not CBOR") from error
    kinds = {1: int, 2: str, 3: str, 4: int, 5: int, 6: bytes, 7: bytes}
    if (
        not isinstance(fields, dict)
        or fields.keys() != kinds.keys()
        or not all(isinstance(fields[number], kind) for number, kind in kinds.items())
        or fields[1] != VERSION
        or fields[4] not in (UP, DOWN)
        or not 0 <= fields[5] < 1 << 63
        or len(fields[6]) != _NONCE_BYTES
        or len(fields[7]) < _TAG_BYTES
    ):
        raise SealError("not a sealed message of version 1")
    return fields


class Sealer:
    """The key of one application on one device with the numbers reserved for it; for use from any thread."""

    def __init__(self, application: str, device: str, key: bytes, received: int = -1) -> None:
        """Received is the number of the last message from the cloud, -1 before the first."""
        self._application = application
        self._device = device
        self._key = key
        self._lock = threading.Lock()
        self._next = 0
        self._end = 0
        self._following: int | None = None
        self._last_down = received

    def has_key(self, key: bytes) -> bool:
        return hmac.compare_digest(self._key, key)

    def add_block(self, first: int) -> None:
        """Take a block of BLOCK numbers that nobody else uses; a repeated one is ignored."""
        with self._lock:
            if first + BLOCK <= self._end or first == self._following:
                return
            if self._next == self._end:
                self._next, self._end = max(first, self._end), first + BLOCK
            else:
                self._following = first

    @property
    def left(self) -> int:
        """How many messages can be sealed."""
        with self._lock:
            return self._end - self._next + (BLOCK if self._following is not None else 0)

    def seal(self, content: bytes) -> bytes | None:
        """Return the envelope, or None when the numbers are used up."""
        with self._lock:
            if self._next == self._end and self._following is not None:
                self._next, self._end, self._following = self._following, self._following + BLOCK, None
            if self._next == self._end:
                return None
            sequence, self._next = self._next, self._next + 1
        return seal(self._key, self._application, self._device, UP, sequence, content)

    def unseal(self, data: bytes) -> bytes | None:
        """Return the content of this application's and device's envelope, None when it is not one."""
        try:
            envelope = unseal(self._key, data)
        except SealError:
            return None
        if (envelope.application, envelope.device) != (self._application, self._device):
            return None
        return envelope.content

    def receive(self, data: bytes) -> bytes | None:
        """Open a message from the cloud; None unless it is authentic and newer than the last one."""
        try:
            envelope = unseal_down(self._key, self._application, self._device, data)
        except SealError:
            return None
        with self._lock:
            if envelope.sequence <= self._last_down:
                return None
            self._last_down = envelope.sequence
        return envelope.content
