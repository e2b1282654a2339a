"""One device's serial line: QEMU's socket on one end, whoever connects by TCP on the other, as slow as the wire."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.qemu.pacing import Faults, Pace

if TYPE_CHECKING:
    from pathlib import Path

    from wasmbed.qemu.config import DeviceConfig

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 2.0
# A wire does not wait for who does not read: above this, bytes to the peer are lost.
PEER_BUFFER_BYTES: Final = 64 * 1024


@dataclass
class LineStatistics:
    """Bytes that arrived at either end, and those that nobody was there for."""

    to_device: int = 0
    from_device: int = 0
    lost: int = 0
    connections: int = 0


class Line:
    """The line of one device. `run` keeps it up until cancelled; `heard_at` is when the device last said something."""

    def __init__(self, config: DeviceConfig, path: Path) -> None:
        self.config = config
        self.statistics = LineStatistics()
        self.port = 0
        self.heard_at = time.monotonic()
        self.ready = asyncio.Event()
        self._path = path
        self._faults_in = Faults(config.faults, "to device")
        self._faults_out = Faults(config.faults, "from device")
        self._machine: asyncio.StreamWriter | None = None
        self._peer: asyncio.StreamWriter | None = None
        # The wire is one, whoever holds its end.
        self._pace_in = Pace(config.serial.baud)

    @property
    def connected(self) -> bool:
        """Whether QEMU's end is there."""
        return self._machine is not None

    @property
    def faults(self) -> tuple[int, int]:
        """Bytes lost and altered on purpose so far."""
        return (
            self._faults_in.dropped + self._faults_out.dropped,
            self._faults_in.altered + self._faults_out.altered,
        )

    async def run(self) -> None:
        """Serve; raises OSError when the TCP endpoint cannot be opened."""
        endpoint = self.config.serial
        server = await asyncio.start_server(self._serve_peer, endpoint.address, endpoint.port, limit=PEER_BUFFER_BYTES)
        for listener in server.sockets:
            # Of connections too: the kernel would keep minutes of the line for a peer that does not read.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PEER_BUFFER_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        try:
            await self._keep_machine()
        finally:
            self.ready.clear()
            server.close()
            self._hang_up()

    async def _keep_machine(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=PEER_BUFFER_BYTES)
            except OSError:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LAST_RETRY_S)
                continue
            delay_s = FIRST_RETRY_S
            log.info("machine connected device=%s", self.config.name)
            self._machine, self.heard_at = writer, time.monotonic()
            try:
                await self._from_device(reader)
            except OSError as error:
                log.debug("machine's socket failed device=%s error=%s", self.config.name, error)
            finally:
                self._machine = None
                # QEMU has one place at its end; bytes that the device does not take must not keep it.
                writer.transport.abort()
            log.warning("machine gone device=%s", self.config.name)

    async def _from_device(self, reader: asyncio.StreamReader) -> None:
        pace = Pace(self.config.serial.baud)
        while data := await reader.read(pace.piece_bytes):
            self.heard_at = time.monotonic()
            wait_s = pace.sent(len(data), self.heard_at)
            data = self._faults_out.apply(data)
            peer = self._peer
            if peer is None or peer.transport.get_write_buffer_size() > PEER_BUFFER_BYTES:
                self.statistics.lost += len(data)
            else:
                peer.write(data)
                self.statistics.from_device += len(data)
            await asyncio.sleep(wait_s)

    async def _serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.ready.is_set():
            # Taken when the line was about to end: nobody would hang it up.
            writer.close()
            return
        name, address = self.config.name, writer.get_extra_info("peername")
        # The one before may be half open after a lost network; a line has one other end.
        self._hang_up()
        self._peer = writer
        self.statistics.connections += 1
        log.info("peer connected device=%s address=%s", name, address)
        try:
            # The wire may have bytes of the one before on it.
            await asyncio.sleep(self._pace_in.sent(0, time.monotonic()))
            while data := await reader.read(self._pace_in.piece_bytes):
                if self._peer is not writer:
                    return
                wait_s = self._pace_in.sent(len(data), time.monotonic())
                data = self._faults_in.apply(data)
                if self._machine is None:
                    self.statistics.lost += len(data)
                else:
                    self._machine.write(data)
                    self.statistics.to_device += len(data)
                    # QEMU takes bytes only as the device reads them; on a real line an overrun would lose them.
                    with contextlib.suppress(OSError):
                        await self._machine.drain()
                await asyncio.sleep(wait_s)
        except OSError as error:
            log.debug("peer's connection failed device=%s error=%s", name, error)
        finally:
            if self._peer is writer:
                self._peer = None
            writer.close()
            log.info("peer gone device=%s address=%s", name, address)

    def _hang_up(self) -> None:
        if self._peer is not None:
            # One that does not read would keep the connection until what waits for it is gone.
            self._peer.transport.abort()
            self._peer = None
