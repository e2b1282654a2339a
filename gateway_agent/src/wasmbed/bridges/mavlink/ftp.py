"""MAVLink FTP, client side: what its operations have in common (MAVLink guide, File Transfer Protocol).

One request at a time, repeated with the same number until its answer comes; a component answers a repeated request
with the same answer, so nothing is done twice.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids, Operation

MAX_FILE_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 239
_TIMEOUT_S = 0.4
# A component reads the whole file to answer.
_CHECKSUM_TIMEOUT_S = 2.0
_RETRIES = 12
_HEADER = struct.Struct("<HBBBBBxI")

T = TypeVar("T")


class Opcode(IntEnum):
    """Requests and the two answers."""

    TERMINATE = 1
    LIST = 3
    OPEN_READ = 4
    READ = 5
    CREATE = 6
    WRITE = 7
    OPEN_WRITE = 11
    CHECKSUM = 14
    ACK = 128
    NAK = 129


EOF = 6
NOT_FOUND = 10
ERRORS = {
    1: "it failed",
    2: "it failed with an error number",
    3: "the size is not right",
    4: "the session is not known",
    5: "no session is free; try again later",
    7: "the command is not known",
    8: "the file exists",
    9: "the file is protected",
    10: "there is no such file",
}


def checksum(data: bytes) -> int:
    """MAVLink's CRC-32 of a file: it starts at 0 and is not inverted."""
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """The payload of FILE_TRANSFER_PROTOCOL."""

    sequence: int
    session: int
    opcode: int
    size: int
    request: int
    offset: int
    data: bytes

    @classmethod
    def parse(cls, payload: bytes) -> "Packet":
        """From 251 bytes; the size in the header is limited to what is there."""
        sequence, session, opcode, size, request, _, offset = _HEADER.unpack_from(payload)
        data = bytes(payload[_HEADER.size :])
        return cls(sequence, session, opcode, size, request, offset, data[:size])

    def payload(self) -> tuple[int, ...]:
        """The 251 bytes, as the message takes them."""
        header = _HEADER.pack(self.sequence, self.session, self.opcode, self.size, self.request, 0, self.offset)
        return tuple((header + self.data).ljust(251, b"\0"))


class FileOperation(Operation[T]):
    """Asks one thing at a time and takes its answer; what the answers mean is the operation's own."""

    def __init__(self, ids: Ids, path: str) -> None:
        super().__init__(ids)
        if not 1 <= len(path.encode()) < CHUNK_BYTES:
            raise ValueError(f"{path!r} cannot be asked for: a path has 1 to {CHUNK_BYTES - 1} bytes")
        self.path = path
        self.session = 0
        self._sequence = zlib.crc32(path.encode()) & 0xFFFF
        self._request: Packet | None = None
        self._tries = 0

    def receive(self, item: Message, now: float) -> None:
        """Take the answer to the request that is open."""
        request = self._request
        if (
            self.result is not None
            or request is None
            or item.name != "FILE_TRANSFER_PROTOCOL"
            or not self.ids.sent_by_target(item)
            or not self.ids.is_for_us(item)
        ):
            return
        answer = Packet.parse(bytes(item["payload"]))
        if answer.request != request.opcode or answer.sequence != (request.sequence + 1) & 0xFFFF:
            return
        if answer.opcode == Opcode.NAK:
            self.refused(request, answer.data[0] if answer.data else 1, now)
        elif answer.opcode == Opcode.ACK:
            self.answered(request, answer, now)

    def advance(self, now: float) -> None:
        """Repeat the request, or give up."""
        if self.result is not None or self.deadline is None or now < self.deadline or self._request is None:
            return
        if self._tries > _RETRIES:
            self.fail("the component does not answer")
        else:
            self._transmit(now)

    def cancel(self, now: float) -> None:
        """Give the session back."""
        if self.result is None:
            self.terminate(now)
            self.fail("cancelled")

    def answered(self, request: Packet, answer: Packet, now: float) -> None:
        """Take the answer to a request."""
        raise NotImplementedError

    def refused(self, request: Packet, error: int, now: float) -> None:
        """Take a refusal."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """End with what went wrong."""
        raise NotImplementedError

    def terminate(self, now: float) -> None:
        """Give the session back; nobody waits for the answer: one that stays open is closed by the component."""
        self.ask(Opcode.TERMINATE, now)

    def ask_path(self, opcode: Opcode, now: float, *, offset: int = 0) -> None:
        """Make a request that names the path."""
        self.ask(opcode, now, self.path.encode(), offset=offset)

    def ask(self, opcode: Opcode, now: float, data: bytes = b"", *, size: int | None = None, offset: int = 0) -> None:
        """Make a request, to be repeated until its answer comes."""
        self._sequence = (self._sequence + 2) & 0xFFFF
        length = len(data) if size is None else size
        self._request = Packet(self._sequence, self.session, opcode, length, 0, offset, data)
        self._tries = 0
        self._transmit(now)

    def _transmit(self, now: float) -> None:
        if self._request is None:
            return
        self._tries += 1
        self._send("FILE_TRANSFER_PROTOCOL", payload=self._request.payload())
        long = self._request.opcode == Opcode.CHECKSUM
        self.deadline = now + (_CHECKSUM_TIMEOUT_S if long else _TIMEOUT_S)
