"""Replay of recordings, ours and those of rosbag2 in MCAP files.

Files may be damaged or made to harm: what is held of one in memory is bounded.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.mcap_records import DamagedError, messages
from wasmbed.bridges.ros2.recorded_qos import recorded
from wasmbed.bridges.ros2.recording_metadata import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.qos import QosProfile

_LOOK_S: Final = 0.02
_QOS: Final = "offered_qos_profiles"


@dataclass(frozen=True)
class Recorded:
    """One message of a recording; qos is what rosbag2 calls the offered profiles of its topic."""

    topic: str
    type: str
    data: bytes
    stamp_ns: int
    qos: str = ""


def read(folder: Path, topics: Sequence[str] = ()) -> Iterator[Recorded]:
    """The messages of a recording or of one file, file by file, each in the order of time; raises ConfigurationError.

    With `topics`, shell patterns, only theirs.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.mcap"), key=place)
    if not files:
        raise ConfigurationError(f"recording: {folder} has no .mcap file")
    for path in files:
        try:
            with path.open("rb") as stream:
                for channel, type_name, stamp, data in messages(stream):
                    wanted = not topics or any(fnmatchcase(channel.topic, pattern) for pattern in topics)
                    if wanted and channel.message_encoding == "cdr" and type_name:
                        yield Recorded(channel.topic, type_name, data, stamp, channel.metadata.get(_QOS, ""))
        except (DamagedError, OSError) as error:
            raise ConfigurationError(f"recording: {path}: {error}") from None


def replay(
    folder: Path,
    node: Node,
    qos: QosProfile | None = None,
    *,
    rate: float = 1.0,
    topics: Sequence[str] = (),
    wait_s: float = 0.0,
    stop: threading.Event | None = None,
    tell: Callable[[float, Mapping[str, int]], None] = lambda _seconds, _counts: None,
) -> dict[str, int]:
    """Publish a recording in its own time times rate; blocks, so run it on a thread. Returns messages by topic.

    Each topic is offered with the QoS it was recorded with, or all with `qos`.
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
            rest = seconds / rate - (time.monotonic() - began)
            if stop.wait(min(max(0.0, rest), threading.TIMEOUT_MAX)):
                break
            publisher = publishers.get(item.topic)
            if publisher is None:
                profile = qos or recorded(item.qos, item.topic)
                publisher = publishers[item.topic] = node.backend.create_publisher(item.topic, item.type, profile)
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
