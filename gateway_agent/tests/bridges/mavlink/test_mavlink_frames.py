"""Frames and payloads against pymavlink's generated code, which shares only the XML with ours."""

import importlib
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.bridges.mavlink import supplement
from wasmbed.bridges.mavlink.codec import PayloadError, decode, encode
from wasmbed.bridges.mavlink.definitions import Definition, FieldDefinition, default_dialect
from wasmbed.bridges.mavlink.frames import FrameParser, decode_frame, make_frame

DIALECT = default_dialect()
LIMITS = {"B": (0, 255), "b": (-128, 127), "H": (0, 65535), "h": (-32768, 32767), "I": (0, 2**32 - 1)}
LIMITS |= {"i": (-(2**31), 2**31 - 1), "Q": (0, 2**64 - 1), "q": (-(2**63), 2**63 - 1)}


def random_value(item: FieldDefinition, rng: random.Random) -> Any:
    if item.type == "char":
        return "".join(rng.choice("abcXYZ_09") for _ in range(rng.randint(0, item.array or 1)))
    if item.type == "raw float":
        return struct.pack("<f", rng.randint(-1000, 1000))
    code = item.format[0]

    def one() -> Any:
        if code in "fd":
            return float(rng.randint(-(2**20), 2**20)) / 4
        low, high = LIMITS[code]
        return rng.choice([0, low, high, rng.randint(low, high)])

    return tuple(one() for _ in range(item.array)) if item.array else one()


def pymavlink_classes(version: str) -> dict[str, Any]:
    classes = {}
    for name in ("all", "development"):
        module = importlib.import_module(f"pymavlink.dialects.{version}.{name}")
        classes.update({cls.msgname: (module, cls) for cls in module.mavlink_map.values()})
    return classes


@pytest.mark.parametrize("version", [2, 1])
def test_every_message_is_framed_as_pymavlink_frames_it(version: int) -> None:
    rng = random.Random(7)
    classes = pymavlink_classes("v20" if version == 2 else "v10")
    compared = 0
    for definition in DIALECT.messages.values():
        if definition.name not in classes or (version == 1 and definition.id > 255):
            continue
        module, cls = classes[definition.name]
        values = {item.name: random_value(item, rng) for item in definition.fields}
        # MAVLink 1 has no extensions, and pymavlink lacks those of the supplement.
        values = {name: value for name, value in values.items() if name in cls.fieldnames}
        theirs = module.MAVLink(None, 7, 9)
        theirs.seq = rng.randint(0, 255)
        floats = {name: struct.unpack("<f", value)[0] for name, value in values.items() if isinstance(value, bytes)}
        arguments = {
            name: value.encode() if isinstance(value, str) else list(value) if isinstance(value, tuple) else value
            for name, value in {**values, **floats}.items()
        }
        packed = bytes(cls(**arguments).pack(theirs))
        ours = make_frame(definition, values, system=7, component=9, sequence=theirs.seq, version=version)
        assert ours == packed, definition.name
        (frame,) = FrameParser().feed(packed)
        decoded = decode_frame(frame)
        assert decoded is not None
        assert decoded.name == definition.name
        for name, value in values.items():
            assert decoded[name] == value, (definition.name, name)
        compared += 1
    assert compared > (300 if version == 2 else 150)


def test_crc_extra_and_lengths_are_those_of_pymavlink() -> None:
    for name, (_, cls) in pymavlink_classes("v20").items():
        definition = DIALECT[name]
        assert definition.crc_extra == cls.crc_extra, name
        if name not in supplement.EXTENSIONS:
            assert definition.packer.size == cls.unpacker.size, name


def frames_of(count: int) -> list[bytes]:
    rng = random.Random(count)
    definitions: list[Definition] = rng.choices(list(DIALECT.messages.values()), k=count)
    return [
        make_frame(
            item,
            {part.name: random_value(part, rng) for part in item.fields},
            system=rng.randint(1, 255),
            component=rng.randint(1, 255),
            sequence=number & 255,
            version=1 if item.id < 256 and rng.random() < 0.3 else 2,
        )
        for number, item in enumerate(definitions)
    ]


@given(st.integers(1, 30), st.lists(st.integers(1, 60), max_size=40))
@settings(deadline=None)
def test_frames_survive_any_cutting_of_the_stream(count: int, cuts: list[int]) -> None:
    frames = frames_of(count)
    stream, found, parser = b"".join(frames), [], FrameParser()
    for cut in cuts:
        found += parser.feed(stream[:cut])
        stream = stream[cut:]
    found += parser.feed(stream)
    assert [frame.raw for frame in found] == frames
    assert parser.counts.skipped_bytes == 0


@given(st.binary(max_size=400), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_noise_before_frames_never_hides_them_for_long(noise: bytes, count: int) -> None:
    frames = frames_of(count) * 3
    parser = FrameParser()
    found = [frame.raw for frame in parser.feed(noise + b"".join(frames) + bytes(300))]
    # A start in the noise with an unknown message may swallow at most 280 bytes; what is behind is found.
    assert found[-1] == frames[-1] or len(b"".join(frames)) < 280 + len(frames[-1])


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_parsed_without_an_error(data: bytes, datagrams: bool) -> None:
    parser = FrameParser(datagrams=datagrams)
    for frame in parser.feed(data):
        decode_frame(frame)


def test_a_flipped_bit_is_noticed() -> None:
    (raw,) = frames_of(1)
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << (bit % 8)
        for frame in FrameParser(datagrams=True).feed(bytes(changed)):
            # Only a message that nobody knows has no checksum to compare.
            assert frame.definition is None


def test_an_unknown_flag_discards_the_frame() -> None:
    raw = bytearray(make_frame(DIALECT["HEARTBEAT"], {}, system=1, component=1, sequence=0))
    raw[2] = 0x02
    parser = FrameParser()
    assert parser.feed(bytes(raw)) == []
    assert parser.counts.unknown_flags == 1


def test_extension_fields_of_a_newer_dialect_are_cut() -> None:
    definition = DIALECT["ATTITUDE"]
    assert decode(definition, encode(definition, {"roll": 1.5}) + b"\x01\x02")["roll"] == 1.5


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ATTITUDE", {"rol": 1.0}),
        ("HEARTBEAT", {"type": 256}),
        ("HEARTBEAT", {"type": "x"}),
        ("PARAM_SET", {"param_id": "x" * 17}),
        ("PARAM_SET", {"param_id": 4}),
        ("ACTUATOR_CONTROL_TARGET", {"controls": [0.0] * 9}),
    ],
)
def test_values_that_do_not_fit_are_refused_with_the_field(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match=name):
        encode(DIALECT[name], values)


def test_a_message_above_255_has_no_mavlink_1_form() -> None:
    with pytest.raises(ValueError, match="MAVLink 1"):
        make_frame(DIALECT["SETUP_SIGNING"], {}, system=1, component=1, sequence=0, version=1)
