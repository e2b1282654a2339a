"""Replay: each topic with the QoS it was recorded with, files of rosbag2, and files that are damaged or do harm."""

from __future__ import annotations

import asyncio
import random
import resource
import struct
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import lz4.frame
import pytest
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, Schema
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer
from ros2_support import until
from rosbags.highlevel import AnyReader
from rosbags.rosbag2.metadata import dump_qos_v8, dump_qos_v9, parse_qos
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML
from wasmbed.bridges.ros2 import Node, mcap_records, qos
from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.qos import DEFAULT, LATCHED, SENSOR_DATA, QosProfile
from wasmbed.bridges.ros2.recorded_qos import MAX_KEPT, offered, recorded
from wasmbed.bridges.ros2.recording import Recorder
from wasmbed.bridges.ros2.replay import read, replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.bridges.ros2.dds import DdsBackend
    from wasmbed.bridges.ros2.types import CodecFactory

STRING = "std_msgs/msg/String"
# As a recorder of Humble writes what a publisher offers: numbers, and a history that DDS does not tell.
HUMBLE = """- history: 3
  depth: 0
  reliability: 1
  durability: 1
  deadline:
    sec: 9223372036
    nsec: 854775807
  lifespan:
    sec: 9223372036
    nsec: 854775807
  liveliness: 1
  liveliness_lease_duration:
    sec: 9223372036
    nsec: 854775807
  avoid_ros_namespace_conventions: false"""
JAZZY = """- history: keep_last
  depth: 3
  reliability: best_effort
  durability: volatile
  deadline:
    sec: 0
    nsec: 500000000
  lifespan:
    sec: 2147483647
    nsec: 4294967295
  liveliness: manual_by_topic
  liveliness_lease_duration:
    sec: 0
    nsec: 0
  avoid_ros_namespace_conventions: false
"""
PROFILES = [
    DEFAULT,
    LATCHED,
    SENSOR_DATA,
    QosProfile(keep_all=True, deadline_s=0.25, lifespan_s=1.5, liveliness="manual_by_topic", lease_s=10.0),
]


def text(codecs: CodecFactory, value: str) -> bytes:
    return codecs.codec(STRING).dumps(codecs.cls(STRING)(value))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.describe())
def test_profiles_come_back_from_a_recording(profile: QosProfile) -> None:
    assert recorded(offered(profile)) == profile
    # The reader and both writers of somebody else.
    found = parse_qos(offered(profile))
    assert recorded(dump_qos_v8(found)) == profile
    stream = BytesIO()
    YAML(typ="safe").dump(dump_qos_v9(found), stream)
    assert recorded(stream.getvalue().decode()) == profile


def test_profiles_of_humble_and_jazzy_are_understood() -> None:
    assert recorded(HUMBLE) == QosProfile(transient_local=True)
    assert recorded(JAZZY) == QosProfile(reliable=False, depth=3, deadline_s=0.5, liveliness="manual_by_topic")
    # One offer that any subscriber of the two gets something from.
    assert recorded(f"{HUMBLE}\n{JAZZY}") == QosProfile(transient_local=True)


@pytest.mark.parametrize(
    "harm",
    [
        "{",
        "[" * 50_000,
        "- 7",
        "a: b",
        "- deadline: {sec: -1, nsec: 0}",
        "- deadline: {sec: 1, nsec: " + "9" * 3000 + "}",
        "- deadline: {sec: " + "9" * 5000 + ", nsec: 0}",
        "!!python/object/apply:os.system ['true']",
        "- {history: 1}\n" * 10_000,
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a,*a]\n" for n in range(500)),
    ],
    ids=range(10),
)
def test_profiles_that_make_no_sense_are_the_default_and_logged(harm: str, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    assert recorded(harm, "/odd") == DEFAULT
    assert time.monotonic() - began < 30
    assert "topic=/odd" in caplog.text


def test_numbers_of_a_profile_are_bounded() -> None:
    assert recorded("") == DEFAULT
    assert recorded("- {history: 77, depth: no, reliability: 4, durability: 9, liveliness: 5}") == DEFAULT
    assert recorded("- {history: keep_last, depth: 1000000000}").depth == qos.MAX_DEPTH
    # All of a recording would be kept in memory.
    assert recorded("- {history: 2, durability: 1}") == QosProfile(transient_local=True, depth=MAX_KEPT)
    assert recorded("- {history: 1, depth: 100000, durability: 1}") == QosProfile(transient_local=True, depth=MAX_KEPT)
    assert recorded("- {deadline: {sec: 0, nsec: 1}}").deadline_s == 0.001


async def test_topics_are_replayed_with_the_qos_they_were_recorded_with(
    tmp_path: Path, codecs: CodecFactory, backends: Callable[..., DdsBackend]
) -> None:
    """One profile was used for all: a late joiner got no latched message, or best effort became reliable."""
    bridge, other = (Node(backends(name), codecs, name=name) for name in ("bridge", "other"))
    recorder = Recorder(tmp_path, "run", codecs.store)
    recorder.subscribe(bridge, "/map", STRING, LATCHED)
    recorder.subscribe(bridge, "/scan", STRING, SENSOR_DATA)
    sources = [other.publisher("/map", STRING, LATCHED), other.publisher("/scan", STRING, SENSOR_DATA)]
    await until(lambda: all(source.statistics.matched for source in sources))
    for number in range(3):
        for source in sources:
            source.publish(codecs.cls(STRING)(str(number)))
        await until(lambda number=number: recorder.statistics.messages >= 2 * number + 2)
    await asyncio.to_thread(recorder.close)
    for source in sources:
        source.close()
    with AnyReader([tmp_path / "run"], default_typestore=get_typestore(Stores.EMPTY)) as bag:
        offers = {item.topic: cast("Any", item.ext).offered_qos_profiles[0] for item in bag.connections}
    assert (offers["/map"].durability.name, offers["/map"].depth) == ("TRANSIENT_LOCAL", 1)
    assert (offers["/scan"].reliability.name, offers["/scan"].durability.name) == ("BEST_EFFORT", "VOLATILE")
    # The last message is a minute behind, so that the replay is under way when others join.
    recorder = Recorder(tmp_path, "long", codecs.store)
    recorder._qos = {"/map": offered(LATCHED), "/scan": offered(SENSOR_DATA)}
    for item in read(tmp_path / "run"):
        recorder.record(item.topic, item.type, item.data, item.stamp_ns)
    recorder.record("/scan", STRING, text(codecs, "end"), item.stamp_ns + 60 * 10**9)
    recorder.close()
    for profile, expected in ((None, ["2"]), (DEFAULT, [])):
        stop, counts = threading.Event(), dict[str, int]()
        task = asyncio.create_task(
            asyncio.to_thread(
                replay,
                *(tmp_path / "long", bridge, profile),
                stop=stop,
                tell=lambda _, told, counts=counts: counts.update(told),
            )
        )
        await until(lambda counts=counts: counts == {"/map": 3, "/scan": 3})
        latched: list[str] = []
        late = [
            other.subscription("/map", STRING, lambda message, to=latched: to.append(message.data), LATCHED),
            other.subscription("/scan", STRING, lambda _: None, DEFAULT),
            other.subscription("/scan", STRING, lambda _: None, SENSOR_DATA),
        ]
        await until(lambda late=late: late[2].statistics.matched)
        await until(lambda late=late: late[0].statistics.matched or late[0].statistics.problems)
        if profile is None:
            await until(lambda latched=latched: latched)
            await until(lambda late=late: "reliability" in str(late[1].statistics.problems))
        else:
            assert "durability" in str(late[0].statistics.problems)
            await until(lambda late=late: late[1].statistics.matched)
        assert latched == expected
        stop.set()
        await task
        for subscription in late:
            subscription.close()


async def test_a_latched_topic_of_humble_is_latched_when_it_is_replayed(
    tmp_path: Path, codecs: CodecFactory, backends: Callable[..., DdsBackend]
) -> None:
    bridge, other = (Node(backends(name), codecs, name=name) for name in ("bridge", "other"))
    with (tmp_path / "bag_0.mcap").open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.NONE)
        writer.start("ros2", "libmcap 0.8.0")
        channel = writer.register_channel(
            "/map", "cdr", writer.register_schema(STRING, "ros2msg", b"string data"), {"offered_qos_profiles": HUMBLE}
        )
        writer.add_message(channel, 10**18, text(codecs, "hills"), 10**18)
        writer.add_message(channel, 10**18 + 60 * 10**9, text(codecs, "end"), 10**18)
        writer.finish()  # type: ignore[no-untyped-call]
    stop, counts = threading.Event(), dict[str, int]()
    task = asyncio.create_task(
        asyncio.to_thread(replay, tmp_path, bridge, stop=stop, tell=lambda _, told: counts.update(told))
    )
    await until(lambda: counts == {"/map": 1})
    latched: list[str] = []
    other.subscription("/map", STRING, lambda message: latched.append(message.data), LATCHED)
    await until(lambda: latched == ["hills"])
    stop.set()
    assert await task == {"/map": 1}


def small_chunk(compression: str, data: bytes, size: int) -> Chunk:
    return Chunk(compression, data, 5, 5, 0, size)


def mcap_of(*chunks: Chunk) -> bytes:
    builder = RecordBuilder()
    Header("ros2", "someone").write(builder)
    for chunk in chunks:
        chunk.write(builder)
    DataEnd(0).write(builder)
    Footer(0, 0, 0).write(builder)
    return MCAP0_MAGIC + builder.end() + MCAP0_MAGIC  # type: ignore[no-untyped-call, no-any-return]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


LARGE = 4 << 30
BOMB = zstandard.ZstdCompressor().compress(bytes(64 << 20))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (mcap_of(small_chunk("zstd", BOMB, LARGE)), "chunk of 4294967296 bytes"),
        (mcap_of(small_chunk("zstd", BOMB, 1000)), "larger than it says"),
        (mcap_of(small_chunk("zstd", UNSIZED, 1000)), "cannot be decompressed"),
        (mcap_of(small_chunk("lz4", lz4.frame.compress(bytes(64 << 20)), 1000)), "ends in the middle"),
        (mcap_of(small_chunk("lz4", b"nothing", 1000)), "cannot be decompressed"),
        (mcap_of(small_chunk("bz2", b"nothing", 1000)), "compressed with 'bz2'"),
        (mcap_of(small_chunk("", b"\5" + struct.pack("<Q", 1 << 60), 9)), "ends in the middle"),
        (mcap_of(small_chunk("", b"\5" + struct.pack("<Q", 22) + bytes(22), 31)), "of a channel 0"),
        (mcap_of(small_chunk("", b"\4" + struct.pack("<Q", 4) + bytes(4), 13)), "not a record of its kind"),
        (MCAP0_MAGIC + b"\6" + struct.pack("<Q", LARGE), "record of 4294967296 bytes"),
        (MCAP0_MAGIC + b"\6" + struct.pack("<Q", 100) + bytes(50), "in the middle of a record at 8"),
        (MCAP0_MAGIC, "without its end"),
        (b"", "not an MCAP file"),
        (mcap_of()[:-37] + b"\2" + struct.pack("<QQQI", 20, 2**64 - 1, 2**63, 0) + MCAP0_MAGIC, ""),
    ],
    ids=range(14),
)
def test_damaged_and_hostile_files_are_refused_in_words_and_little_memory(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "odd_0.mcap"
    path.write_bytes(content)
    before = peak_bytes()
    if said:
        with pytest.raises(ConfigurationError, match=said) as caught:
            list(read(path))
        assert str(path) in str(caught.value)
    else:
        assert not list(read(path))
    assert peak_bytes() - before < 32 << 20


def test_altered_files_end_in_words(tmp_path: Path, codecs: CodecFactory) -> None:
    recorder = Recorder(tmp_path, "good", codecs.store)
    for number in range(50):
        recorder.record("/text", STRING, text(codecs, str(number)), number + 1)
    recorder.close()
    whole = (tmp_path / "good/good_0.mcap").read_bytes()
    path, chance = tmp_path / "bad.mcap", random.Random(7)
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)
        try:
            assert len(list(read(path))) <= 50
        except ConfigurationError:
            refused += 1
    assert refused > 500


def test_what_is_whole_of_a_file_that_is_cut_off_is_read(tmp_path: Path, codecs: CodecFactory) -> None:
    path = tmp_path / "bag_0.mcap"
    stream = BytesIO()
    writer = Writer(stream, chunk_size=1000)
    writer.start("ros2", "someone")
    channel = writer.register_channel("/text", "cdr", writer.register_schema(STRING, "ros2msg", b"string data"))
    for stamp in range(1000):
        writer.add_message(channel, stamp, text(codecs, str(stamp)), stamp)
    writer.finish()  # type: ignore[no-untyped-call]
    whole = stream.getvalue()
    # Only the summary is lost.
    path.write_bytes(whole[:-100])
    assert [item.stamp_ns for item in read(path)] == list(range(1000))
    path.write_bytes(whole[: len(whole) // 2])
    messages = read(path)
    found = []
    with pytest.raises(ConfigurationError, match="ends in the middle"):  # noqa: PT012
        while True:
            found.append(next(messages).stamp_ns)
    assert found == list(range(len(found)))
    assert len(found) > 200


@pytest.mark.parametrize("chunked", [True, False])
def test_messages_are_in_the_order_of_time_and_few_are_held(
    tmp_path: Path, codecs: CodecFactory, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    path = tmp_path / "bag_0.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=2000, compression=CompressionType.LZ4, use_chunking=chunked)
        writer.start("ros2", "someone")
        channel = writer.register_channel("/text", "cdr", writer.register_schema(STRING, "ros2msg", b"string data"))
        stamps = [number + 1 for number in range(1000)]
        order = [stamp for n in range(0, 1000, 50) for stamp in reversed(stamps[n : n + 50])]
        for stamp in order:
            writer.add_message(channel, stamp, text(codecs, str(stamp)), stamp)
        writer.finish()  # type: ignore[no-untyped-call]
    assert [item.stamp_ns for item in read(path)] == stamps
    monkeypatch.setattr(mcap_records, "MAX_HELD", 3000)
    monkeypatch.setattr(mcap_records, "WINDOW", 3000)
    found = [item.stamp_ns for item in read(path)]
    assert found != stamps
    assert sorted(found) == stamps


def test_definitions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = RecordBuilder()
    Schema(1, bytes(5000), "ros2msg", STRING).write(builder)
    Channel(1, "/text", "cdr", {}, 1).write(builder)
    data = builder.end()  # type: ignore[no-untyped-call]
    path = tmp_path / "bag_0.mcap"
    path.write_bytes(mcap_of(*[small_chunk("", data, len(data))] * 3))
    assert not list(read(path))
    monkeypatch.setattr(mcap_records, "MAX_DEFINITIONS", 12_000)
    with pytest.raises(ConfigurationError, match="bytes of schemas"):
        list(read(path))
