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
from wasmbed.bridges.mavlink.ftp import Packet, checksum
from wasmbed.bridges.mavlink.ftp_files import Entry, ListFiles, ReadFile, WriteFile


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
    for operation in (ReadFile(IDS, "/a"), WriteFile(IDS, "/a", b"abc"), ListFiles(IDS, "/a")):
        operation.start(0.0)
        operation.receive(full(Message("FILE_TRANSFER_PROTOCOL", {"payload": tuple(payload)}, 1, 1)), 0.1)


@pytest.mark.parametrize("size", [0, 1, 239, 240, 5000])
def test_a_file_is_written_in_place_of_what_was_there(size: int) -> None:
    world = World(CLEAN)
    stored(world, 3000)
    data = random.Random(1).randbytes(size)
    result = world.drive(WriteFile(IDS, "/a.json", data))
    assert (result.ok, result.written) == (True, size), result
    assert world.vehicle.storage.files["/a.json"] == data
    assert world.vehicle.storage.writing is None


@given(st.integers(0, 2**32), st.integers(0, 3000))
@settings(max_examples=100, deadline=None)
def test_a_file_written_over_a_bad_network_is_there_or_it_is_told(seed: int, size: int) -> None:
    world = World(BAD, seed)
    data = random.Random(seed).randbytes(size)
    result = world.drive(WriteFile(IDS, "/w", data))
    assert result is not None
    if result.ok:
        assert world.vehicle.storage.files["/w"] == data
    else:
        assert result.reason


def test_files_are_written_over_a_bad_network_nearly_always() -> None:
    def write(seed: int) -> bool:
        world = World(BAD, seed)
        data = random.Random(seed).randbytes(3000)
        result = world.drive(WriteFile(IDS, "/w", data))
        if not result.ok and result.written:
            result = world.drive(WriteFile(IDS, "/w", data, resume=result.written))
        return bool(result.ok)

    assert sum(write(seed) for seed in range(100)) >= 90


def test_a_file_that_was_broken_off_goes_on_where_it_was() -> None:
    world = World(CLEAN)
    data = stored(world, 5000)
    assert world.drive(ReadFile(IDS, "/a.json", resume=data[:3107])).data == data
    assert min(world.vehicle.storage.served) == 3107
    other = world.drive(ReadFile(IDS, "/a.json", resume=b"x" * 3107))
    assert (other.ok, "another one" in other.reason) == (False, True)

    world.vehicle.storage.files["/w"] = data[:2000]
    before = len(world.sent)
    assert world.drive(WriteFile(IDS, "/w", data, resume=2000)).ok
    writes = [Packet.parse(bytes(item["payload"])) for _, item in world.sent[before:]]
    assert min(packet.offset for packet in writes if packet.opcode == 7) == 2000
    assert world.vehicle.storage.files["/w"] == data
    # What is there is no part of it, or there is nothing: it is written from its beginning.
    for there in ({"/w": b"y" * 2000}, {}):
        world.vehicle.storage.files = dict(there)
        assert world.drive(WriteFile(IDS, "/w", data, resume=2000)).ok
        assert world.vehicle.storage.files["/w"] == data


def test_a_reboot_in_a_write_is_told_with_what_was_written() -> None:
    world = World(CLEAN)
    operation = WriteFile(IDS, "/w", bytes(5000))

    def reboot(_item: Message, _now: float) -> None:
        if len(world.vehicle.storage.files.get("/w", b"")) > 2000:
            world.vehicle.storage.writing = None

    world.on_message.append(reboot)
    result = world.drive(operation)
    assert (result.ok, result.reason) == (False, "the session is not known")
    world.on_message.remove(reboot)
    assert world.drive(WriteFile(IDS, "/w", bytes(5000), resume=result.written)).ok


def test_a_component_that_keeps_other_bytes_is_found_out() -> None:
    world = World(CLEAN)

    def spoil(_item: Message, _now: float) -> None:
        if len(world.vehicle.storage.files.get("/w", b"")) == 1000:
            world.vehicle.storage.files["/w"] = bytes(1000)

    world.on_message.append(spoil)
    result = world.drive(WriteFile(IDS, "/w", b"x" * 1000))
    assert (result.ok, result.written, "checksum" in result.reason) == (False, 0, True)


@given(
    st.dictionaries(
        st.text("abcdefgh.-", min_size=1, max_size=12).filter(lambda n: n.strip(".")), st.binary(max_size=9)
    )
)
@settings(max_examples=60, deadline=None)
def test_a_folder_is_listed_whole(files: dict[str, bytes]) -> None:
    world = World(BAD, len(files))
    world.vehicle.storage.files = {f"/log/{name}": data for name, data in files.items()} | {"/log/sub/x": b"1"}
    result = world.drive(ListFiles(IDS, "/log"))
    wanted = {Entry(name, len(data)) for name, data in files.items() if name != "sub"}
    assert result.ok, result.reason
    assert {entry for entry in result.entries if entry.name != "sub"} == wanted
    assert len(result.entries) == len(set(result.entries))


def test_an_endless_folder_and_one_that_is_not_there_are_told() -> None:
    world = World(CLEAN)
    world.vehicle.storage.files = {f"/log/{number:05}": b"" for number in range(5000)}
    assert "more than 4096" in world.drive(ListFiles(IDS, "/log")).reason
    assert world.drive(ListFiles(IDS, "/nothing")).reason == "there is no such folder"
    with pytest.raises(ValueError, match="resume must be"):
        WriteFile(IDS, "/a", b"x", resume=2)
    with pytest.raises(ValueError, match="too many"):
        WriteFile(IDS, "/a", bytes(9 << 20))


def test_the_checksum_is_mavlinks() -> None:
    # CRC-32/POSIX-like of PX4's crc32part: starts at 0, no inversion; values of its own table by hand.
    assert checksum(b"") == 0
    assert checksum(b"\0\0\0\0") == 0
    assert checksum(b"\x01") == 0x77073096


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
