"""Bytes that are no message: refused with CdrError, whatever they are, and nothing is allocated for them."""

from __future__ import annotations

import functools
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ros2_support import message_of
from wasmbed.bridges.ros2.dds.services import join, split
from wasmbed.bridges.ros2.errors import CdrError
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

TYPES = (
    "sensor_msgs/msg/Imu",
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/JointState",
    "visualization_msgs/msg/MarkerArray",
    "rcl_interfaces/msg/ParameterEvent",
    "rmw_dds_common/msg/ParticipantEntitiesInfo",
    "std_msgs/msg/Empty",
    "std_msgs/msg/Float64MultiArray",
    "tests/msg/Everything",
)
EVERYTHING = {
    "tests/msg/Inner": "bool[] flags\nstring<=8[<=4] names\nwstring wide\nint64 number\n",
    "tests/msg/Everything": "Inner[2] pair\nInner[] many\nwstring[] wides\n"
    "float64[<=3] few\nuint8[16] id\nchar[] text\n",
}


@functools.cache
def codecs() -> CodecFactory:
    standard = TypeStore.of("jazzy")
    texts = {name: standard._texts[name] for name in standard.names()}
    return CodecFactory(TypeStore(texts | EVERYTHING))


@functools.cache
def valid(name: str, seed: int) -> bytes:
    return codecs().codec(name).dumps(message_of(codecs(), name, random.Random(seed)))


def read(name: str, data: bytes) -> Any:
    """A message or None; anything but CdrError is a failure of the test, and so is another verdict of `check`."""
    codec = codecs().codec(name)
    try:
        message = codec.loads(data)
    except CdrError:
        with pytest.raises(CdrError):
            codec.check(data)
        return None
    codec.check(data)
    return message


@pytest.mark.parametrize("name", TYPES)
def test_every_truncation_is_refused(name: str) -> None:
    for seed in range(5):
        data = valid(name, seed)
        for size in range(len(data)):
            assert read(name, data[:size]) is None


@pytest.mark.parametrize("name", TYPES)
def test_what_follows_a_message_is_padding_or_refused(name: str) -> None:
    data = valid(name, 1)
    assert read(name, data + b"\0\0\0") == codecs().codec(name).loads(data)
    with pytest.raises(CdrError, match="follow the message"):
        codecs().codec(name).loads(data + b"\0\0\0\0")


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("header", [b"\0\2", b"\0\3", b"\0\6", b"\0\7", b"\0\x0a", b"\1\1", b"\xff\xff", b"\1\0"])
def test_other_encapsulations_are_refused(name: str, header: bytes) -> None:
    assert read(name, header + valid(name, 2)[2:]) is None


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1", b"\0\1\0", b"\0\1\0\0"])
def test_almost_nothing_is_refused(data: bytes) -> None:
    for name in TYPES:
        assert read(name, data) is None


@given(
    name=st.sampled_from(TYPES), data=st.binary(max_size=400), order=st.sampled_from([b"\0\1\0\0", b"\0\0\0\0", b""])
)
def test_any_bytes_are_read_or_refused(name: str, data: bytes, order: bytes) -> None:
    message = read(name, order + data)
    if message is not None:
        assert read(name, codecs().codec(name).dumps(message)) is not None


@given(
    name=st.sampled_from(TYPES),
    seed=st.integers(0, 20),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_any_altered_message_is_read_or_refused(name: str, seed: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(valid(name, seed))
    for place, value in changes:
        data[place % len(data)] = value
    read(name, bytes(data))


@given(
    name=st.sampled_from(TYPES),
    seed=st.integers(0, 20),
    place=st.integers(0, 10**6),
    count=st.sampled_from([0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000000, 0x00FFFFFF]),
)
def test_a_wrong_length_allocates_nothing(name: str, seed: int, place: int, count: int) -> None:
    data = bytearray(valid(name, seed))
    start = 4 + (place % max(1, len(data) - 7)) // 4 * 4
    data[start : start + 4] = count.to_bytes(4, "little")
    codecs().codec(name)
    tracemalloc.start()
    try:
        read(name, bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_messages_of_one_type_are_mostly_refused_as_another() -> None:
    """A peer with another definition of the same type: never a crash."""
    for name in TYPES:
        for other in TYPES:
            for seed in range(3):
                read(other, valid(name, seed))


@given(st.binary(max_size=60))
def test_requests_without_an_identity_are_refused(data: bytes) -> None:
    for header in (b"\0\1\0\0", b"\0\0\0\0"):
        try:
            guid, sequence, message = split(header + data)
        except CdrError:
            assert len(data) < 16
            continue
        if header == b"\0\1\0\0":
            assert join(guid, sequence, message) == header + data
