"""What is no film is told in words, and nothing that a file holds raises anything else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from film import y4m
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.sensors.sample import SensorError
from wasmbed.sensors.y4m import Y4m

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing is written"),
        (b"RIFF....AVI LIST\n", "not YUV4MPEG2"),
        (b"YUV4MPEG2 Wx H2\n", "cannot be read"),
        (b"YUV4MPEG2 W4 H2 C444\n", "420 or mono is read"),
        (b"YUV4MPEG2 W65535 H65535 C420\n", "between 1 pixel and 8 MiB"),
        (b"YUV4MPEG2 W0 H2\n", "between 1 pixel and 8 MiB"),
        (b"YUV4MPEG2 " + b"X" * 5000, "more than 1024 bytes"),
        (b"YUV4MPEG2 W4 H2\n", "has no frame"),
        (b"YUV4MPEG2 W4 H2\nFRAME\nxxx", "middle of a frame"),
        (b"YUV4MPEG2 W4 H2\nXRAME\nxxxxxxxxxxxxxxx", "instead of FRAME"),
    ],
)
def test_what_is_no_film_is_refused_in_words(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "film"
    path.write_bytes(data)
    with pytest.raises(SensorError, match=says):
        Y4m(path, lambda: False).next()


@given(data=st.binary(max_size=300), at=st.integers(0, 200))
def test_damaged_films_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "film"
    good = y4m(3)
    path.write_bytes(good[:at] + data + good[at:])
    with contextlib.suppress(SensorError), contextlib.closing(Y4m(path, lambda: False)) as stream:
        for _ in range(5):
            assert len(stream.next() or b"") == stream.frame_bytes
