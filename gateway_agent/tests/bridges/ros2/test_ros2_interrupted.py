"""Recordings whose process was killed in the middle are finished by the next one."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mcap.reader import make_reader
from mcap.writer import Writer
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from wasmbed.bridges.ros2 import interrupted
from wasmbed.bridges.ros2.interrupted import finish_interrupted, unless_held
from wasmbed.bridges.ros2.recording import Recorder, RecordingLimits
from wasmbed.bridges.ros2.replay import read
from wasmbed.gateway.ros2_recording import prune

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.ros2.types import CodecFactory

IMAGE = "sensor_msgs/msg/Image"
CHILD = Path(__file__).with_name("recording_child.py")


def child(*arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def killed(process: subprocess.Popen[str]) -> int:
    """Kill a process that records; how many messages it said were flushed."""
    process.kill()
    said, _ = process.communicate()
    return max((int(line) for line in said.split()), default=0)


def wait(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finished(path: Path) -> bool:
    return path.read_bytes().endswith(b"\x89MCAP0\r\n")


def number_of(path: Path) -> int:
    """The number of a recording's file in its name."""
    return int(path.stem.rpartition("_")[2])


def numbers(path: Path, codecs: CodecFactory) -> list[int]:
    """The numbers of the messages of a file, read by its index with the ordinary reader, which checks every sum."""
    codec = codecs.codec(IMAGE)
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        found = [(channel.topic, codec.loads(message.data).height) for _, channel, message in reader.iter_messages()]
        assert summary.statistics.message_count == len(found) == sum(summary.statistics.channel_message_counts.values())
        assert all(topic == f"/image_{number % 3}" for topic, number in found)
        by_topic = [codec.loads(message.data).height for _, _, message in reader.iter_messages(topics=["/image_1"])]
        assert by_topic == [number for _, number in found if number % 3 == 1]
    return [number for _, number in found]


def leave(folder: Path, codecs: CodecFactory, count: int = 40, size: int = 2000, limit: int = 256 << 20) -> Path:
    """A recording of several chunks as a process leaves it that is killed; its last file."""
    recorder = Recorder(folder, "old", codecs.store, RecordingLimits(limit, max_folder_bytes=1 << 40))
    codec, chance = codecs.codec(IMAGE), random.Random(5)
    for number in range(count):
        data = codec.dumps(codec.cls(height=number, data=chance.randbytes(size)))
        while not recorder.record(f"/image_{number % 3}", IMAGE, data, 10**18 + number):
            time.sleep(0.01)
    recorder.close()
    path = max((folder / "old").glob("*.mcap"), key=lambda item: item.stat().st_mtime_ns)
    whole = path.read_bytes()
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    last = max(summary.chunk_indexes, key=lambda item: item.chunk_start_offset)
    path.write_bytes(whole[: last.chunk_start_offset + last.chunk_length])
    return path


@pytest.mark.parametrize(("size", "per_s"), [(100, 2000), (60_000, 100)])
def test_what_was_flushed_before_a_kill_is_read_by_ordinary_tools_after_the_next_start(
    tmp_path: Path, codecs: CodecFactory, size: int, per_s: int
) -> None:
    """The file stayed without an end for ever, and every tool refused it."""
    process = child("record", tmp_path, "old", size, per_s, 2 << 20)
    path = tmp_path / "old/old_0.mcap"
    assert process.stdout is not None
    last = 0
    while last < 300:
        last = int(process.stdout.readline())
    # Not between two files: none would be cut.
    wait(lambda: 0 < max((tmp_path / "old").glob("*.mcap"), key=number_of).stat().st_size < 1 << 20 or size == 100)
    flushed = max(last, killed(process))
    files = sorted((tmp_path / "old").glob("*.mcap"), key=number_of)
    cut = [item for item in files if not finished(item)]
    assert len(cut) == 1
    with pytest.raises(Exception, match=r".*"), cut[0].open("rb") as stream:
        list(make_reader(stream).iter_messages())
    began = time.monotonic()
    recorder = Recorder(tmp_path, "new", codecs.store)
    assert time.monotonic() - began < 5
    wait(lambda: all(finished(item) for item in files))
    recorder.close()
    found = [number for item in files for number in numbers(item, codecs)]
    assert found == list(range(len(found)))
    assert len(found) >= flushed
    assert not list((tmp_path / "old").glob("*.new"))
    with AnyReader([tmp_path / "old"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        assert [bag.deserialize(data, IMAGE).height for _, _, data in bag.messages()] == found  # type: ignore[attr-defined]
    assert (size == 100) == (files == [path])


def test_kill_at_any_moment_leaves_what_can_be_finished(tmp_path: Path, codecs: CodecFactory) -> None:
    chance = random.Random(11)
    for run in range(6):
        process = child("record", tmp_path, f"run{run}", 3000, 1000, 1 << 20)
        time.sleep(chance.uniform(0.0, 0.7))
        flushed = killed(process)
        finish_interrupted(tmp_path)
        files = sorted((tmp_path / f"run{run}").glob("*.mcap"), key=number_of)
        found = [number for item in files for number in (numbers(item, codecs) if finished(item) else [])]
        assert found == list(range(len(found)))
        assert len(found) >= flushed
        information = json.loads((tmp_path / f"run{run}/metadata.yaml").read_text())["rosbag2_bagfile_information"]
        assert information["message_count"] == len(found)


def test_a_repair_that_is_killed_loses_nothing_and_is_done_again(tmp_path: Path, codecs: CodecFactory) -> None:
    path = leave(tmp_path, codecs, count=6000, size=4000)
    cut = path.read_bytes()
    chance = random.Random(13)
    stopped = 0
    for _ in range(6):
        process = child("finish", tmp_path)
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        if not finished(path):
            stopped += 1
            assert path.read_bytes() == cut
    assert stopped
    (path.parent / f"{path.name}.new").write_bytes(b"left by a repair")
    finish_interrupted(tmp_path)
    assert numbers(path, codecs) == list(range(6000))
    assert sorted(item.name for item in path.parent.iterdir()) == ["metadata.yaml", path.name]


def test_a_recording_that_is_written_is_left_alone(tmp_path: Path, codecs: CodecFactory) -> None:
    """Two domains record into one folder."""
    recorder = Recorder(tmp_path, "now", codecs.store)
    codec = codecs.codec(IMAGE)
    recorder.record("/image_0", IMAGE, codec.dumps(codec.cls(height=0)), 1)
    wait(lambda: recorder.statistics.messages == 1)
    assert finish_interrupted(tmp_path) == 0
    assert not finished(tmp_path / "now/now_0.mcap")
    with unless_held(tmp_path / "now") as ours:
        assert not ours
    # Nor is it deleted for room.
    assert not prune(tmp_path, tmp_path / "other", 1)
    assert (tmp_path / "now/now_0.mcap").exists()
    recorder.close()
    assert prune(tmp_path, tmp_path / "other", 1)
    assert not (tmp_path / "now").exists()


def test_a_repair_ends_with_its_recorder_and_leaves_nothing_behind(tmp_path: Path, codecs: CodecFactory) -> None:
    path = leave(tmp_path, codecs, count=6000, size=4000)
    Recorder(tmp_path, "new", codecs.store).close()
    stop = threading.Event()
    stop.set()
    cut = path.read_bytes()
    if not finished(path):
        finish_interrupted(tmp_path, stop=stop)
        assert path.read_bytes() == cut
    assert sorted(item.name for item in path.parent.iterdir()) == ["metadata.yaml", path.name]


def test_a_file_without_anything_whole_stays_and_the_log_names_file_cause_and_remedy(
    tmp_path: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(tmp_path, codecs, limit=1 << 16)
    whole = path.read_bytes()
    for content, cause in (
        (whole[:200], "no message in it is whole"),
        (whole[:60] + bytes([7] * 400), "no message in it is whole"),
        (whole[:9], "does not begin as an MCAP file does"),
        (b"", "does not begin as an MCAP file does"),
    ):
        path.write_bytes(content)
        caplog.clear()
        assert finish_interrupted(tmp_path) == 0
        assert path.read_bytes() == content
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"file={path} cause=" in caplog.text
        assert cause in caplog.text
        assert "remedy=delete it" in caplog.text
    # The rest of the recording is listed, and so it is read.
    with AnyReader([tmp_path / "old"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        assert bag.message_count == len(list(bag.messages())) > 0


def test_a_file_that_has_only_begun_is_finished_empty(tmp_path: Path, codecs: CodecFactory) -> None:
    path = leave(tmp_path, codecs)
    content = path.read_bytes()
    path.write_bytes(content[: 8 + 9 + 4 + 4 + 4 + 7])
    assert finish_interrupted(tmp_path) == 1
    assert numbers(path, codecs) == []


def test_blocks_that_a_power_failure_left_unwritten_are_cut_off(tmp_path: Path, codecs: CodecFactory) -> None:
    path = leave(tmp_path, codecs)
    path.write_bytes(path.read_bytes() + bytes(100_000))
    assert finish_interrupted(tmp_path) == 1
    assert numbers(path, codecs) == list(range(40))
    assert not list(path.parent.glob("*.damaged"))


def test_of_a_damaged_file_what_is_before_the_damage_is_finished_and_the_original_kept(
    tmp_path: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(tmp_path, codecs, count=2000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert finish_interrupted(tmp_path) == 1
    found = numbers(path, codecs)
    assert found == list(range(len(found)))
    assert 500 < len(found) < 1500
    assert (path.parent / f"{path.name}.damaged").read_bytes() == data
    assert "recording damaged" in caplog.text
    assert finish_interrupted(tmp_path) == 0


def test_a_full_disk_leaves_the_file(tmp_path: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    try:
        path = leave(disk, codecs, count=300, size=4000)
        cut = path.read_bytes()
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - len(cut) // 2))
        assert finish_interrupted(disk) == 0
        assert "No space left on device" in caplog.text
        assert f"give the disk room for {len(cut)} bytes more" in caplog.text
        # So it is when the room goes while the copy is written.
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interrupted, "RESERVE_BYTES", -(1 << 40))
            assert finish_interrupted(disk) == 0
        assert os.strerror(errno.ENOSPC) in caplog.text
        assert path.read_bytes() == cut
        assert not list(path.parent.glob("*.new"))
        (disk / "filler").unlink()
        assert finish_interrupted(disk) == 1
        assert numbers(path, codecs) == list(range(300))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_room_within_the_limit_is_made_before_a_copy(
    tmp_path: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(tmp_path, codecs)
    size = path.stat().st_size
    asked: list[int] = []

    def refuse(wanted: int) -> bool:
        asked.append(wanted)
        return False

    assert finish_interrupted(tmp_path, refuse) == 0
    assert asked == [size]
    assert "above the limit of all recordings" in caplog.text
    assert not finished(path)
    # An older one goes for it; what is being finished does not.
    older = tmp_path / "an_older"
    older.mkdir()
    (older / "metadata.yaml").write_text("{}")
    (older / "a.mcap").write_bytes(bytes(size))
    limit = 2 * size + 10_000
    assert finish_interrupted(tmp_path, lambda wanted: prune(tmp_path, tmp_path / "new", limit - wanted)) == 1
    assert not older.exists()
    assert numbers(path, codecs) == list(range(40))


def test_files_of_others_are_left_alone(tmp_path: Path, codecs: CodecFactory, caplog: pytest.LogCaptureFixture) -> None:
    path = leave(tmp_path, codecs)
    elsewhere = tmp_path / "elsewhere.mcap"
    path.replace(elsewhere)
    (tmp_path / "link").mkdir()
    (tmp_path / "link/link_0.mcap").symlink_to(elsewhere)
    (tmp_path / "folder_link").symlink_to(tmp_path / "link")
    (tmp_path / "bag").mkdir()
    bag = tmp_path / "bag/bag_0.mcap"
    with bag.open("wb") as stream:
        writer = Writer(stream)
        writer.start("ros2", "libmcap 0.8.0")
        writer.register_schema(IMAGE, "ros2msg", b"uint32 height")
    before = {item: item.read_bytes() for item in (elsewhere, bag)}
    assert finish_interrupted(tmp_path) == 0
    assert {item: item.read_bytes() for item in before} == before
    assert not (tmp_path / "bag/metadata.yaml").exists()
    assert finish_interrupted(tmp_path / "none") == 0
    assert "none" in caplog.text


def test_metadata_tells_of_all_files_after_a_kill(tmp_path: Path, codecs: CodecFactory) -> None:
    """Also when the end came between the last file's and the metadata's."""
    leave(tmp_path, codecs, count=200, limit=1 << 16)
    metadata = tmp_path / "old/metadata.yaml"
    expected = json.loads(metadata.read_text())["rosbag2_bagfile_information"]
    assert finish_interrupted(tmp_path) == 1
    assert json.loads(metadata.read_text())["rosbag2_bagfile_information"] == expected
    changed = metadata.stat().st_mtime_ns
    assert finish_interrupted(tmp_path) == 0
    assert metadata.stat().st_mtime_ns == changed
    metadata.write_text(json.dumps({"rosbag2_bagfile_information": {**expected, "relative_file_paths": []}}))
    finish_interrupted(tmp_path)
    assert json.loads(metadata.read_text())["rosbag2_bagfile_information"] == expected
    metadata.unlink()
    finish_interrupted(tmp_path)
    assert json.loads(metadata.read_text())["rosbag2_bagfile_information"] == expected


def test_a_message_waits_a_second_at_most_before_it_is_flushed(tmp_path: Path, codecs: CodecFactory) -> None:
    """It waited for two when another one came shortly before its second was over."""
    recorder = Recorder(tmp_path, "soon", codecs.store)
    codec = codecs.codec(IMAGE)
    data = codec.dumps(codec.cls(height=1))
    best = 60.0
    for _ in range(3):
        time.sleep(1.1)
        known = recorder.statistics.messages
        recorder.record("/image_0", IMAGE, data, 1)
        wait(lambda known=known: recorder.statistics.messages > known)  # type: ignore[misc]
        began = time.monotonic()
        recorder.record("/image_0", IMAGE, data, 2)
        time.sleep(0.93)
        recorder.record("/image_0", IMAGE, data, 3)
        wait(lambda known=known: recorder.statistics.messages > known + 1)  # type: ignore[misc]
        best = min(best, time.monotonic() - began)
    recorder.close()
    assert best < 1.5


def test_an_altered_file_is_finished_or_left_and_never_fails_otherwise(tmp_path: Path, codecs: CodecFactory) -> None:
    path = leave(tmp_path, codecs, count=8000, size=1000)
    cut, chance = path.read_bytes(), random.Random(17)
    done = 0
    for _ in range(60):
        data = bytearray(cut)
        for _ in range(chance.randint(0, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randrange(len(data))])
        before = path.read_bytes()
        if finish_interrupted(tmp_path):
            done += 1
            found = numbers(path, codecs)
            assert found == list(range(len(found)))
            assert found == [codecs.codec(IMAGE).loads(item.data).height for item in read(path)]
        else:
            assert path.read_bytes() == before
    assert done > 10
