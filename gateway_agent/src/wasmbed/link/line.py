"""Byte lines to microcontrollers: serial ports, UNIX sockets and TCP, all raw and without flow control."""

from __future__ import annotations

import asyncio
import os
import stat
import termios
import tty
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

BAUD: Final = 115_200
OPEN_S: Final = 5.0
# What waits for a line that takes nothing; the line is then given up.
MAX_BACKLOG_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 4096


class LineError(Exception):
    """The line cannot be opened or its description is none; the message says which, why and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where a line is: `serial:/dev/NAME[@BAUD]`, `unix:/PATH` or `tcp:HOST:PORT`."""

    kind: Literal["serial", "unix", "tcp"]
    path: str
    port: int = 0
    baud: int = BAUD

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read a description; raises LineError."""
        kind, _, rest = text.partition(":")
        if kind == "serial":
            path, _, rate = rest.partition("@")
            baud = int(rate) if rate.isascii() and rate.isdigit() and len(rate) < 8 else BAUD if not rate else 0
            if path.startswith("/dev/") and baud and hasattr(termios, f"B{baud}"):
                return cls("serial", path, baud=baud)
        elif kind == "unix" and rest.startswith("/"):
            return cls("unix", rest)
        elif kind == "tcp":
            host, _, port = rest.rpartition(":")
            if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
                return cls("tcp", host.strip("[]"), int(port))
        raise LineError(f"{text!r} is no line; write serial:/dev/NAME[@BAUD], unix:/PATH or tcp:HOST:PORT")

    def __str__(self) -> str:
        match self.kind:
            case "serial":
                return f"serial:{self.path}@{self.baud}"
            case "unix":
                return f"unix:{self.path}"
            case _:
                return f"tcp:{self.path}:{self.port}"


class Line(Protocol):
    """An open line. Whoever opened it gets the bytes, and once why it ended."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent."""
        ...

    def write(self, data: bytes) -> None:
        """Send; never waits."""
        ...

    def close(self) -> None:
        """End it; nothing is reported any more."""
        ...


class _Socket(asyncio.Protocol):
    def __init__(self, received: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        self._received, self._lost = received, lost
        self._transport: asyncio.Transport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's transport; uvloop's is not a subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._closed:
            self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._closed = True
            self._lost(f"the other side ended the connection{f': {exc}' if exc else ''}")

    @property
    def backlog_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        if self._transport is None or self._closed:
            return
        if self.backlog_bytes > MAX_BACKLOG_BYTES:
            self.close()
            self._lost(f"the other side takes no bytes; more than {MAX_BACKLOG_BYTES} wait")
            return
        self._transport.write(data)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()


class _Serial:
    """A serial port: raw, 8N1."""

    def __init__(self, endpoint: Endpoint, received: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        self._received, self._lost = received, lost
        self._queue = bytearray()
        self._loop = asyncio.get_running_loop()
        self._handle = os.open(endpoint.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISCHR(os.fstat(self._handle).st_mode):
                raise LineError(f"{endpoint.path} is no serial port; name the device's own file below /dev")
            tty.setraw(self._handle)
            settings = termios.tcgetattr(self._handle)
            rate = getattr(termios, f"B{endpoint.baud}")
            settings[2] = (settings[2] | termios.CLOCAL | termios.CREAD) & ~(termios.CRTSCTS | termios.CSTOPB)
            settings[4] = settings[5] = rate
            termios.tcsetattr(self._handle, termios.TCSANOW, settings)
            termios.tcflush(self._handle, termios.TCIOFLUSH)
        except BaseException:
            os.close(self._handle)
            raise
        self._loop.add_reader(self._handle, self._readable)

    @property
    def backlog_bytes(self) -> int:
        return len(self._queue)

    def _end(self, why: str) -> None:
        if self._handle >= 0:
            self.close()
            self._lost(why)

    def _readable(self) -> None:
        try:
            data = os.read(self._handle, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"the serial port failed: {error}")
            return
        if not data:
            self._end("the serial port is gone")
            return
        self._received(data)

    def write(self, data: bytes) -> None:
        if self._handle < 0:
            return
        self._queue += data
        if len(self._queue) > MAX_BACKLOG_BYTES:
            self._end(f"the serial port takes no bytes; more than {MAX_BACKLOG_BYTES} wait")
            return
        self._writable()

    def _writable(self) -> None:
        try:
            del self._queue[: os.write(self._handle, self._queue)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(f"the serial port failed: {error}")
            return
        if self._queue:
            self._loop.add_writer(self._handle, self._writable)
        else:
            self._loop.remove_writer(self._handle)

    def close(self) -> None:
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            self._loop.remove_writer(self._handle)
            os.close(self._handle)
            self._handle = -1


async def open_line(endpoint: Endpoint, received: Callable[[bytes], None], lost: Callable[[str], None]) -> Line:
    """Open a line; received and lost are called on the loop. Raises LineError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(OPEN_S):
            match endpoint.kind:
                case "serial":
                    return _Serial(endpoint, received, lost)
                case "unix":
                    _, line = await loop.create_unix_connection(lambda: _Socket(received, lost), endpoint.path)
                case _:
                    _, line = await loop.create_connection(
                        lambda: _Socket(received, lost), endpoint.path, endpoint.port
                    )
            return line
    except (OSError, termios.error, TimeoutError) as error:
        why = str(error) or f"no answer within {OPEN_S:.0f} s"
        raise LineError(
            f"cannot open {endpoint}: {why}; is the device connected, and may this service use it?"
        ) from error
