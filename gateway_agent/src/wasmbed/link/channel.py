"""Messages over a TLS connection: a 4-byte big-endian length and a CBOR map (RFC 8949), bounded in bytes and time."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final

import cbor2

from wasmbed.link.tls import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.link.stream import TlsStream

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
# Before the other side is known, it has no more room than this.
MAX_HELLO_BYTES: Final = 16 * 1024
# From the first byte of a frame to its last one, and for the other side to take what we send.
FRAME_S: Final = 30.0
SEND_S: Final = 30.0
_HEADER_BYTES: Final = 4


class ChannelClosed(Exception):  # noqa: N818 - a state of the connection
    """The connection is of no more use; the message says why."""


class Channel:
    """One connection. One task may receive, any number may send; whoever finds it broken gets ChannelClosed."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._why = ""
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._why else self._stream.backlog_bytes

    async def receive(self, idle_s: float, *, limit_bytes: int = MAX_FRAME_BYTES) -> dict[str, Any]:
        """Wait at most idle_s for the next message to begin and FRAME_S for it to be whole; raises ChannelClosed."""
        try:
            async with asyncio.timeout(idle_s):
                first = await self._stream.read_exactly(1)
        except TimeoutError:
            raise self.close(f"silent for {idle_s:.0f} s") from None
        except (OSError, EOFError) as error:
            raise self.close(_ended(error)) from error
        try:
            async with asyncio.timeout(min(idle_s, FRAME_S)):
                header = first + await self._stream.read_exactly(_HEADER_BYTES - 1)
                length = int.from_bytes(header, "big")
                if length > limit_bytes:
                    raise self.close(f"a frame of {length} bytes is over the limit of {limit_bytes}")
                body = await self._stream.read_exactly(length)
        except TimeoutError:
            raise self.close("a frame was begun and not ended in time") from None
        except (OSError, EOFError) as error:
            raise self.close(_ended(error)) from error
        self.received_bytes += _HEADER_BYTES + length
        try:
            return _decode(body)
        except ValueError as error:
            raise self.close(str(error)) from error

    def post(self, message: Mapping[str, Any]) -> None:
        """Send without waiting; a channel that is closed takes it to nowhere. Raises ValueError when it is too long."""
        body = cbor2.dumps(message)
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
        if not self._why:
            self._stream.write(len(body).to_bytes(_HEADER_BYTES, "big") + body)
            self.sent_bytes += _HEADER_BYTES + len(body)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send, and wait while much waits to be sent; raises ChannelClosed when the other side does not take it."""
        self.post(message)
        await self.drain()

    async def drain(self) -> None:
        """Wait while much waits to be sent; raises ChannelClosed."""
        if self._why:
            raise ChannelClosed(self._why)
        try:
            async with asyncio.timeout(SEND_S):
                await self._stream.drain()
        except TimeoutError:
            raise self.close(f"the other side took nothing for {SEND_S:.0f} s") from None
        except OSError as error:
            raise self.close(_ended(error)) from error

    async def finish(self, message: Mapping[str, Any]) -> None:
        """Send the last message and end, giving it a moment to arrive."""
        if not self._why:
            self.post(message)
            self._why = "ended"
            await self._stream.linger()

    def close(self, why: str) -> ChannelClosed:
        """Close at once, whatever waits to be sent; returns what to raise."""
        self._why = self._why or why
        self._stream.abort()
        return ChannelClosed(self._why)


def _ended(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return explain(error)
    if isinstance(error, EOFError):
        return str(error) or "the other side closed the connection"
    return f"the connection was lost: {explain(error)}"


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = cbor2.loads(body)
    except Exception as error:  # the decoder's own hooks raise more than its documented errors
        raise ValueError(f"not CBOR: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise ValueError("not a CBOR map with text keys")
    return message
