"""Records of MCAP files that may be cut off, damaged or made to harm, with bounds on what is held in memory.

What the package `mcap` has for it trusts lengths and sizes that the file tells.
"""

from __future__ import annotations

import heapq
import itertools
import os
import struct
import zlib
from io import BytesIO
from typing import IO, TYPE_CHECKING, Final, NamedTuple, TypeVar

import zstandard
from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Footer, Schema
from mcap.writer import MCAP0_MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

# Bytes of a record, and of a chunk's records. Recorders have chunks of some 1 MiB, or of one message that is larger.
MAX_RECORD: Final = 128 << 20
# Bytes of all schemas and channels of a file.
MAX_DEFINITIONS: Final = 64 << 20
# Bytes of messages that wait until it is their time.
MAX_HELD: Final = 256 << 20
# The same where there is no index of chunks, so that it is not known what comes later.
WINDOW: Final = 16 << 20
_MESSAGE: Final = 300
_HEAD: Final = struct.Struct("<BQ")
FOOTER_BYTES: Final = 9 + 20 + 8
_CHUNK_INDEX: Final = struct.Struct("<QQQ")
# Channel, sequence, log time, publish time.
MESSAGE_HEAD: Final = struct.Struct("<HIQQ")


class DamagedError(ValueError):
    """The file, or a part of it, is not what MCAP has there."""


class CutOffError(DamagedError):
    """The file ends in the middle of a record."""


class Record(NamedTuple):
    offset: int
    opcode: int
    content: bytes

    @property
    def end(self) -> int:
        return self.offset + _HEAD.size + len(self.content)

    def head(self) -> bytes:
        """What is before the content: kind and length."""
        return _HEAD.pack(self.opcode, len(self.content))


def size_of(stream: IO[bytes]) -> int:
    return os.fstat(stream.fileno()).st_size


def records(stream: IO[bytes], start: int = len(MCAP0_MAGIC), end: int | None = None) -> Iterator[Record]:
    """The records that begin between two places; raises DamagedError for one that is cut off, too long or none."""
    limit = size_of(stream) if end is None else end
    if start >= limit:
        return
    stream.seek(start)
    place = start
    while place < limit:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise CutOffError(f"ends in the middle of a record at {place}")
        opcode, length = _HEAD.unpack(head)
        if not opcode or length > MAX_RECORD:
            raise DamagedError(
                f"no record of MCAP at {place}" if not opcode else f"record of {length} bytes at {place}"
            )
        if length > limit - place - _HEAD.size:
            raise CutOffError(f"ends in the middle of a record at {place}")
        content = stream.read(length)
        if len(content) < length:
            raise CutOffError(f"ends in the middle of a record at {place}")
        yield Record(place, opcode, content)
        place += _HEAD.size + length


def check_magic(stream: IO[bytes]) -> None:
    stream.seek(0)
    if stream.read(len(MCAP0_MAGIC)) != MCAP0_MAGIC:
        raise DamagedError("not an MCAP file")


def parse(kind: Callable[[ReadDataStream], _T], content: bytes) -> _T:
    """A record of the package `mcap` from its content."""
    try:
        return kind(ReadDataStream(BytesIO(content)))
    except (McapError, struct.error, ValueError) as error:
        raise DamagedError(f"not a record of its kind: {error or type(error).__name__}") from None


def unpacked(chunk: Chunk) -> bytes:
    """A chunk's records; raises DamagedError where they are not what the chunk says."""
    size = chunk.uncompressed_size
    if size > MAX_RECORD:
        raise DamagedError(f"chunk of {size} bytes")
    try:
        if chunk.compression == "zstd":
            # Memory for as much as the frame says is taken at once.
            if zstandard.frame_content_size(chunk.data) > size:
                raise DamagedError("chunk larger than it says")
            data = zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=size) if size else b""
        elif chunk.compression == "lz4":
            data = LZ4FrameDecompressor().decompress(chunk.data, max_length=size)
        elif chunk.compression:
            raise DamagedError(f"chunk compressed with {chunk.compression[:20]!r}")
        else:
            data = chunk.data
    except (zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise DamagedError(f"chunk cannot be decompressed: {error}") from None
    if len(data) != size or (chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc):
        raise DamagedError("chunk is not what its size and checksum say")
    return data


def within(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The records of a chunk: offset, opcode, where its content begins and ends."""
    place, limit = 0, len(data)
    while place < limit:
        if limit - place < _HEAD.size:
            raise DamagedError("chunk ends in the middle of a record")
        opcode, length = _HEAD.unpack_from(data, place)
        begin = place + _HEAD.size
        if length > limit - begin or (opcode == Opcode.MESSAGE and length < MESSAGE_HEAD.size):
            raise DamagedError("chunk ends in the middle of a record")
        yield place, opcode, begin, begin + length
        place = begin + length


class Definitions:
    """Schemas and channels of a file, as they come."""

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self._bytes = 0

    def add(self, opcode: int, content: bytes) -> None:
        """Take in a record, when it is one of a schema or a channel; the first one of a number counts."""
        if opcode not in (Opcode.SCHEMA, Opcode.CHANNEL):
            return
        self._bytes += len(content)
        if self._bytes > MAX_DEFINITIONS:
            raise DamagedError(f"more than {MAX_DEFINITIONS} bytes of schemas and channels")
        if opcode == Opcode.SCHEMA:
            schema = parse(Schema.read, content)
            self.schemas.setdefault(schema.id, schema)
        else:
            channel = parse(Channel.read, content)
            self.channels.setdefault(channel.id, channel)

    def channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise DamagedError(f"message of a channel {number} that there is not")
        return channel

    def type_name(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id)
        return schema.name if schema is not None else ""


def footer(stream: IO[bytes]) -> Footer | None:
    """The footer of a file that is finished, else None."""
    size = size_of(stream)
    if size < len(MCAP0_MAGIC) + FOOTER_BYTES:
        return None
    stream.seek(size - FOOTER_BYTES)
    end = stream.read(FOOTER_BYTES)
    if end[-len(MCAP0_MAGIC) :] != MCAP0_MAGIC or _HEAD.unpack_from(end) != (Opcode.FOOTER, 20):
        return None
    read: Callable[[ReadDataStream], Footer] = Footer.read
    return parse(read, end[_HEAD.size :])


def chunk_places(stream: IO[bytes]) -> list[tuple[int, int]]:
    """First time and offset of each chunk in the order of time; nothing where the file does not tell."""
    found = footer(stream)
    if found is None or not found.summary_start:
        return []
    places: set[tuple[int, int]] = set()
    try:
        for record in records(stream, found.summary_start, size_of(stream) - FOOTER_BYTES):
            if record.opcode == Opcode.CHUNK_INDEX:
                start, _, offset = _CHUNK_INDEX.unpack_from(record.content)
                places.add((start, offset))
    except (DamagedError, struct.error):
        return []
    return sorted(places)


class _Held:
    """Messages that wait until it is their time."""

    def __init__(self, definitions: Definitions) -> None:
        self.bytes = 0
        self._definitions = definitions
        self._heap: list[tuple[int, int, int, bytes]] = []
        self._numbers = itertools.count()

    def push(self, content: bytes) -> None:
        """Take in the content of a message's record."""
        if len(content) < MESSAGE_HEAD.size:
            raise DamagedError("message without its head")
        number, _, stamp, _ = MESSAGE_HEAD.unpack_from(content)
        self._definitions.channel(number)
        heapq.heappush(self._heap, (stamp, next(self._numbers), number, content[MESSAGE_HEAD.size :]))
        self.bytes += len(content) + _MESSAGE

    def before(self, stamp: int) -> bool:
        return bool(self._heap) and self._heap[0][0] < stamp

    def pop(self) -> tuple[Channel, str, int, bytes]:
        stamp, _, number, data = heapq.heappop(self._heap)
        self.bytes -= len(data) + MESSAGE_HEAD.size + _MESSAGE
        channel = self._definitions.channel(number)
        return channel, self._definitions.type_name(channel), stamp, data


def messages(stream: IO[bytes]) -> Iterator[tuple[Channel, str, int, bytes]]:
    """Channel, type's name, time and data of each message, in the order of time.

    In a file whose chunks overlap by more than MAX_HELD, or that has no index of them, some come later than their time.

    Raises:
        DamagedError: after what is whole before it.
    """
    check_magic(stream)
    places = chunk_places(stream)
    definitions = Definitions()
    held = _Held(definitions)
    source = _indexed(stream, places, definitions) if places else _in_a_row(stream)
    most = MAX_HELD if places else WINDOW
    damage: DamagedError | None = None
    try:
        for earliest, record in source:
            while held.before(earliest):
                yield held.pop()
            for opcode, content in _contents(record):
                if opcode == Opcode.MESSAGE:
                    held.push(content)
                    while held.bytes > most:
                        yield held.pop()
                else:
                    definitions.add(opcode, content)
    except DamagedError as error:
        damage = error
    while held.bytes:
        yield held.pop()
    if damage is not None:
        raise damage


def _contents(record: Record) -> Iterator[tuple[int, bytes]]:
    """The records of a chunk, or the one that it is itself."""
    if record.opcode != Opcode.CHUNK:
        yield record.opcode, record.content
        return
    data = unpacked(parse(Chunk.read, record.content))
    for _, opcode, begin, end in within(data):
        yield opcode, data[begin:end]


def _in_a_row(stream: IO[bytes]) -> Iterator[tuple[int, Record]]:
    """Records up to the end of the data; nothing is known of the time of what comes."""
    for record in records(stream):
        if record.opcode == Opcode.DATA_END:
            return
        yield 0, record
    raise DamagedError("ends without its end")


def _indexed(
    stream: IO[bytes], places: list[tuple[int, int]], definitions: Definitions
) -> Iterator[tuple[int, Record]]:
    """Chunks in the order of time, behind the definitions that the summary has."""
    found = footer(stream)
    if found is not None:
        for record in records(stream, found.summary_start, size_of(stream) - FOOTER_BYTES):
            definitions.add(record.opcode, record.content)
    for start, offset in places:
        chunk = next(records(stream, offset), None)
        if chunk is None or chunk.opcode != Opcode.CHUNK:
            raise DamagedError(f"no chunk at {offset}")
        yield start, chunk
