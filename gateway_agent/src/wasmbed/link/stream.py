"""TLS over a connection of asyncio, with the handshake in our hands.

asyncio's own TLS closes the connection on a failed handshake before the alert is sent, so that the other side would
never learn why it was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wasmbed.link.tls import Role

_READ_BYTES: Final = 64 * 1024
# For the last words to arrive, after which the connection goes whatever the other side does.
LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 256 * 1024


class TlsStream:
    """One connection; one task may read, and writing never waits, `drain` does.

    All raise OSError (of which ssl.SSLError is one) and EOFError.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: Role) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = role.context.wrap_bio(
            self._incoming, self._outgoing, server_side=role.server, server_hostname=role.hostname or None
        )
        self._plain = bytearray()

    async def handshake(self, timeout_s: float) -> bytes:
        """Do the handshake; returns the other side's certificate (DER). The alert of a failure is sent."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        self._tls.do_handshake()
                    except ssl.SSLWantReadError:
                        await self._exchange()
                    else:
                        break
                self._flush()
                await self._writer.drain()
        except ssl.SSLError:
            await self.linger()
            raise
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._writer.transport.get_write_buffer_size()

    async def read_exactly(self, count: int) -> bytes:
        """Read `count` bytes."""
        while len(self._plain) < count:
            try:
                data = self._tls.read(max(count - len(self._plain), _READ_BYTES))
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                if not data:
                    raise EOFError("the other side ended the session")
                self._plain += data
        result = bytes(memoryview(self._plain)[:count])
        del self._plain[:count]
        return result

    def write(self, data: bytes) -> None:
        """Send without waiting."""
        self._tls.write(data)
        self._flush()

    async def drain(self) -> None:
        """Wait while much waits to be sent."""
        await self._writer.drain()

    async def linger(self) -> None:
        """End orderly: what was written arrives, what the other side still sends is thrown away for a moment."""
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._flush()
                await self._writer.drain()
                # An end while data is unread would be a reset, which may overtake what was written.
                self._writer.write_eof()
                left = _LINGER_BYTES
                while left > 0 and (data := await self._reader.read(min(left, _READ_BYTES))):
                    left -= len(data)
        self.abort()

    def abort(self) -> None:
        """End at once."""
        self._writer.transport.abort()

    async def _exchange(self) -> None:
        self._flush()
        await self._writer.drain()
        data = await self._reader.read(_READ_BYTES)
        if not data:
            self._incoming.write_eof()
            raise EOFError("the other side closed the connection")
        self._incoming.write(data)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
