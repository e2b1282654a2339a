"""metadata.yaml of a recording, as rosbag2 writes it beside its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wasmbed.files import move_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NAME: Final = "metadata.yaml"


@dataclass
class RecordedFile:
    """One file of the recording and what metadata.yaml tells of it."""

    path: Path
    size: int = 0
    first_ns: int = 0
    last_ns: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, topic: str, stamp: int) -> None:
        self.first_ns = min(self.first_ns or stamp, stamp)
        self.last_ns = max(self.last_ns, stamp)
        self.counts[topic] = self.counts.get(topic, 0) + 1


def write_metadata(
    folder: Path, files: Sequence[RecordedFile], types: Mapping[str, str], qos: Mapping[str, str]
) -> None:
    """Version 5, all at once or not at all; types and offered QoS by topic. YAML is a superset of the JSON written."""
    counts: dict[str, int] = {}
    for file in files:
        for topic, count in file.counts.items():
            counts[topic] = counts.get(topic, 0) + count
    first = min((file.first_ns for file in files if file.counts), default=0)
    last = max((file.last_ns for file in files), default=0)
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
                    "type": types[topic],
                    "serialization_format": "cdr",
                    "offered_qos_profiles": qos.get(topic, ""),
                },
                "message_count": count,
            }
            for topic, count in sorted(counts.items())
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.path.name for file in files],
        "files": [
            {
                "path": file.path.name,
                "starting_time": {"nanoseconds_since_epoch": file.first_ns},
                "duration": {"nanoseconds": file.last_ns - file.first_ns},
                "message_count": sum(file.counts.values()),
            }
            for file in files
        ],
    }
    path = folder / NAME
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(
            json.dumps({"rosbag2_bagfile_information": information}, indent=1) + "\n", encoding="utf-8"
        )
        move_atomically(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def place(path: Path) -> tuple[int, str]:
    """Files are numbered, `name_10.mcap` behind `name_9.mcap`; one of somebody else may have no number."""
    number = path.stem.rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, path.name)
