"""Recording to MCAP files with the ROS 2 profile: a folder as rosbag2 makes it, with its metadata.yaml.

Files rotate by size and by time; of several, the oldest are deleted when the folder would exceed its limit. Messages go
through a bounded queue to a thread of the recorder, so a slow disk costs messages that are counted, never memory; a
full one costs them until there is room again. What is written is on the disk within a second or so, whatever happens
to the process or its power; the next recorder in the folder finishes the files that such an end has left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

from mcap.data_stream import RecordBuilder
from mcap.records import DataEnd, Footer
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer

from wasmbed.bridges.ros2.errors import ConfigurationError, Ros2Error
from wasmbed.bridges.ros2.interrupted import LIBRARY, finish_interrupted, hold
from wasmbed.bridges.ros2.recorded_qos import offered
from wasmbed.bridges.ros2.recording_metadata import RecordedFile, write_metadata
from wasmbed.bridges.ros2.types.render import schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.bridges.ros2.backend import Received, Subscription
    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.types import TypeStore

log = logging.getLogger(__name__)

MAX_TOPICS: Final = 1000
_CHUNK_BYTES: Final = 1 << 20
# So old is a message at most before it is in the file, and the file on the disk.
_FLUSH_S: Final = 1.0
# After a disk was full, or failed otherwise.
RETRY_S: Final = 30.0
# Bytes of a record besides its contents: of a message, and at most of a schema or channel.
_MESSAGE: Final = 31
_DEFINITION: Final = 96
_FINISHER_S: Final = 5.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")


@dataclass(frozen=True)
class RecordingLimits:
    """Sizes in bytes, times in seconds; max_folder_bytes counts the .mcap files of the recording.

    No file is larger than max_file_bytes, unless it is that of a single message that is; and max_folder_bytes is kept
    with it, or it is dropped. metadata.yaml comes on top.
    """

    max_file_bytes: int = 256 << 20
    max_file_s: float = 3600.0
    max_folder_bytes: int = 4 << 30
    queue_messages: int = 10_000
    queue_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.max_file_bytes < 1 << 16 or self.max_folder_bytes < 2 * self.max_file_bytes or self.max_file_s < 1:
            raise ConfigurationError(
                "recording: maxFileBytes must be 65536 at least, maxFileSeconds 1, maxFolderBytes twice maxFileBytes"
            )


@dataclass
class RecordingStatistics:
    """Messages and their bytes count when they are in a file, within a second."""

    messages: int = 0
    payload_bytes: int = 0
    dropped: int = 0
    files: int = 0
    deleted_files: int = 0


class Recorder:
    """Writes messages of any topics into one folder; `close` completes the last file."""

    def __init__(
        self,
        folder: Path,
        name: str,
        store: TypeStore,
        limits: RecordingLimits | None = None,
        make_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Make `folder/name`; raises ConfigurationError when it exists or cannot be made.

        On a thread, recordings in `folder` that were interrupted are finished (see `finish_interrupted`); `make_room`
        is asked for as many bytes before one is copied.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"recording: {name[:80]!r} is not a name of letters, digits, _, . and -")
        self.folder = folder / name
        try:
            self.folder.mkdir(parents=True)
            self._held = hold(self.folder)
        except OSError as error:
            raise ConfigurationError(f"recording: {self.folder}: {error.strerror}") from None
        self.statistics = RecordingStatistics()
        self._name, self._store = name, store
        self._limits = limits or RecordingLimits()
        self._queue: queue.SimpleQueue[tuple[str, str, bytes, int] | None] = queue.SimpleQueue()
        self._queued = self._queued_bytes = 0
        self._lock = threading.Lock()
        self._types: dict[str, str] = {}
        self._qos: dict[str, str] = {}
        self._subscriptions: list[Subscription] = []
        self._files: list[RecordedFile] = []
        self._number = 0
        self._writer: _Writer | None = None
        self._failing = False
        self._retry_at = 0.0
        self._closed = False
        with contextlib.suppress(OSError):
            # What it is if the end comes before the first file's.
            self._write_metadata()
        self._thread = threading.Thread(target=self._run, name=f"record-{name}", daemon=True)
        self._thread.start()
        self._ended = threading.Event()
        self._finisher = threading.Thread(
            target=finish_interrupted, args=(folder, make_room, self._ended), name=f"finish-{name}", daemon=True
        )
        self._finisher.start()

    def subscribe(self, node: Node, topic: str, type_name: str, qos: QosProfile) -> None:
        """Record a topic of the graph."""
        full = node.resolve(topic)
        self._qos[full] = offered(qos)

        def received(data: bytes, info: Received) -> None:
            self.record(full, type_name, data, info.source_timestamp or time.time_ns())

        self._subscriptions.append(node.backend.create_subscription(full, type_name, qos, received))

    def record(self, topic: str, type_name: str, data: bytes, stamp_ns: int) -> bool:
        """Queue a serialized message, on any thread; False when it was dropped and counted."""
        with self._lock:
            known = self._types.get(topic)
            refused = (
                self._closed
                or self._queued >= self._limits.queue_messages
                or self._queued_bytes + len(data) > self._limits.queue_bytes
                or (known is None and len(self._types) >= MAX_TOPICS)
                or (known is not None and known != type_name)
            )
            if refused:
                self.statistics.dropped += 1
                return False
            self._types[topic] = type_name
            self._queued += 1
            self._queued_bytes += len(data)
        self._queue.put((topic, type_name, data, stamp_ns))
        return True

    def close(self) -> None:
        """Stop recording and complete the files."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        self._ended.set()
        self._queue.put(None)
        self._thread.join()
        # It may wait for the disk; what it does may end at any moment.
        self._finisher.join(_FINISHER_S)
        if self._held >= 0:
            os.close(self._held)

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._writer.rest_s() if self._writer is not None else _FLUSH_S)
            except queue.Empty:
                self._guarded(self._settle)
                continue
            if item is None:
                break
            with self._lock:
                self._queued -= 1
                self._queued_bytes -= len(item[2])
            self._guarded(self._write, *item)
        self._guarded(self._finish)

    def _guarded(self, action: Callable[..., None], *args: str | bytes | int) -> None:
        """Do something with a file; when the disk is full or fails, go on with a new file after a while."""
        try:
            action(*args)
        except Ros2Error as error:
            log.debug("not recorded folder=%s error=%s", self.folder, error)
        except OSError as error:
            self._failed(error)

    def _write(self, topic: str, type_name: str, data: bytes, stamp: int) -> None:
        message = (topic, type_name, data, self._qos.get(topic, ""))
        writer = None
        try:
            writer = self._writer_for(message) if time.monotonic() >= self._retry_at else None
        finally:
            if writer is None:
                self._count(dropped=1)
        if writer is not None:
            writer.add(*message, stamp)
            if not writer.rest_s():
                self._settle()
            elif writer.full():
                self._flush()

    def _writer_for(self, message: tuple[str, str, bytes, str]) -> _Writer | None:
        """The file with room for a message, a new one where there is none; None when the folder's limit leaves none."""
        writer, most = self._writer, self._limits.max_file_bytes
        if writer is not None:
            if writer.size_with(*message) <= most and not writer.old(self._limits):
                return writer
            self._finish()
        writer = self._next_file()
        return writer if self._make_room(max(most, writer.size_with(*message))) else None

    def _flush(self) -> None:
        if self._writer is not None and (count := self._writer.waiting):
            size = self._writer.flush()
            self._count(count, size)
            if self._failing:
                self._failing = False
                log.info("recording goes on folder=%s file=%s", self.folder, self._files[-1].path.name)

    def _settle(self) -> None:
        """Have all that was written on the disk."""
        self._flush()
        if self._writer is not None:
            self._writer.sync()

    def _finish(self) -> None:
        self._settle()
        writer = self._writer
        if writer is not None:
            writer.finish()
            self._writer = None
            self._drop_empty()
        self._write_metadata()

    def _failed(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._count(dropped=writer.waiting)
            writer.abandon()
            self._drop_empty()
        with contextlib.suppress(OSError):
            self._write_metadata()
        self._retry_at = time.monotonic() + RETRY_S
        if not self._failing:
            self._failing = True
            log.error("nothing is recorded until it can be folder=%s again_s=%g error=%s", self.folder, RETRY_S, error)

    def _count(self, messages: int = 0, payload_bytes: int = 0, dropped: int = 0) -> None:
        with self._lock:
            self.statistics.messages += messages
            self.statistics.payload_bytes += payload_bytes
            self.statistics.dropped += dropped

    def _make_room(self, size: int) -> bool:
        """Delete the oldest files until one more of a size is within the folder's limit; False when it never is."""
        while size + sum(file.size for file in self._files[:-1]) > self._limits.max_folder_bytes:
            if len(self._files) < 2:
                return False
            self._files.pop(0).path.unlink(missing_ok=True)
            self.statistics.deleted_files += 1
        return True

    def _drop_empty(self) -> None:
        """Forget the last file when no message came to be in it."""
        if not self._files[-1].counts:
            with contextlib.suppress(OSError):
                self._files.pop().path.unlink()
            self.statistics.files -= 1

    def _next_file(self) -> _Writer:
        file = RecordedFile(self.folder / f"{self._name}_{self._number}.mcap")
        self._writer = _Writer(file, self._store)
        self._number += 1
        self._files.append(file)
        self.statistics.files += 1
        return self._writer

    def _write_metadata(self) -> None:
        write_metadata(self.folder, self._files, self._types, self._qos)


class _Stream:
    """A file without a buffer, so that nothing of a write that failed is tried again."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("wb", buffering=0)
        self._position = 0

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            written = self._raw.write(left)
            self._position += written
            left = left[written:]
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def sync(self) -> None:
        os.fdatasync(self._raw.fileno())

    def cut(self, size: int) -> None:
        self._raw.truncate(size)
        self._position = self._raw.seek(size)

    def close(self) -> None:
        self._raw.close()


class _Writer:
    """One MCAP file being written; every method raises OSError, and what was written before stays."""

    def __init__(self, file: RecordedFile, store: TypeStore) -> None:
        self._file, self._store = file, store
        self._stream = _Stream(file.path)
        # Chunks end where `flush` says, so that it is known what is in the file.
        self._writer = Writer(cast("IO[bytes]", self._stream), chunk_size=1 << 62, compression=CompressionType.ZSTD)
        try:
            self._writer.start(profile="ros2", library=LIBRARY)
        except OSError:
            self._stream.close()
            raise
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._opened = self._synced = time.monotonic()
        self._dirty = False
        self._whole = self._stream.tell()
        # Of the open chunk: its messages by topic and time, their bytes, and with it all that goes with them.
        self._open: list[tuple[str, int]] = []
        self._open_bytes = self._payload_bytes = 0
        # Of the file: schemas and channels, which the summary repeats, and chunks.
        self._defined_bytes = self._chunks = 0

    @property
    def waiting(self) -> int:
        """Messages of the open chunk."""
        return len(self._open)

    def old(self, limits: RecordingLimits) -> bool:
        return time.monotonic() - self._opened >= limits.max_file_s

    def full(self) -> bool:
        """Whether the open chunk is to be written for its size."""
        return self._open_bytes >= _CHUNK_BYTES

    def rest_s(self) -> float:
        """How long from now until all is to be on the disk."""
        if not (self._open or self._dirty):
            return _FLUSH_S
        return max(0.0, self._synced + _FLUSH_S - time.monotonic())

    def size_with(self, topic: str, type_name: str, data: bytes, qos: str) -> int:
        """At most so large is the file when it is finished after one more message."""
        new = 0
        if topic not in self._channels:
            new = _DEFINITION + len(topic.encode()) + len(qos)
            if type_name not in self._schemas:
                new += _DEFINITION + len(type_name) + len(schema(self._store, type_name).encode())
        channels = len(self._channels) + 1
        chunk = self._open_bytes + new + _MESSAGE + len(data)
        # Bound of zstd for a chunk that cannot be compressed, and an index of every message.
        chunk += chunk // 256 + 1024 + 16 * (len(self._open) + 1) + 16 * channels
        summary = 1024 + self._defined_bytes + new + 10 * channels + (self._chunks + 1) * (128 + 10 * channels)
        return self._whole + chunk + summary

    def add(self, topic: str, type_name: str, data: bytes, qos: str, stamp: int) -> None:
        """Add a message to the open chunk."""
        channel = self._channels.get(topic)
        if channel is None:
            if type_name not in self._schemas:
                text = schema(self._store, type_name).encode()
                self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
                self._define(len(type_name) + len(text))
            channel = self._channels[topic] = self._writer.register_channel(
                topic, "cdr", self._schemas[type_name], {"offered_qos_profiles": qos}
            )
            self._define(len(topic.encode()) + len(qos))
        self._writer.add_message(channel, stamp, data, stamp)
        self._open.append((topic, stamp))
        self._open_bytes += _MESSAGE + len(data)
        self._payload_bytes += len(data)

    def _define(self, size: int) -> None:
        self._defined_bytes += _DEFINITION + size
        self._open_bytes += _DEFINITION + size

    def flush(self) -> int:
        """Write the open chunk; the bytes of its messages."""
        self._dirty = True
        self._writer.flush()  # type: ignore[no-untyped-call]
        self._whole = self._stream.tell()
        self._chunks += 1
        for topic, stamp in self._open:
            self._file.add(topic, stamp)
        size = self._payload_bytes
        self._open = []
        self._open_bytes = self._payload_bytes = 0
        return size

    def sync(self) -> None:
        """Have what was written on the disk."""
        if self._dirty:
            self._stream.sync()
            self._dirty = False
        self._synced = time.monotonic()

    def finish(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.size = self._stream.tell()
        self._stream.close()

    def abandon(self) -> None:
        """End the file behind its last whole chunk, without a summary: those few bytes fit into its last block."""
        end = RecordBuilder()
        DataEnd(0).write(end)
        Footer(0, 0, 0).write(end)
        with contextlib.suppress(OSError):
            self._stream.cut(self._whole)
            self._stream.write(end.end() + MCAP0_MAGIC)  # type: ignore[no-untyped-call]
        self._file.size = self._stream.tell()
        with contextlib.suppress(OSError):
            self._stream.close()
