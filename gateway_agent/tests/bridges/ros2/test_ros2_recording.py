"""Recording and replay, read by tools of others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from mcap.reader import make_reader
from ros2_support import until
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from wasmbed.bridges.ros2 import Node, qos, recording
from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.recording import Recorder, RecordingLimits
from wasmbed.bridges.ros2.replay import read, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wasmbed.bridges.ros2.dds import DdsBackend
    from wasmbed.bridges.ros2.types import CodecFactory

IMU = "sensor_msgs/msg/Imu"
IMAGE = "sensor_msgs/msg/Image"


def imu(codecs: CodecFactory, number: int) -> bytes:
    message = codecs.cls(IMU)()
    message.header.stamp.sec = number
    return codecs.codec(IMU).dumps(message)


def test_a_recording_is_read_by_rosbags_and_mcap(tmp_path: Path, codecs: CodecFactory) -> None:
    recorder = Recorder(tmp_path, "flight", codecs.store)
    for number in range(100):
        assert recorder.record("/imu", IMU, imu(codecs, number), 10**18 + number)
    recorder.record(
        "/text",
        "std_msgs/msg/String",
        codecs.codec("std_msgs/msg/String").dumps(codecs.cls("std_msgs/msg/String")("hi")),
        10**18 + 200,
    )
    recorder.close()
    with AnyReader([tmp_path / "flight"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        assert {connection.topic: connection.msgtype for connection in bag.connections} == {
            "/imu": IMU,
            "/text": "std_msgs/msg/String",
        }
        found: list[Any] = [
            (connection.topic, stamp, bag.deserialize(data, connection.msgtype))
            for connection, stamp, data in bag.messages()
        ]
    assert len(found) == 101
    assert [item[2].header.stamp.sec for item in found[:100]] == list(range(100))
    assert found[100][2].data == "hi"
    with (tmp_path / "flight/flight_0.mcap").open("rb") as stream:
        reader = make_reader(stream)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 101
        assert {item.encoding for item in summary.schemas.values()} == {"ros2msg"}


def test_files_rotate_and_the_oldest_are_deleted(tmp_path: Path, codecs: CodecFactory) -> None:
    limits = RecordingLimits(max_file_bytes=1 << 20, max_folder_bytes=4 << 20)
    recorder = Recorder(tmp_path, "long", codecs.store, limits)
    chance = random.Random(1)
    codec = codecs.codec(IMAGE)
    for number in range(150):
        data = codec.dumps(codec.cls(height=number, data=chance.randbytes(100_000)))
        while not recorder.record("/image", IMAGE, data, 10**18 + number):
            time.sleep(0.01)
    recorder.close()
    sizes = [path.stat().st_size for path in (tmp_path / "long").glob("*.mcap")]
    assert sum(sizes) <= 4 << 20
    assert 9 * 100_000 < max(sizes) <= 1 << 20
    assert recorder.statistics.deleted_files > 0
    assert recorder.statistics.files - recorder.statistics.deleted_files == len(sizes)
    heights = [codec.loads(item.data).height for item in read(tmp_path / "long")]
    assert heights == list(range(heights[0], 150))
    with AnyReader([tmp_path / "long"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        assert bag.message_count == len(heights)


def folder_bytes(folder: Path) -> int:
    """The sizes of the files of a recording under way, which may be deleted meanwhile."""
    size = 0
    for path in folder.glob("*.mcap"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


@pytest.mark.parametrize("size", [10, 1000, 30_000, 60_000])
def test_limits_hold_at_every_moment_for_small_and_large_messages(
    tmp_path: Path, codecs: CodecFactory, size: int
) -> None:
    """Many topics, whose schemas and indexes take room too, and bytes that cannot be compressed."""
    count = max(60, 300_000 // size)
    limits = RecordingLimits(max_file_bytes=1 << 16, max_folder_bytes=4 << 16, queue_messages=count)
    recorder = Recorder(tmp_path, "tight", codecs.store, limits)
    chance = random.Random(2)
    codec = codecs.codec(IMAGE)
    for number in range(count):
        data = codec.dumps(codec.cls(height=number, data=chance.randbytes(size)))
        assert recorder.record(f"/image_{number % 17}", IMAGE, data, 10**18 + number)
        if number % 50 == 0:
            assert folder_bytes(tmp_path / "tight") <= 4 << 16
    recorder.close()
    sizes = [path.stat().st_size for path in (tmp_path / "tight").glob("*.mcap")]
    assert sum(sizes) <= 4 << 16
    assert max(sizes) <= 1 << 16
    assert (recorder.statistics.messages, recorder.statistics.dropped) == (count, 0)
    found = [codec.loads(item.data).height for item in read(tmp_path / "tight")]
    assert found == list(range(found[0], count))


def test_a_message_larger_than_a_file_is_a_file_and_one_larger_than_the_folder_is_dropped(
    tmp_path: Path, codecs: CodecFactory
) -> None:
    limits = RecordingLimits(max_file_bytes=1 << 16, max_folder_bytes=4 << 16)
    recorder = Recorder(tmp_path, "large", codecs.store, limits)
    codec = codecs.codec(IMAGE)
    chance = random.Random(3)
    for number, size in enumerate((10, 100_000, 300_000, 10, 100_000, 10)):
        recorder.record("/image", IMAGE, codec.dumps(codec.cls(height=number, data=chance.randbytes(size))), number + 1)
    recorder.close()
    assert (recorder.statistics.messages, recorder.statistics.dropped) == (5, 1)
    files = sorted(path.stat().st_size for path in (tmp_path / "large").glob("*.mcap"))
    assert len(files) == recorder.statistics.files - recorder.statistics.deleted_files
    assert sum(files) <= 4 << 16
    assert [size > 1 << 16 for size in files].count(True) >= 1
    assert [codec.loads(item.data).height for item in read(tmp_path / "large")][-2:] == [4, 5]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_counted_messages_and_recording_goes_on_when_there_is_room(
    small_disk: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder's thread ended with a traceback, without metadata and until the bridge was started again."""
    monkeypatch.setattr(recording, "RETRY_S", 0.1)
    monkeypatch.setattr(recording, "_CHUNK_BYTES", 100_000)
    (small_disk / "filler").write_bytes(bytes(500_000))
    recorder = Recorder(small_disk, "full", codecs.store)
    codec = codecs.codec(IMAGE)
    chance = random.Random(4)
    numbers = itertools.count()
    statistics = recorder.statistics

    def send() -> int:
        number = next(numbers)
        data = codec.dumps(codec.cls(height=number, data=chance.randbytes(20_000)))
        assert recorder.record("/image", IMAGE, data, 10**18 + number)
        return number

    def eventually(condition: Callable[[], bool]) -> int:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)
            number = send()
        return number

    with caplog.at_level("INFO", "wasmbed.bridges.ros2.recording"):
        eventually(lambda: statistics.dropped > 20)
        before = statistics.messages
        # It is tried again, in vain, and logged no more.
        eventually(lambda: statistics.dropped > 50)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "No space left on device" in caplog.text
        (small_disk / "filler").unlink()
        eventually(lambda: statistics.messages > before)
        recorder.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    found = [codec.loads(item.data).height for item in read(small_disk / "full")]
    assert len(found) == statistics.messages
    assert statistics.messages + statistics.dropped == next(numbers)
    assert found[:before] == list(range(before))
    information = json.loads((small_disk / "full/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["message_count"] == len(found)
    assert len(information["relative_file_paths"]) == 2
    with AnyReader([small_disk / "full"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        assert len(list(bag.messages())) == len(found)


def test_messages_are_in_the_file_within_a_second(tmp_path: Path, codecs: CodecFactory) -> None:
    recorder = Recorder(tmp_path, "soon", codecs.store)
    recorder.record("/imu", IMU, imu(codecs, 1), 1)
    deadline = time.monotonic() + 10
    while not recorder.statistics.messages:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "soon/soon_0.mcap").stat().st_size > 300
    recorder.close()


def test_files_rotate_by_time(tmp_path: Path, codecs: CodecFactory) -> None:
    recorder = Recorder(tmp_path, "timed", codecs.store, RecordingLimits(max_file_s=1.0))
    began = time.monotonic()
    number = 0
    while recorder.statistics.files < 2 and number < 3000:
        recorder.record("/imu", IMU, imu(codecs, number), number + 1)
        number += 1
        time.sleep(0.02)
    passed = time.monotonic() - began
    recorder.close()
    assert recorder.statistics.files == 2
    assert passed >= 1.0


def test_what_does_not_fit_into_the_queue_is_counted(tmp_path: Path, codecs: CodecFactory) -> None:
    recorder = Recorder(tmp_path, "busy", codecs.store, RecordingLimits(queue_messages=5))
    kept = sum(recorder.record("/imu", IMU, imu(codecs, number), number + 1) for number in range(2000))
    recorder.close()
    assert recorder.statistics.messages == kept
    assert recorder.statistics.dropped == 2000 - kept > 0
    assert not recorder.record("/imu", IMU, b"", 1)


def test_what_cannot_be_recorded_is_refused(tmp_path: Path, codecs: CodecFactory) -> None:
    Recorder(tmp_path, "once", codecs.store).close()
    with pytest.raises(ConfigurationError, match="File exists"):
        Recorder(tmp_path, "once", codecs.store)
    with pytest.raises(ConfigurationError, match="not a name"):
        Recorder(tmp_path, "../up", codecs.store)
    with pytest.raises(ConfigurationError, match="maxFileBytes"):
        RecordingLimits(max_folder_bytes=1)
    with pytest.raises(ConfigurationError, match=r"no \.mcap"):
        list(read(tmp_path))
    (tmp_path / "bad_0.mcap").write_bytes(b"\x89MCAP0\r\n" + b"\0" * 100)
    with pytest.raises(ConfigurationError, match="bad_0"):
        list(read(tmp_path))


async def test_a_topic_is_recorded_and_replayed(
    tmp_path: Path, codecs: CodecFactory, backends: Callable[..., DdsBackend]
) -> None:
    bridge, other = (Node(backends(name), codecs, name=name) for name in ("bridge", "other"))
    recorder = Recorder(tmp_path, "run", codecs.store)
    recorder.subscribe(bridge, "/imu", IMU, qos.DEFAULT)
    publisher = other.publisher("/imu", IMU)
    await until(lambda: publisher.statistics.matched)
    for number in range(20):
        publisher.raw.publish(imu(codecs, number))
        await asyncio.sleep(0.005)
    await until(lambda: recorder.statistics.messages == 20)
    await asyncio.to_thread(recorder.close)
    publisher.close()
    received: list[int] = []
    other.subscription("/imu", IMU, lambda message: received.append(message.header.stamp.sec), qos.LATCHED)
    began = time.monotonic()
    profile = qos.QosProfile(transient_local=True, depth=100)
    counts = await asyncio.to_thread(replay, tmp_path / "run", bridge, profile, rate=0.5)
    assert counts == {"/imu": 20}
    assert time.monotonic() - began > 0.15
    await until(lambda: received and received[-1] == 19)
