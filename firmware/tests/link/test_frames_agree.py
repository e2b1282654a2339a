"""The firmware's frames, counters and CBOR reader against the gateway's and against cbor2."""

from __future__ import annotations

import ctypes
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_support import Shim
from wasmbed.link import frames, noise
from wasmbed.link.frames import Frame, FrameReader

CONTENT = st.one_of(
    st.binary(min_size=1, max_size=700), st.integers(1, 600).map(lambda n: b"\1" * n), st.integers(1, 300).map(bytes)
)


@pytest.fixture(scope="module")
def shim() -> Shim:
    return Shim()


def read_in_c(shim: Shim, wire: bytes, capacity: int) -> tuple[list[Frame], int]:
    out = ctypes.create_string_buffer(3 * len(wire) + 16)
    bad = ctypes.c_uint32()
    count = shim.shim_frames(wire, len(wire), capacity, out, ctypes.byref(bad))
    found, at = [], 0
    while at < count:
        length = int.from_bytes(out.raw[at : at + 2], "big")
        content = out.raw[at + 2 : at + 2 + length]
        found.append(Frame(content[0], content[1:]))
        at += 2 + length
    return found, bad.value


@given(CONTENT, st.integers(1, 50))
def test_both_encode_alike_in_pieces_of_any_size(shim: Shim, content: bytes, piece: int) -> None:
    out = ctypes.create_string_buffer(2 * len(content) + 16)
    count = shim.shim_encode(content, len(content), piece, out)
    assert out.raw[:count] == frames.encode(content[0], content[1:])


WIRE = st.lists(
    st.one_of(
        CONTENT.map(lambda c: frames.encode(c[0], c[1:])),
        st.binary(max_size=40),
        st.tuples(CONTENT, st.integers(0, 700), st.integers(1, 255)).map(
            lambda t: bytes(b ^ (t[2] if i == t[1] else 0) for i, b in enumerate(frames.encode(t[0][0], t[0][1:])))
        ),
    ),
    max_size=6,
).map(b"".join)


@given(WIRE)
def test_both_read_the_same_frames_out_of_anything(shim: Shim, wire: bytes) -> None:
    reader = FrameReader(max_bytes=2000)
    expected = list(reader.feed(wire))
    assert read_in_c(shim, wire, 2000) == (expected, reader.bad)


@given(WIRE)
def test_a_frame_over_the_devices_limit_is_bad_and_the_next_one_read(shim: Shim, wire: bytes) -> None:
    tail = frames.encode(9, b"end")
    found, _ = read_in_c(shim, wire + tail, 64)
    assert found[-1] == Frame(9, b"end")
    assert all(len(frame.body) <= 61 for frame in found)


@given(st.binary(max_size=300), st.integers(0, (1 << 64) - 1))
def test_both_protect_alike(shim: Shim, data: bytes, counter: int) -> None:
    buffer = ctypes.create_string_buffer(data + bytes(16), len(data) + 16)
    shim.shim_seal(b"\x41" * 32, ctypes.c_uint64(counter), buffer, len(data))
    assert buffer.raw == noise.seal(b"\x41" * 32, counter, data)


LEAF = st.one_of(
    st.integers(-(1 << 64), (1 << 64) - 1), st.binary(max_size=30), st.text(max_size=20), st.booleans(), st.none()
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.integers(0, 99), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=12,
)


def depth(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inside), default=0) if isinstance(value, (dict, list)) else 0


@given(st.dictionaries(st.integers(0, 99), VALUE, max_size=5), st.integers(0, 99))
def test_the_reader_takes_what_cbor2_writes(shim: Shim, body: dict[int, Any], key: int) -> None:
    wire = cbor2.dumps(body)
    value = ctypes.c_uint64(7)
    items = shim.shim_cbor(wire, len(wire), key, ctypes.byref(value))
    assert items == (2 * len(body) if depth(body) <= 8 else -1)
    found = body.get(key)
    if items >= 0 and type(found) is int and found >= 0:
        assert value.value == found


@given(st.binary(max_size=80))
def test_the_reader_takes_no_more_than_cbor2(shim: Shim, wire: bytes) -> None:
    value = ctypes.c_uint64()
    items = shim.shim_cbor(wire, len(wire), 1, ctypes.byref(value))
    assert items >= -1
    if items >= 0:
        # Whole and well-formed by another reader's judgement; UTF-8 is not looked at here, nor are doubled keys.
        refusal = ""
        try:
            refusal = "" if isinstance(cbor2.loads(wire), dict) else "no map"
        except (ValueError, TypeError) as error:
            refusal = str(error).lower()
        assert not refusal or any(word in refusal for word in ("utf", "hash", "duplicate"))
