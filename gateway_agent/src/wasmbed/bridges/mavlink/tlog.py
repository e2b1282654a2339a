"""Telemetry logs (`.tlog`): each frame behind its time, eight bytes of big-endian microseconds since 1970."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from wasmbed.bridges.mavlink.frames import Frame, FrameParser

_STAMP = struct.Struct(">Q")
MAX_PENDING_BYTES = 4 * 1024 * 1024


class TelemetryLog:
    """Appends frames to files that are changed at a size and deleted beyond a number; keeps the newest.

    `write` only collects, `flush` is the one call that touches the disk, so it can run in a thread. What does not fit
    into memory between two flushes is dropped and counted.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 64 * 1024 * 1024, keep: int = 8) -> None:
        self.dropped = 0
        self.written = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep = keep
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._path: Path | None = None
        self._size = 0

    def write(self, frame: Frame, unix_s: float) -> None:
        """Collect a frame."""
        data = _STAMP.pack(int(unix_s * 1e6)) + frame.raw
        if self._pending_bytes + len(data) > MAX_PENDING_BYTES:
            self.dropped += 1
            return
        self._pending.append(data)
        self._pending_bytes += len(data)

    def take(self) -> bytes:
        """What was collected, for `flush`; call it on the event loop."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return data

    def flush(self, data: bytes, unix_s: float) -> None:
        """Append to the current file. Raises OSError when the disk does not take it."""
        if not data:
            return
        if self._path is None or self._size + len(data) > self._max_bytes:
            self._path = self._folder / f"{int(unix_s * 1e3):014d}.tlog"
            self._size = 0
            for old in sorted(self._folder.glob("*.tlog"))[: -self._keep + 1 or None]:
                old.unlink(missing_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        with os.fdopen(handle, "ab") as file:
            file.write(data)
        self._size += len(data)
        self.written += len(data)


def read_tlog(data: bytes) -> Iterator[tuple[float, Frame]]:
    """The frames of a log with their UNIX seconds; ends at the first thing that is not a frame."""
    at = 0
    while at + 8 < len(data):
        (stamp,) = _STAMP.unpack_from(data, at)
        # One frame at a time: the next time stamp would look like noise to the parser.
        found = _one_frame(data[at + 8 : at + 8 + 280])
        if found is None:
            return
        yield stamp / 1e6, found
        at += 8 + len(found.raw)


def _one_frame(data: bytes) -> Frame | None:
    if len(data) < 8 or data[0] not in (0xFD, 0xFE):
        return None
    size = data[1] + (8 if data[0] == 0xFE else 25 if data[2] & 1 else 12)
    frames = FrameParser(datagrams=True).feed(data[:size])
    return frames[0] if len(frames) == 1 and len(frames[0].raw) == size else None
