"""Byte stream links: TCP client and server, serial lines."""

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Callable
from typing import cast

from wasmbed.bridges.mavlink.endpoints import Address, Endpoint
from wasmbed.bridges.mavlink.switch import Port, PortOptions, Switch

MAX_QUEUED_BYTES = 256 * 1024
"""What waits for a slow link; more is dropped frame by frame and counted."""


class _TcpPeer(asyncio.Protocol):
    def __init__(self, link: "TcpLink") -> None:
        self._link = link
        self._port: Port | None = None
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's transport; uvloop's is not a subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._port = self._link.joined(self, str(transport.get_extra_info("peername")))
        if self._port is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._port is not None:
            self._link.switch.receive(self._port, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._port is not None:
            self._link.switch.close(self._port)
            self._port = None
        self._link.left(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def write(self, raw: bytes) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            return False
        transport.write(raw)
        return True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class TcpLink:
    """A TCP connection to a server (`tcp`), or a server with up to `max_peers` connections (`tcpin`)."""

    def __init__(self, switch: Switch, endpoint: Endpoint, options: PortOptions, address: Address) -> None:
        self.bound: tuple[str, int] | None = None
        self.switch = switch
        self._endpoint = endpoint
        self._options = options
        self._address = address
        self._peers: set[_TcpPeer] = set()

    def joined(self, peer: _TcpPeer, name: str) -> Port | None:
        """A connection was made; None when there are too many."""
        if len(self._peers) >= self._endpoint.max_peers:
            return None
        self._peers.add(peer)
        return self.switch.open(self._options, name, peer.write)

    def left(self, peer: _TcpPeer) -> None:
        """A connection ended."""
        self._peers.discard(peer)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve, or stay connected, until cancelled; OSError or a return when the connection ends."""
        loop = asyncio.get_running_loop()
        if self._address.kind == "tcp":
            transport, peer = await asyncio.wait_for(
                loop.create_connection(lambda: _TcpPeer(self), self._address.host, self._address.port), 10.0
            )
            try:
                on_ready()
                await peer.closed
            finally:
                transport.abort()
            return
        server = await loop.create_server(lambda: _TcpPeer(self), self._address.host, self._address.port)
        try:
            name = server.sockets[0].getsockname()
            self.bound = (str(name[0]), int(name[1]))
            on_ready()
            await asyncio.Event().wait()
        finally:
            server.close()
            for waiting in list(self._peers):
                waiting.abort()


class SerialLink:
    """A serial line: raw, 8N1, no flow control. A device that goes away ends `run` and is tried again."""

    def __init__(self, switch: Switch, endpoint: Endpoint, options: PortOptions, address: Address) -> None:
        self.bound: tuple[str, int] | None = None
        self._switch = switch
        self._endpoint = endpoint
        self._options = options
        self._address = address
        self._handle = -1
        self._queue = bytearray()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until cancelled or until the device is gone; OSError when it cannot be opened."""
        loop = asyncio.get_running_loop()
        self._handle = os.open(self._address.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        ended: asyncio.Future[None] = loop.create_future()
        port: Port | None = None
        try:
            configure(self._handle, self._address.baud)
            port = self._switch.open(self._options, self._address.device, self._write)
            loop.add_reader(self._handle, self._readable, port, ended)
            on_ready()
            await ended
        finally:
            loop.remove_reader(self._handle)
            loop.remove_writer(self._handle)
            os.close(self._handle)
            self._handle = -1
            self._queue.clear()
            if port is not None:
                self._switch.close(port)

    def _readable(self, port: Port, ended: asyncio.Future[None]) -> None:
        try:
            data = os.read(self._handle, 65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if not ended.done():
                ended.set_exception(error)
            return
        if data:
            self._switch.receive(port, data)
        elif not ended.done():
            ended.set_result(None)

    def _write(self, raw: bytes) -> bool:
        if self._handle < 0 or len(self._queue) + len(raw) > MAX_QUEUED_BYTES:
            return False
        if not self._queue:
            asyncio.get_running_loop().add_writer(self._handle, self._writable)
        self._queue += raw
        return True

    def _writable(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                done = os.write(self._handle, self._queue)
            except BlockingIOError:
                return
            except OSError:
                # The reader sees the same failure and ends the link.
                done = len(self._queue)
            del self._queue[:done]
        if not self._queue:
            asyncio.get_running_loop().remove_writer(self._handle)


def configure(handle: int, baud: int) -> None:
    """Set a terminal raw at a baud rate. Raises OSError for a rate the system does not have, or for no terminal."""
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise OSError(22, f"baud rate {baud} is not one of the system's; use 57600, 115200 or 921600")
    try:
        tty.setraw(handle)
        settings = termios.tcgetattr(handle)
        settings[4] = settings[5] = speed
        settings[2] = (settings[2] | termios.CLOCAL | termios.CREAD) & ~termios.CSTOPB & ~termios.PARENB
        if hasattr(termios, "CRTSCTS"):
            settings[2] &= ~termios.CRTSCTS
        termios.tcsetattr(handle, termios.TCSANOW, settings)
    except termios.error as error:
        raise OSError(*error.args) from error
