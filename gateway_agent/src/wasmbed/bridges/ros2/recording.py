"""Recording to MCAP files with the ROS 2 profile, and replay: a folder as rosbag2 makes it, with its metadata.yaml.

Files rotate by size and by time; of several, the oldest are deleted when the folder would exceed its limit. Messages go
through a bounded queue to a thread of the recorder, so a slow disk costs messages that are counted, never memory.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.types.render import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wasmbed.bridges.ros2.backend import Received, Subscription
    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.types import TypeStore

log = logging.getLogger(__name__)

MAX_TOPICS: Final = 1000
_CHUNK_BYTES: Final = 1 << 20
_LOOK_S: Final = 0.02
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")


@dataclass(frozen=True)
class RecordingLimits:
    """Sizes in bytes, times in seconds; max_folder_bytes counts all files of the recording."""

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
    messages: int = 0
    payload_bytes: int = 0
    dropped: int = 0
    files: int = 0
    deleted_files: int = 0


@dataclass
class _File:
    """One file of the recording and what metadata.yaml tells of it."""

    path: Path
    first_ns: int = 0
    last_ns: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, topic: str, stamp: int) -> None:
        self.first_ns = min(self.first_ns or stamp, stamp)
        self.last_ns = max(self.last_ns, stamp)
        self.counts[topic] = self.counts.get(topic, 0) + 1


class Recorder:
    """Writes messages of any topics into one folder; `close` completes the last file."""

    def __init__(self, folder: Path, name: str, store: TypeStore, limits: RecordingLimits | None = None) -> None:
        """Make `folder/name`; raises ConfigurationError when it exists or cannot be made."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"recording: {name[:80]!r} is not a name of letters, digits, _, . and -")
        self.folder = folder / name
        try:
            self.folder.mkdir(parents=True)
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
        self._files: list[_File] = []
        self._number = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"record-{name}", daemon=True)
        self._thread.start()

    def subscribe(self, node: Node, topic: str, type_name: str, qos: QosProfile) -> None:
        """Record a topic of the graph."""
        full = node.resolve(topic)
        self._qos[full] = _offered(qos)

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
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        writer: _Writer | None = None
        try:
            while (item := self._queue.get()) is not None:
                topic, type_name, data, stamp = item
                with self._lock:
                    self._queued -= 1
                    self._queued_bytes -= len(data)
                if writer is not None and writer.full(self._limits):
                    writer.finish()
                    writer = None
                    self._write_metadata()
                if writer is None:
                    writer = self._next_file()
                writer.add(topic, type_name, data, stamp, self._qos.get(topic, ""))
                self.statistics.messages += 1
                self.statistics.payload_bytes += len(data)
        except OSError as error:
            log.error("recording ends folder=%s error=%s", self.folder, error)
            with self._lock:
                self._closed = True
        finally:
            if writer is not None:
                writer.finish()
            self._write_metadata()

    def _next_file(self) -> _Writer:
        """Begin a file, deleting the oldest ones that leave no room for it."""
        total = sum(file.path.stat().st_size for file in self._files)
        while self._files and total + self._limits.max_file_bytes > self._limits.max_folder_bytes:
            oldest = self._files.pop(0)
            total -= oldest.path.stat().st_size
            oldest.path.unlink()
            self.statistics.deleted_files += 1
        file = _File(self.folder / f"{self._name}_{self._number}.mcap")
        self._number += 1
        self._files.append(file)
        self.statistics.files += 1
        return _Writer(file, self._store)

    def _write_metadata(self) -> None:
        """metadata.yaml of rosbag2, version 5; YAML is a superset of the JSON written."""
        counts: dict[str, int] = {}
        for file in self._files:
            for topic, count in file.counts.items():
                counts[topic] = counts.get(topic, 0) + count
        first = min((file.first_ns for file in self._files if file.first_ns), default=0)
        last = max((file.last_ns for file in self._files), default=0)
        information = {
            "version": 5,
            "storage_identifier": "mcap",
            "duration": {"nanoseconds": max(0, last - first)},
            "starting_time": {"nanoseconds_since_epoch": first},
            "message_count": sum(counts.values()),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": topic,
                        "type": self._types[topic],
                        "serialization_format": "cdr",
                        "offered_qos_profiles": self._qos.get(topic, ""),
                    },
                    "message_count": count,
                }
                for topic, count in sorted(counts.items())
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [file.path.name for file in self._files],
            "files": [
                {
                    "path": file.path.name,
                    "starting_time": {"nanoseconds_since_epoch": file.first_ns},
                    "duration": {"nanoseconds": file.last_ns - file.first_ns},
                    "message_count": sum(file.counts.values()),
                }
                for file in self._files
            ],
        }
        path = self.folder / "metadata.yaml"
        temporary = path.with_suffix(".new")
        temporary.write_text(
            json.dumps({"rosbag2_bagfile_information": information}, indent=1) + "\n", encoding="utf-8"
        )
        temporary.replace(path)


class _Writer:
    """One MCAP file being written."""

    def __init__(self, file: _File, store: TypeStore) -> None:
        self._file, self._store = file, store
        self._stream = file.path.open("wb")
        self._writer = Writer(self._stream, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="wasmbed")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._opened = time.monotonic()
        self._since = 0

    def full(self, limits: RecordingLimits) -> bool:
        # What is in the open chunk is not in the stream's position yet.
        size = self._stream.tell() + self._since
        return size >= limits.max_file_bytes or time.monotonic() - self._opened >= limits.max_file_s

    def add(self, topic: str, type_name: str, data: bytes, stamp: int, qos: str) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            if type_name not in self._schemas:
                text = schema(self._store, type_name).encode()
                self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
            channel = self._channels[topic] = self._writer.register_channel(
                topic, "cdr", self._schemas[type_name], {"offered_qos_profiles": qos}
            )
        before = self._stream.tell()
        self._writer.add_message(channel, stamp, data, stamp)
        self._since = self._since + len(data) if self._stream.tell() == before else 0
        self._file.add(topic, stamp)

    def finish(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._stream.close()


def _offered(qos: QosProfile) -> str:
    """A profile as rosbag2 writes it: a YAML list in a string."""
    return (
        f"- history: {'keep_all' if qos.keep_all else 'keep_last'}\n  depth: {qos.depth}\n"
        f"  reliability: {'reliable' if qos.reliable else 'best_effort'}\n"
        f"  durability: {'transient_local' if qos.transient_local else 'volatile'}\n"
    )


@dataclass(frozen=True)
class Recorded:
    """One message of a recording."""

    topic: str
    type: str
    data: bytes
    stamp_ns: int


def read(folder: Path, topics: Sequence[str] = ()) -> Iterator[Recorded]:
    """The messages of a recording or of one file, file by file, each in the order of time; raises ConfigurationError.

    With `topics`, shell patterns, only theirs.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.mcap"), key=_place)
    if not files:
        raise ConfigurationError(f"recording: {folder} has no .mcap file")
    for path in files:
        try:
            with path.open("rb") as stream:
                for found, channel, message in make_reader(stream).iter_messages():
                    wanted = not topics or any(fnmatchcase(channel.topic, pattern) for pattern in topics)
                    if wanted and channel.message_encoding == "cdr" and found is not None:
                        yield Recorded(channel.topic, found.name, message.data, message.log_time)
        except (McapError, OSError, ValueError) as error:
            raise ConfigurationError(f"recording: {path}: {error}") from None


def _place(path: Path) -> tuple[int, str]:
    """Files are numbered, `name_10.mcap` behind `name_9.mcap`; one of somebody else may have no number."""
    number = path.stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, path.name)


def replay(
    folder: Path,
    node: Node,
    qos: QosProfile,
    *,
    rate: float = 1.0,
    topics: Sequence[str] = (),
    wait_s: float = 0.0,
    stop: threading.Event | None = None,
    tell: Callable[[float, Mapping[str, int]], None] = lambda _seconds, _counts: None,
) -> dict[str, int]:
    """Publish a recording in its own time times rate; blocks, so run it on a thread. Returns messages by topic.

    `topics` are shell patterns of those to publish, all without one. The first message of a topic waits `wait_s`
    seconds for a subscriber. `tell` gets the seconds of the recording that are over and messages by topic.

    Raises:
        ConfigurationError: the folder, or a topic whose type is not known.
    """
    stop = stop or threading.Event()
    publishers: dict[str, Any] = {}
    counts: dict[str, int] = {}
    began = time.monotonic()
    first: int | None = None
    try:
        for item in read(folder, topics):
            first = item.stamp_ns if first is None else first
            seconds = (item.stamp_ns - first) / 1e9
            if stop.wait(max(0.0, seconds / rate - (time.monotonic() - began))):
                break
            publisher = publishers.get(item.topic)
            if publisher is None:
                publisher = publishers[item.topic] = node.backend.create_publisher(item.topic, item.type, qos)
                opened = time.monotonic()
                while not publisher.statistics.matched and time.monotonic() - opened < wait_s:
                    if stop.wait(_LOOK_S):
                        break
                began += time.monotonic() - opened
            publisher.publish(item.data)
            counts[item.topic] = counts.get(item.topic, 0) + 1
            tell(seconds, counts)
    finally:
        for publisher in publishers.values():
            publisher.close()
    return counts
