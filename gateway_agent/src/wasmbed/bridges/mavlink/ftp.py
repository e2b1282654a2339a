"""MAVLink FTP, client side: reading a file from a component.

One request at a time, repeated with the same number until its answer comes; a component answers a repeated request
with the same answer, so nothing is read twice.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids, Operation

MAX_FILE_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 239
_TIMEOUT_S = 0.4
_RETRIES = 12
_HEADER = struct.Struct("<HBBBBBxI")


class Opcode(IntEnum):
    """Requests and the two answers."""

    TERMINATE = 1
    OPEN_READ = 4
    READ = 5
    ACK = 128
    NAK = 129


_EOF = 6
_ERRORS = {
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


@dataclass(frozen=True, slots=True)
class FileResult:
    """A file's content, or why there is none."""

    path: str
    data: bytes | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was read."""
        return self.data is not None


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


class ReadFile(Operation[FileResult]):
    """Read one file, at most `MAX_FILE_BYTES`."""

    def __init__(self, ids: Ids, path: str, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        super().__init__(ids)
        if not 1 <= len(path.encode()) < _CHUNK_BYTES:
            raise ValueError(f"{path!r} cannot be asked for: a path has 1 to {_CHUNK_BYTES - 1} bytes")
        self._path = path
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._size = 0
        self._session = 0
        self._sequence = zlib.crc32(path.encode()) & 0xFFFF
        self._request: Packet | None = None
        self._tries = 0

    def start(self, now: float) -> None:
        """Open the file."""
        self._ask(Opcode.OPEN_READ, now, self._path.encode())

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
            error = answer.data[0] if answer.data else 1
            if error == _EOF and request.opcode == Opcode.READ:
                self._close(now)
            else:
                self._end(FileResult(self._path, reason=_ERRORS.get(error, f"error {error}")))
        elif answer.opcode == Opcode.ACK:
            self._answered(request, answer, now)

    def advance(self, now: float) -> None:
        """Repeat the request, or give up."""
        if self.result is not None or self.deadline is None or now < self.deadline or self._request is None:
            return
        if self._tries > _RETRIES:
            self._end(FileResult(self._path, reason="the component does not answer"))
        else:
            self._transmit(now)

    def cancel(self, now: float) -> None:
        """Give the session back."""
        if self.result is None:
            self._ask(Opcode.TERMINATE, now)
            self._end(FileResult(self._path, reason="cancelled"))

    def _answered(self, request: Packet, answer: Packet, now: float) -> None:
        if request.opcode == Opcode.OPEN_READ:
            self._session = answer.session
            self._size = int.from_bytes(answer.data[:4], "little")
            if self._size > self._max_bytes:
                self.cancel(now)
                self.result = FileResult(self._path, reason=f"{self._size} bytes are too many")
                return
            self._read(now)
            return
        # An answer for another place belongs to an older request with the same number.
        if answer.offset != request.offset or not answer.data:
            return
        self._data += answer.data
        if len(self._data) > self._max_bytes:
            self.cancel(now)
            self.result = FileResult(self._path, reason="the file is longer than it was said to be")
            return
        self._read(now)

    def _read(self, now: float) -> None:
        if self._size and len(self._data) >= self._size:
            self._close(now)
        else:
            # Not more than there is: MAVSDK's server fails when it is asked beyond the end.
            left = self._size - len(self._data) if self._size else _CHUNK_BYTES
            self._ask(Opcode.READ, now, size=min(_CHUNK_BYTES, left), offset=len(self._data))

    def _close(self, now: float) -> None:
        # Nobody waits for this answer: a session that stays open is closed by the component.
        self._ask(Opcode.TERMINATE, now)
        self._end(FileResult(self._path, bytes(self._data)))

    def _ask(self, opcode: Opcode, now: float, data: bytes = b"", *, size: int | None = None, offset: int = 0) -> None:
        self._sequence = (self._sequence + 2) & 0xFFFF
        length = len(data) if size is None else size
        self._request = Packet(self._sequence, self._session, opcode, length, 0, offset, data)
        self._tries = 0
        self._transmit(now)

    def _transmit(self, now: float) -> None:
        if self._request is None:
            return
        self._tries += 1
        self._send("FILE_TRANSFER_PROTOCOL", payload=self._request.payload())
        self.deadline = now + _TIMEOUT_S
