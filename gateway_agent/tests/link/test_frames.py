"""Frames: what is encoded comes back, what is damaged does not, and the reader finds its feet again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wasmbed.link import frames
from wasmbed.link.frames import Frame, FrameReader

CONTENT = st.one_of(st.binary(max_size=700), st.integers(0, 600).map(lambda n: b"\1" * n), st.just(bytes(300)))


@given(CONTENT)
def test_cobs_has_no_zero_and_comes_back(data: bytes) -> None:
    encoded = frames.cobs_encode(data)
    assert 0 not in encoded
    assert frames.cobs_decode(encoded) == data
    assert len(encoded) <= len(data) + len(data) // 254 + 1


@given(st.lists(st.tuples(st.integers(0, 255), CONTENT), max_size=4), st.integers(1, 40))
def test_frames_come_back_however_they_are_cut(sent: list[tuple[int, bytes]], piece: int) -> None:
    wire = b"".join(frames.encode(kind, body) for kind, body in sent)
    reader = FrameReader()
    got = [frame for at in range(0, len(wire), piece) for frame in reader.feed(wire[at : at + piece])]
    assert got == [Frame(kind, body) for kind, body in sent]
    assert reader.bad == 0


@given(st.binary(max_size=300), CONTENT)
def test_garbage_before_a_frame_costs_no_frame(garbage: bytes, body: bytes) -> None:
    reader = FrameReader()
    got = list(reader.feed(garbage + frames.encode(5, body)))
    assert got[-1] == Frame(5, body)


@given(CONTENT, st.data())
def test_a_changed_byte_never_gives_another_frame(body: bytes, data: st.DataObject) -> None:
    wire = bytearray(frames.encode(5, body))
    index = data.draw(st.integers(1, len(wire) - 2))
    wire[index] ^= data.draw(st.integers(1, 255))
    got = list(FrameReader().feed(bytes(wire)))
    # A CRC of 16 bits finds every burst of 16 bits; a byte that becomes a code or a delimiter moves more than that.
    assert all(frame != Frame(5, body) for frame in got)


def test_a_frame_over_the_limit_is_dropped_and_the_next_one_read() -> None:
    reader = FrameReader(max_bytes=64)
    got = list(reader.feed(frames.encode(1, b"\1" * 1000) + frames.encode(1, b"x")))
    assert got == [Frame(1, b"x")]
    assert reader.bad == 1


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_the_reader_holds_little(pieces: list[bytes]) -> None:
    reader = FrameReader(max_bytes=256)
    for piece in pieces:
        list(reader.feed(piece.replace(b"\0", b"\1")))
        assert len(reader._buffer) <= 259
