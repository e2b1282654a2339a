"""Noise_IK_25519_AESGCM_SHA256, the responder's and initiator's side (Noise Protocol Framework, revision 34).

The state machine is the published one; the primitives are those of `cryptography`. No package of Noise for Python is
kept up (the last release of `noiseprotocol` is of 2020).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NAME: Final = b"Noise_IK_25519_AESGCM_SHA256"
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
MESSAGE1_BYTES: Final = KEY_BYTES + KEY_BYTES + TAG_BYTES + TAG_BYTES
MESSAGE2_BYTES: Final = KEY_BYTES + TAG_BYTES
MAX_COUNTER: Final = (1 << 64) - 1


class NoiseError(Exception):
    """A handshake message or a protected message that does not prove what it must; says nothing about secrets."""


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\1", "sha256")
    return first, hmac.digest(secret, first + b"\2", "sha256")


def seal(key: bytes, counter: int, data: bytes, ad: bytes = b"") -> bytes:
    """Encrypt with Noise's nonce n = counter; the tag is appended."""
    return AESGCM(key).encrypt(b"\0\0\0\0" + counter.to_bytes(8, "big"), data, ad)


def unseal(key: bytes, counter: int, data: bytes, ad: bytes = b"") -> bytes:
    """Decrypt; raises NoiseError when the tag does not fit."""
    try:
        return AESGCM(key).decrypt(b"\0\0\0\0" + counter.to_bytes(8, "big"), data, ad)
    except InvalidTag:
        raise NoiseError("the message is not authentic") from None


def rekey(key: bytes) -> bytes:
    """REKEY of section 4.2."""
    return seal(key, MAX_COUNTER, bytes(KEY_BYTES))[:KEY_BYTES]


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one, 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def new_private_key() -> bytes:
    """Return a new private key of 32 bytes from the system's random source."""
    return X25519PrivateKey.generate().private_bytes_raw()


def exchange(private: bytes, public: bytes) -> bytes:
    """The Diffie-Hellman function; raises NoiseError for a public key of low order."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise NoiseError("the other side's key is of low order") from None


class Responder:
    """A responder's key and one message 1: the part of reading it that is the same whatever the prologue is.

    Raises NoiseError for a message that is too short, or whose key is of low order.
    """

    def __init__(self, private: bytes, message: bytes) -> None:
        if len(message) < MESSAGE1_BYTES:
            raise NoiseError(f"message 1 has {len(message)} bytes, not {MESSAGE1_BYTES} or more")
        self.private, self.message = private, message
        self.public = public_key(private)
        self.shared = exchange(private, message[:KEY_BYTES])

    def read(self, prologue: bytes) -> Handshake:
        """The handshake whose message 1 this is; raises NoiseError when its prologue is another one."""
        handshake = Handshake(prologue=prologue, private=self.private, public=self.public)
        handshake.read1(self.message, self.shared)
        return handshake


class Handshake:
    """The handshake of one side; use it once. Messages are made and read in the pattern's order.

    `remote` is the other side's static key: an initiator knows it, a responder finds it in message 1. Reading raises
    NoiseError; the handshake is then over.
    """

    def __init__(
        self,
        *,
        prologue: bytes,
        private: bytes,
        remote: bytes | None = None,
        ephemeral: bytes = b"",
        public: bytes = b"",
    ) -> None:
        """ephemeral is made when it is needed; public is that of private, for whoever knows it already."""
        self._private = private
        self._ephemeral = ephemeral
        self.remote = remote
        self._remote_ephemeral = b""
        self._chain = self.hash = NAME.ljust(hashlib.sha256().digest_size, b"\0")
        self._key = b""
        self._mix_hash(prologue)
        self._mix_hash(remote if remote is not None else public or public_key(private))

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def _mix_key(self, shared: bytes) -> None:
        self._chain, self._key = _hkdf(self._chain, shared)

    def _mix_dh(self, private: bytes, public: bytes) -> None:
        self._mix_key(exchange(private, public))

    def _mix_ephemeral(self) -> bytes:
        self._ephemeral = self._ephemeral or new_private_key()
        public = public_key(self._ephemeral)
        self._mix_hash(public)
        return public

    def _seal(self, data: bytes) -> bytes:
        sealed = seal(self._key, 0, data, self.hash)
        self._mix_hash(sealed)
        return sealed

    def _unseal(self, data: bytes) -> bytes:
        opened = unseal(self._key, 0, data, self.hash)
        self._mix_hash(data)
        return opened

    def write1(self, payload: bytes = b"") -> bytes:
        """Initiator: e, es, s, ss."""
        if self.remote is None:
            raise ValueError("an initiator must know the responder's key")
        ephemeral = self._mix_ephemeral()
        self._mix_dh(self._ephemeral, self.remote)
        sealed = self._seal(public_key(self._private))
        self._mix_dh(self._private, self.remote)
        return ephemeral + sealed + self._seal(payload)

    def read1(self, message: bytes, shared: bytes = b"") -> bytes:
        """Responder: return the payload; `remote` is the initiator's static key from then on.

        shared is what `exchange` gives for this side's key and the message's, for whoever knows it already.
        """
        if len(message) < MESSAGE1_BYTES:
            raise NoiseError(f"message 1 has {len(message)} bytes, not {MESSAGE1_BYTES} or more")
        self._remote_ephemeral = message[:KEY_BYTES]
        self._mix_hash(self._remote_ephemeral)
        self._mix_key(shared or exchange(self._private, self._remote_ephemeral))
        self.remote = self._unseal(message[KEY_BYTES : 2 * KEY_BYTES + TAG_BYTES])
        self._mix_dh(self._private, self.remote)
        return self._unseal(message[2 * KEY_BYTES + TAG_BYTES :])

    def write2(self, payload: bytes = b"") -> bytes:
        """Responder: e, ee, se."""
        if self.remote is None:
            raise ValueError("message 1 comes first")
        ephemeral = self._mix_ephemeral()
        self._mix_dh(self._ephemeral, self._remote_ephemeral)
        self._mix_dh(self._ephemeral, self.remote)
        return ephemeral + self._seal(payload)

    def read2(self, message: bytes) -> bytes:
        """Initiator: return the payload."""
        if len(message) < MESSAGE2_BYTES:
            raise NoiseError(f"message 2 has {len(message)} bytes, not {MESSAGE2_BYTES} or more")
        ephemeral = message[:KEY_BYTES]
        self._mix_hash(ephemeral)
        self._mix_dh(self._ephemeral, ephemeral)
        self._mix_dh(self._private, ephemeral)
        return self._unseal(message[KEY_BYTES:])

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys of both directions after message 2: the initiator's sending one first."""
        return _hkdf(self._chain, b"")
