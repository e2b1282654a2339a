"""Frames on a serial line: 0x00, COBS of {type, body, CRC-16}, 0x00; the same as firmware/link/src/frame.c.

COBS after Cheshire and Baker (1999); the CRC is CRC-16/IBM-3740 over type and body, most significant byte first.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longest {type, body, CRC} that is read; devices send far less.
MAX_FRAME_BYTES: Final = 4096
_CRC_BYTES: Final = 2
_BLOCK: Final = 254


class FrameType(IntEnum):
    """What a frame carries."""

    KNOCK = 1
    INVITE = 2
    MESSAGE1 = 3
    MESSAGE2 = 4
    DATA = 5


@dataclass(frozen=True)
class Frame:
    """A frame whose CRC is right; kind is a number this version may not know."""

    kind: int
    body: bytes


def crc16(data: bytes) -> int:
    """Return the CRC-16/IBM-3740."""
    return binascii.crc_hqx(data, 0xFFFF)


def cobs_encode(data: bytes) -> bytes:
    """Return data without zero bytes, at most one byte in 254 longer and one more."""
    out = bytearray()
    at = 0
    while True:
        zero = data.find(0, at, at + _BLOCK)
        end = zero if zero >= 0 else min(len(data), at + _BLOCK)
        out.append(end - at + 1)
        out += data[at:end]
        if end == len(data):
            return bytes(out)
        at = end + 1 if zero >= 0 else end


def cobs_decode(data: bytes) -> bytes | None:
    """Return what was encoded; None when data is no COBS."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        end = at + code
        if code == 0 or end > len(data):
            return None
        out += data[at + 1 : end]
        at = end
        if code != 0xFF and at < len(data):
            out.append(0)
    return bytes(out)


def encode(kind: int, body: bytes) -> bytes:
    """Make the bytes of a frame on the wire, delimiters included."""
    content = bytes([kind]) + body
    return b"\0" + cobs_encode(content + crc16(content).to_bytes(_CRC_BYTES, "big")) + b"\0"


class FrameReader:
    """Takes bytes as they come and gives frames; holds at most one. What is no frame is counted in `bad`."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_bytes + max_bytes // _BLOCK + 1
        self._buffer = bytearray()
        self._overrun = False
        self.bad = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield every frame completed by data."""
        while data:
            head, zero, data = data.partition(b"\0")
            if not self._overrun:
                self._buffer += head[: self._limit + 1 - len(self._buffer)]
                self._overrun = len(self._buffer) > self._limit
            if not zero:
                return
            encoded, overrun = bytes(self._buffer), self._overrun
            self._buffer.clear()
            self._overrun = False
            if not encoded:
                continue
            content = None if overrun else cobs_decode(encoded)
            if content is None or len(content) <= _CRC_BYTES or crc16(content) != 0:
                self.bad += 1
                continue
            yield Frame(content[0], content[1:-_CRC_BYTES])
