"""Frames of a camera from a file or FIFO in YUV4MPEG2, as ffmpeg and others write it (yuv4mpegpipe).

A stream is a line `YUV4MPEG2 W<width> H<height> F<rate> C<colours> ...`, then for each frame a line `FRAME ...` and the
planes. Colours 420 (any siting) and mono are read. Of a FIFO, the newest whole frame counts; a file is played over and
over at its rate.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.abi import SAMPLE, SAMPLE_MAX, SampleFormat
from wasmbed.sensors.sample import SensorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_LINE: Final = 1024
READ_BYTES: Final = 256 * 1024
# How long a FIFO may say nothing before this is told, and how often its reader looks whether it is to end.
SILENCE_S: Final = 5.0
_LOOK_S: Final = 0.1


class Y4m:
    """An open stream."""

    def __init__(self, path: Path, ended: Callable[[], bool]) -> None:
        """Open it; raises SensorError. `ended` is asked while nothing comes."""
        self._path = path
        self._ended = ended
        self._buffer = bytearray()
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SensorError(f"{path}: {error.strerror}") from error
        mode = os.fstat(self._file).st_mode
        self.live = not stat.S_ISREG(mode)
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            self.close()
            raise SensorError(f"{path}: neither a file nor a FIFO")
        self.width = self.height = 0
        self.rate = 0.0
        self.grey = False
        self._first_frame = 0
        try:
            self._header()
        except BaseException:
            self.close()
            raise

    @property
    def frame_bytes(self) -> int:
        """Bytes of the planes of a frame."""
        luma = self.width * self.height
        return luma if self.grey else luma + 2 * ((self.width + 1) // 2) * ((self.height + 1) // 2)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def next(self) -> bytes | None:
        """The next frame's planes, None when `ended` says so; raises SensorError."""
        while True:
            line = self._line()
            if line is None:
                if self.live or self._ended():
                    return None
                # The file has ended: from its first frame again.
                os.lseek(self._file, self._first_frame, os.SEEK_SET)
                self._buffer.clear()
                line = self._line()
            if line is None:
                raise SensorError(f"{self._path}: the file has no frame")
            if line.split(b" ")[0] != b"FRAME":
                raise SensorError(f"{self._path}: a frame begins with {line[:20]!r} instead of FRAME")
            planes = self._exactly(self.frame_bytes)
            if planes is not None:
                return planes
            if self.live or self._ended():
                return None

    def waiting(self) -> bool:
        """Whether more is there already, so that the frame just read is not the newest."""
        if not self.live:
            return False
        return len(self._buffer) >= self.frame_bytes or bool(select.select([self._file], [], [], 0)[0])

    def _header(self) -> None:
        line = self._line()
        if line is None:
            raise SensorError(f"{self._path}: nothing is written to it")
        words = line.split(b" ")
        if words[0] != b"YUV4MPEG2":
            raise SensorError(f"{self._path}: not YUV4MPEG2; it begins with {line[:20]!r}")
        colours = b"420"
        try:
            for word in words[1:]:
                tag, value = word[:1], word[1:]
                if tag == b"W":
                    self.width = int(value)
                elif tag == b"H":
                    self.height = int(value)
                elif tag == b"F":
                    above, below = value.split(b":")
                    self.rate = int(above) / int(below) if int(below) else 0.0
                elif tag == b"C":
                    colours = value
        except ValueError as error:
            raise SensorError(f"{self._path}: the header {line[:80]!r} cannot be read") from error
        self.grey = colours == b"mono"
        # 420p10 and the like have two bytes a value.
        if not self.grey and colours not in {b"420", b"420jpeg", b"420paldv", b"420mpeg2"}:
            raise SensorError(f"{self._path}: colours {colours[:16].decode(errors='replace')}; 420 or mono is read")
        if (
            not (1 <= self.width <= 0xFFFF and 1 <= self.height <= 0xFFFF)
            or SAMPLE.size + self.frame_bytes > SAMPLE_MAX
        ):
            raise SensorError(f"{self._path}: frames of {self.width}x{self.height} are not between 1 pixel and 8 MiB")
        if not self.live:
            self._first_frame = os.lseek(self._file, 0, os.SEEK_CUR) - len(self._buffer)

    def _line(self) -> bytes | None:
        """A line without its end; None at the end of the file or when `ended` says so."""
        while (end := self._buffer.find(b"\n", 0, MAX_LINE)) < 0:
            if len(self._buffer) >= MAX_LINE:
                raise SensorError(f"{self._path}: a line of more than {MAX_LINE} bytes")
            if not self._more():
                if self._buffer and not self.live and not self._ended():
                    raise SensorError(f"{self._path}: the file ends in the middle of a line")
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not self._more():
                if not self.live and not self._ended():
                    raise SensorError(f"{self._path}: the file ends in the middle of a frame")
                return None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _more(self) -> bool:
        """Read what is there; False at the end of a file, or when `ended` says so. Raises SensorError."""
        silent_s = 0.0
        while not self._ended():
            if self.live and not select.select([self._file], [], [], _LOOK_S)[0]:
                silent_s += _LOOK_S
                if silent_s >= SILENCE_S:
                    raise SensorError(f"{self._path}: nothing came for {SILENCE_S:g} s")
                continue
            try:
                data = os.read(self._file, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise SensorError(f"{self._path}: {error.strerror}") from error
            if data:
                self._buffer += data
                return True
            if not self.live:
                return False
            # Nobody has the FIFO open for writing.
            select.select([], [], [], _LOOK_S)
            silent_s += _LOOK_S
            if silent_s >= SILENCE_S:
                raise SensorError(f"{self._path}: nobody writes to it")
        return False


def pixels(stream: Y4m, planes: bytes, grey: bool) -> tuple[SampleFormat, bytes]:
    """Format and bytes of a frame; `grey` leaves the colours out."""
    if stream.grey or grey:
        return SampleFormat.GREY8, planes[: stream.width * stream.height]
    return SampleFormat.YUV420, planes
