"""MAVLink FTP and component metadata, over bad networks and with broken files."""

import json
import lzma
import random
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import BAD, CLEAN, IDS, Network, World
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.component_info import (
    FindMetadata,
    MetadataError,
    MetadataSource,
    parse_metadata,
    sources,
)
from wasmbed.bridges.mavlink.ftp import Packet, ReadFile


def stored(world: World, size: int) -> bytes:
    data = random.Random(size).randbytes(size)
    world.vehicle.storage.files["/a.json"] = data
    return data


@pytest.mark.parametrize("size", [0, 1, 239, 240, 10_000])
def test_a_file_is_read_and_its_session_is_closed(size: int) -> None:
    world = World(CLEAN)
    data = stored(world, size)
    result = world.drive(ReadFile(IDS, "/a.json"))
    assert result.data == data
    world.run(0.2)
    assert world.vehicle.storage.open is None
    assert world.vehicle.storage.served == list(range(0, max(size, 1), 239))


@given(st.integers(0, 2**32), st.integers(0, 3000))
@settings(max_examples=100, deadline=None)
def test_a_file_over_a_bad_network_is_right_or_not_there(seed: int, size: int) -> None:
    world = World(BAD, seed)
    data = stored(world, size)
    result = world.drive(ReadFile(IDS, "/a.json"))
    assert result.data == data or (result.data is None and result.reason)


def test_files_over_a_bad_network_come_nearly_always() -> None:
    def read(seed: int) -> bool:
        world = World(BAD, seed)
        stored(world, 3000)
        return bool(world.drive(ReadFile(IDS, "/a.json")).ok)

    assert sum(read(seed) for seed in range(100)) >= 95


def test_what_cannot_be_read_is_told() -> None:
    world = World(CLEAN)
    stored(world, 1000)
    assert world.drive(ReadFile(IDS, "/b.json")).reason == "there is no such file"
    assert "too many" in world.drive(ReadFile(IDS, "/a.json", max_bytes=999)).reason
    assert "does not answer" in World(Network(loss=1.0)).drive(ReadFile(IDS, "/a.json")).reason
    with pytest.raises(ValueError, match="1 to 238"):
        ReadFile(IDS, "x" * 239)


@given(st.binary(min_size=251, max_size=251))
@settings(deadline=None)
def test_any_payload_is_parsed_and_made_again(payload: bytes) -> None:
    packet = Packet.parse(payload)
    assert Packet.parse(bytes(packet.payload())).data == packet.data
    operation = ReadFile(IDS, "/a")
    operation.start(0.0)
    operation.receive(full(Message("FILE_TRANSFER_PROTOCOL", {"payload": tuple(payload)}, 1, 1)), 0.1)


def crc(data: bytes) -> int:
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def test_metadata_is_unpacked_and_checked() -> None:
    plain = json.dumps(
        {"version": 1, "metadataTypes": [{"type": 1, "uri": "mftp:///p.json.xz", "fileCrc": 7}]}
    ).encode()
    packed = lzma.compress(plain)
    for data in (plain, packed):
        assert sources(parse_metadata(data, crc(data))) == {"parameter": MetadataSource("mftp:///p.json.xz", 7)}
        with pytest.raises(MetadataError, match="checksum"):
            parse_metadata(data, crc(data) ^ 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[]", "object"),
        (b"{", "no JSON"),
        (b"\xfd7zXZ\x00broken", "unpacked"),
        (lzma.compress(b"{}")[:-12], "cut off"),
        (lzma.compress(b" " * (17 * 1024 * 1024)), "too large"),
    ],
)
def test_broken_metadata_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MetadataError, match=reason):
        parse_metadata(data)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_metadata_or_are_refused(data: bytes) -> None:
    for candidate in (data, b"\xfd7zXZ\x00" + data):
        try:
            sources(parse_metadata(candidate))
        except MetadataError:
            continue


@pytest.mark.parametrize("general", [{}, {"metadataTypes": 1}, {"metadataTypes": [1, {"type": "x", "uri": 1}]}])
def test_a_general_file_with_other_shapes_names_nothing(general: dict[str, Any]) -> None:
    assert sources(general) == {}


def test_only_the_vehicle_itself_is_asked_for_files() -> None:
    assert MetadataSource("mftp://[;comp=100]/x/y.json").location(1) == (100, "/x/y.json")
    assert MetadataSource("mftp:///y.json").location(1) == (1, "/y.json")
    for uri in ("http://example.org/x", "", "mftp://", "mftp://[;comp=999]/x"):
        with pytest.raises(MetadataError):
            MetadataSource(uri).location(1)


def test_a_vehicle_without_metadata_is_told() -> None:
    assert World(CLEAN).drive(FindMetadata(IDS)).uri == ""
    assert World(Network(loss=1.0)).drive(FindMetadata(IDS)).uri == ""
