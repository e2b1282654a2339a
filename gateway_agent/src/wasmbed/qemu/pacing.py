"""What a wire does to bytes and QEMU does not: they take their time, and some are lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from wasmbed.qemu.config import MILLION

if TYPE_CHECKING:
    from wasmbed.qemu.config import FaultConfig

# A start bit, eight of data, a stop bit.
BITS_A_BYTE: Final = 10
# Bytes go in pieces of so many seconds of the line's time: as late as a small buffer in a UART makes them.
PIECE_S: Final = 0.005


class Pace:
    """When bytes may go, for one direction of a line. Times are monotonic seconds of the caller's clock."""

    def __init__(self, baud: int) -> None:
        self.bytes_per_s = baud / BITS_A_BYTE
        self.piece_bytes = max(1, round(self.bytes_per_s * PIECE_S))
        self._free_at = 0.0

    def sent(self, count: int, now: float) -> float:
        """Take note of bytes put on the line now; return the seconds until the line is free again.

        A line that was idle has not saved up time, but a late caller catches up by one piece.
        """
        self._free_at = max(self._free_at, now - PIECE_S) + count / self.bytes_per_s
        return max(0.0, self._free_at - now)


class Faults:
    """Loses and alters bytes at random; the same seed and bytes give the same faults."""

    def __init__(self, config: FaultConfig, direction: str) -> None:
        self._drop = config.drop_per_million
        self._alter = config.drop_per_million + config.corrupt_per_million
        self._random = random.Random(f"{config.seed} {direction}")  # noqa: S311 - not a secret
        self.dropped = 0
        self.altered = 0

    def apply(self, data: bytes) -> bytes:
        """Return what arrives of data."""
        if not self._alter:
            return data
        arrived = bytearray()
        for byte in data:
            chance = self._random.randrange(MILLION)
            if chance < self._drop:
                self.dropped += 1
            elif chance < self._alter:
                self.altered += 1
                arrived.append(byte ^ (1 << self._random.randrange(8)))
            else:
                arrived.append(byte)
        return bytes(arrived)
