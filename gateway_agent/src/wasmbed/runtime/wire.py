"""Frames and fields of the runtime's sockets.

A frame is a 4-byte big-endian length and a CBOR map (RFC 8949) of at most MAX_FRAME_BYTES. Everything here raises
ProtocolError and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import cbor2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
MAX_MESSAGE_BYTES: Final = 256
MAX_NAME_BYTES: Final = 512
_HEADER_BYTES: Final = 4
_TEXT: Final = frozenset({str})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class ProtocolError(Exception):
    """Bytes or a message that the protocol does not allow; the message says what and where."""


def shorten(text: str, limit_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Cut a text to at most limit_bytes of UTF-8, at a character, with an ellipsis where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return data.decode()
    return data[: limit_bytes - 3].decode("utf-8", "ignore") + "…"


def encode(message: Mapping[str, Any]) -> bytes:
    """Make a frame; raises ProtocolError when it would be longer than MAX_FRAME_BYTES."""
    body = cbor2.dumps(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Takes bytes as they come and gives whole messages; holds at most one frame and what came with it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield every message completed by data; raises ProtocolError, after which the stream is of no use."""
        self._buffer += data
        while len(self._buffer) >= _HEADER_BYTES:
            length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            if len(self._buffer) < _HEADER_BYTES + length:
                return
            body = bytes(memoryview(self._buffer)[_HEADER_BYTES : _HEADER_BYTES + length])
            del self._buffer[: _HEADER_BYTES + length]
            yield _decode(body)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = cbor2.loads(body)
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise ProtocolError(f"not CBOR: {error}") from error
    if not isinstance(message, dict) or not _TEXT.issuperset(map(type, message)):
        raise ProtocolError("not a CBOR map with text keys")
    return message


def text(message: Mapping[str, Any], name: str, *, limit_bytes: int = MAX_NAME_BYTES, empty: bool = False) -> str:
    """Return a text field; raises ProtocolError when it is missing, not text, empty (unless allowed) or too long."""
    value = message.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"field {name!r} is not a text")
    if not value and not empty:
        raise ProtocolError(f"field {name!r} is empty")
    if _longer(value, limit_bytes):
        raise ProtocolError(f"field {name!r} is longer than {limit_bytes} bytes")
    return value


def _longer(value: str, limit_bytes: int) -> bool:
    """Whether a text has more bytes in UTF-8, where a character has 4 at most."""
    return 4 * len(value) > limit_bytes and len(value.encode("utf-8", "replace")) > limit_bytes


def number(message: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return an integer field within low..high; raises ProtocolError otherwise."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ProtocolError(f"field {name!r} is not a number from {low} to {high}")
    return value


def texts(message: Mapping[str, Any], name: str, limit: int) -> tuple[str, ...]:
    """Return a field that is a list of at most limit texts; raises ProtocolError otherwise."""
    values = message.get(name, [])
    if not isinstance(values, list) or len(values) > limit or not all(isinstance(value, str) for value in values):
        raise ProtocolError(f"field {name!r} is not a list of at most {limit} texts")
    if any(_longer(value, MAX_NAME_BYTES) for value in values):
        raise ProtocolError(f"field {name!r} holds a text of more than {MAX_NAME_BYTES} bytes")
    return tuple(values)


def octets(message: Mapping[str, Any], name: str, limit_bytes: int) -> bytes:
    """Return a field of at most limit_bytes bytes; raises ProtocolError otherwise."""
    value = message.get(name)
    if not isinstance(value, bytes):
        raise ProtocolError(f"field {name!r} is not bytes")
    if len(value) > limit_bytes:
        raise ProtocolError(f"field {name!r} is longer than {limit_bytes} bytes")
    return value


def digest(message: Mapping[str, Any]) -> str:
    """Return the field `digest` of the form sha256:<64 hexadecimal digits>; raises ProtocolError otherwise."""
    value = text(message, "digest")
    if not _DIGEST.fullmatch(value):
        raise ProtocolError(f"digest {value[:80]!r} is not sha256: and 64 hexadecimal digits")
    return value
