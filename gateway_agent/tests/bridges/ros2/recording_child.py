"""A process that records until it is killed, or finishes what another left; it says on its output how far it is."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from wasmbed.bridges.ros2.interrupted import finish_interrupted
from wasmbed.bridges.ros2.recording import Recorder, RecordingLimits
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

IMAGE = "sensor_msgs/msg/Image"


def record(folder: Path, name: str, size: int, per_s: int, file_bytes: int) -> None:
    """Images that cannot be compressed, numbered by their height, on three topics."""
    codecs = CodecFactory(TypeStore.of("jazzy"))
    codec = codecs.codec(IMAGE)
    recorder = Recorder(folder, name, codecs.store, RecordingLimits(file_bytes, max_folder_bytes=1 << 40))
    chance = random.Random(size)
    print("started", flush=True)
    number = told = 0
    while True:
        data = codec.dumps(codec.cls(height=number, data=chance.randbytes(size)))
        if recorder.record(f"/image_{number % 3}", IMAGE, data, 10**18 + number):
            number += 1
        if recorder.statistics.messages != told:
            told = recorder.statistics.messages
            print(told, flush=True)
        time.sleep(1 / per_s)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
    else:
        print("started", flush=True)
        finish_interrupted(Path(sys.argv[2]))
