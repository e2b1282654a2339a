"""Finishing recordings of ours whose recorder was killed, or lost its power, in the middle of a file.

Such a file has no summary and no end, so ordinary tools refuse it. What is whole in it is copied to a new file, which
takes its place when it is on the disk: at every moment one of the two is there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Chunk, ChunkIndex, DataEnd, Footer, Header, MessageIndex, Statistics, SummaryOffset
from mcap.writer import MCAP0_MAGIC

from wasmbed.bridges.ros2.mcap_records import (
    FOOTER_BYTES,
    MESSAGE_HEAD,
    CutOffError,
    DamagedError,
    Definitions,
    Record,
    check_magic,
    footer,
    parse,
    records,
    size_of,
    unpacked,
    within,
)
from wasmbed.bridges.ros2.recording_metadata import NAME, RecordedFile, place, write_metadata
from wasmbed.files import move_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

LIBRARY: Final = "wasmbed"
# Of the disk, beside a file's copy.
RESERVE_BYTES: Final = 1 << 20
_MAX_METADATA: Final = 16 << 20
_BLOCK: Final = 1 << 20
# A copy goes to the disk in pieces, so that neither a recorder's own writes nor the end of the process wait for long.
_PIECE: Final = 4 << 20
# More than a recorder writes into a chunk of 1 MiB, so that a file that is not what it seems takes little memory.
_MAX_MESSAGES: Final = 1 << 17
_START_AGAIN: Final = "it is tried again when a recording starts here"


class _LeftError(Exception):
    """The file stays as it is: why, and what helps."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


class _StoppedError(Exception):
    """There is no more time for it now."""


def hold(folder: Path) -> int:
    """Tell others that a recording is being written, until the descriptor is closed or the process ends.

    Where there are no locks it is -1.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


@contextlib.contextmanager
def unless_held(folder: Path) -> Iterator[bool]:
    """Hold a recording within the context; False when somebody does already, or nobody can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except OSError:
            ours = False
        yield ours
    finally:
        os.close(descriptor)


def finish_interrupted(
    folder: Path,
    make_room: Callable[[int], bool] = lambda _: True,
    stop: threading.Event | None = None,
) -> int:
    """Finish the files of all recordings in a folder that nobody is writing; the newest first. Returns how many.

    `make_room` is asked for so many bytes before a file is copied. Half of the time goes to others. What cannot be
    finished stays as it is, and the log says why.
    """
    stop = stop or threading.Event()
    count = 0
    try:
        recordings = sorted(folder.iterdir(), reverse=True)
    except OSError as error:
        log.warning("recordings of earlier runs not looked at folder=%s error=%s", folder, error)
        return 0
    for path in recordings:
        with unless_held(path) as ours:
            if ours:
                try:
                    count += _finish_recording(path, make_room, stop)
                except _StoppedError:
                    return count
                except OSError as error:
                    log.warning("recording of an earlier run not looked at folder=%s error=%s", path, error)
    return count


def _finish_recording(folder: Path, make_room: Callable[[int], bool], stop: threading.Event) -> int:
    count = 0
    complete: list[Path] = []
    mine = False
    for path in sorted(folder.glob("*.mcap"), key=place):
        if path.is_symlink() or not path.is_file():
            continue
        finished, known = _look(path)
        mine = mine or known
        if known:
            # Of a repair that ended in the middle itself.
            _copy_of(path).unlink(missing_ok=True)
        if finished:
            complete.append(path)
        elif known or path.stem.startswith(f"{folder.name}_"):
            try:
                _finish(path, make_room, stop)
            except _LeftError as error:
                log.warning("recording left unfinished file=%s cause=%s remedy=%s", path, error, error.remedy)
                continue
            complete.append(path)
            count += 1
    if mine and (count or _stale(folder, complete)):
        _describe(folder, complete, stop)
    return count


def _copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _look(path: Path) -> tuple[bool, bool]:
    """Whether a file is finished, and whether it is ours."""
    with path.open("rb") as stream:
        try:
            finished = footer(stream) is not None
            _header(stream)
        except _LeftError:
            return finished, False
        except DamagedError:
            return False, False
    return finished, True


def _header(stream: IO[bytes]) -> Record:
    """The header of a file of ours."""
    try:
        check_magic(stream)
        record = next(records(stream), None)
        header = parse(Header.read, record.content) if record and record.opcode == Opcode.HEADER else None
    except DamagedError:
        record = header = None
    if record is None or header is None:
        raise _LeftError("it does not begin as an MCAP file does", "delete it when it is not needed")
    if header.library != LIBRARY:
        raise _LeftError(f"it is one of {header.library[:40]!r}", "leave it to that program")
    return record


def _finish(path: Path, make_room: Callable[[int], bool], stop: threading.Event) -> None:
    new = _copy_of(path)
    try:
        with path.open("rb") as source:
            header = _header(source)
            size = size_of(source)
            if not make_room(size):
                raise _LeftError(
                    f"a copy of {size} bytes is above the limit of all recordings",
                    f"delete recordings or raise the limit; {_START_AGAIN}",
                )
            free = os.statvfs(path.parent)
            if free.f_bavail * free.f_frsize < size + RESERVE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with new.open("wb") as target:
                copy = _Copy(target, header)
                rest = copy.chunks_of(source, size, stop)
                copy.end()
        if rest:
            # Not cut off but damaged: the original may be worth more to somebody.
            aside = path.with_name(f"{path.name}.damaged")
            aside.unlink(missing_ok=True)
            os.link(path, aside)
            log.warning("recording damaged file=%s at=%d cause=%s original=%s", path, copy.source_end, rest, aside.name)
        move_atomically(new, path)
    except OSError as error:
        raise _LeftError(
            error.strerror or str(error), f"give the disk room for {path.stat().st_size} bytes more; {_START_AGAIN}"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    log.info(
        "recording of an earlier run finished file=%s messages=%d bytes_cut=%d",
        *(path, sum(copy.contents.counts.values()), size - copy.source_end),
    )


@dataclass
class _Contents:
    """What is in a file: definitions, messages by channel, first and last time."""

    definitions: Definitions = field(default_factory=Definitions)
    counts: dict[int, int] = field(default_factory=dict)
    first: int = 0
    last: int = 0

    def take(self, data: bytes) -> dict[int, list[tuple[int, int]]]:
        """Take in a chunk's records; by channel time and offset of its messages. Raises DamagedError."""
        entries: dict[int, list[tuple[int, int]]] = {}
        for count, (offset, opcode, begin, end) in enumerate(within(data)):
            if count > _MAX_MESSAGES:
                raise DamagedError(f"chunk of more than {_MAX_MESSAGES} messages")
            if opcode == Opcode.MESSAGE:
                number, _, stamp, _ = MESSAGE_HEAD.unpack_from(data, begin)
                if number not in entries:
                    self.definitions.channel(number)
                    entries[number] = []
                entries[number].append((stamp, offset))
            else:
                self.definitions.add(opcode, data[begin:end])
        for number, found in entries.items():
            self.first = min(min(found)[0], self.first) if self.counts else min(found)[0]
            self.last = max(max(found)[0], self.last)
            self.counts[number] = self.counts.get(number, 0) + len(found)
        return entries

    def file(self, path: Path) -> RecordedFile:
        counts: dict[str, int] = {}
        for number, count in self.counts.items():
            topic = self.definitions.channel(number).topic
            counts[topic] = counts.get(topic, 0) + count
        return RecordedFile(path, path.stat().st_size, self.first, self.last, counts)


class _Copy:
    """A file that gets chunks as they are, and what a reader needs behind them."""

    def __init__(self, target: IO[bytes], header: Record) -> None:
        self.contents = _Contents()
        self.source_end = 0
        self._target, self._place, self._synced = target, 0, 0
        self._indexes: list[ChunkIndex] = []
        self._write(MCAP0_MAGIC)
        self._record(header)

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._place += len(data)

    def _record(self, record: Record) -> None:
        self._write(record.head())
        self._write(record.content)

    def chunks_of(self, source: IO[bytes], size: int, stop: threading.Event) -> str:
        """Copy the whole chunks of a file up to where it is cut off; what is wrong there when it goes on behind it."""
        damage = ""
        try:
            for record in records(source):
                began = time.monotonic()
                if record.opcode == Opcode.DATA_END:
                    return ""
                if record.opcode == Opcode.CHUNK:
                    self._chunk(record)
                elif record.opcode not in (Opcode.HEADER, Opcode.MESSAGE_INDEX):
                    raise DamagedError(f"record of the kind {record.opcode} at {record.offset}")
                self.source_end = record.end
                self._sync_piece()
                if stop.wait(time.monotonic() - began):
                    raise _StoppedError
        except CutOffError:
            pass
        except DamagedError as error:
            if not _blank(source, self.source_end):
                damage = str(error)
        if not self._indexes and (damage or self.source_end < size):
            raise _LeftError(
                f"no message in it is whole{f': {damage}' if damage else ''}", "delete it when it is not needed"
            )
        return damage

    def _sync_piece(self) -> None:
        if self._place - self._synced >= _PIECE:
            self.sync()

    def sync(self) -> None:
        self._target.flush()
        os.fsync(self._target.fileno())
        self._synced = self._place

    def _chunk(self, record: Record) -> None:
        chunk = parse(Chunk.read, record.content)
        entries = self.contents.take(unpacked(chunk))
        start = self._place
        self._record(record)
        length, offsets = self._place - start, {}
        behind = self._place
        for number, found in entries.items():
            offsets[number] = self._place
            self._built(MessageIndex(number, found))
        self._indexes.append(
            ChunkIndex(
                message_start_time=chunk.message_start_time,
                message_end_time=chunk.message_end_time,
                chunk_start_offset=start,
                chunk_length=length,
                message_index_offsets=offsets,
                message_index_length=self._place - behind,
                compression=chunk.compression,
                compressed_size=len(chunk.data),
                uncompressed_size=chunk.uncompressed_size,
            )
        )

    def _built(self, *items: Any) -> int:
        builder = RecordBuilder()
        for item in items:
            item.write(builder)
        data: bytes = builder.end()  # type: ignore[no-untyped-call]
        self._write(data)
        return len(data)

    def end(self) -> None:
        """Write the summary and the end."""
        self._built(DataEnd(0))
        summary = self._place
        contents, definitions = self.contents, self.contents.definitions
        statistics = Statistics(
            attachment_count=0,
            channel_count=len(definitions.channels),
            channel_message_counts=contents.counts,
            chunk_count=len(self._indexes),
            message_count=sum(contents.counts.values()),
            message_end_time=contents.last,
            message_start_time=contents.first,
            metadata_count=0,
            schema_count=len(definitions.schemas),
        )
        groups: list[tuple[Opcode, list[Any]]] = [
            (Opcode.SCHEMA, list(definitions.schemas.values())),
            (Opcode.CHANNEL, list(definitions.channels.values())),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, list(self._indexes)),
        ]
        places = []
        for opcode, items in groups:
            start = self._place
            if items:
                places.append(SummaryOffset(opcode, start, self._built(*items)))
        offsets = self._place
        self._built(*places)
        # A checksum of 0 says that there is none.
        self._built(Footer(summary, offsets, 0))
        self._write(MCAP0_MAGIC)


def _blank(stream: IO[bytes], start: int) -> bool:
    """Whether there are only zeros behind a place: blocks that a power failure left unwritten."""
    stream.seek(start)
    while block := stream.read(_BLOCK):
        if block.count(0) < len(block):
            return False
    return True


def _stale(folder: Path, complete: list[Path]) -> bool:
    """Whether metadata.yaml is missing, or one of ours that has other files."""
    try:
        with (folder / NAME).open("rb") as stream:
            text = stream.read(_MAX_METADATA)
        listed = json.loads(text)["rosbag2_bagfile_information"]["relative_file_paths"]
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(listed != [path.name for path in complete])


def _describe(folder: Path, complete: list[Path], stop: threading.Event) -> None:
    """Write metadata.yaml from the files themselves."""
    files: list[RecordedFile] = []
    types: dict[str, str] = {}
    qos: dict[str, str] = {}
    for path in complete:
        try:
            with path.open("rb") as stream:
                contents = _summary(stream) or _scanned(stream, stop)
            files.append(contents.file(path))
        except DamagedError as error:
            log.warning("recording not listed in %s file=%s cause=%s remedy=delete it", NAME, path, error)
            continue
        for channel in contents.definitions.channels.values():
            types.setdefault(channel.topic, contents.definitions.type_name(channel))
            qos.setdefault(channel.topic, channel.metadata.get("offered_qos_profiles", ""))
    write_metadata(folder, files, types, qos)


def _summary(stream: IO[bytes]) -> _Contents | None:
    """What the summary tells of a file, when it has one."""
    found = footer(stream)
    if found is None or not found.summary_start:
        return None
    contents, statistics = _Contents(), None
    for record in records(stream, found.summary_start, size_of(stream) - FOOTER_BYTES):
        contents.definitions.add(record.opcode, record.content)
        if record.opcode == Opcode.STATISTICS:
            statistics = parse(Statistics.read, record.content)
    if statistics is None:
        return None
    contents.counts = {number: count for number, count in statistics.channel_message_counts.items() if count}
    contents.first, contents.last = statistics.message_start_time, statistics.message_end_time
    return contents


def _scanned(stream: IO[bytes], stop: threading.Event) -> _Contents:
    """What is in a file without a summary, such as one that a full disk ended."""
    contents = _Contents()
    for record in records(stream):
        began = time.monotonic()
        if record.opcode == Opcode.DATA_END:
            break
        if record.opcode == Opcode.CHUNK:
            contents.take(unpacked(parse(Chunk.read, record.content)))
        if stop.wait(time.monotonic() - began):
            raise _StoppedError
    return contents
