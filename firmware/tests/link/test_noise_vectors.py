"""The published Noise vectors, on the host, both cores, and both boards' machines, with the firmware's own objects."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from link_support import run_on
from wasmbed.link import noise

from tests.support.noise_vectors import vectors

if TYPE_CHECKING:
    from pathlib import Path


def _records() -> tuple[bytes, int]:
    """vectors.c's input and the number of vectors."""
    out = b""
    found = vectors()
    for row in found:
        messages = row["messages"]
        assert isinstance(messages, list)
        public = noise.public_key(bytes.fromhex(str(row["resp_static"])))
        fields = [
            bytes.fromhex(str(row["init_prologue"])),
            bytes.fromhex(str(row["init_static"])),
            bytes.fromhex(str(row["init_ephemeral"])),
            public,
        ]
        for message in messages:
            fields += [bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])]
        out += struct.pack("<I", len(fields)) + b"".join(struct.pack("<I", len(field)) + field for field in fields)
    return out, len(found)


@pytest.mark.parametrize("kind", ["asan", "m4", "rv32", "stm32", "hifive1"])
def test_published_vectors_hold(kind: str, tmp_path: Path) -> None:
    records, count = _records()
    assert count >= 2
    (tmp_path / "noise.bin").write_bytes(records)
    assert run_on(kind, "link-vectors", tmp_path) == f"{count} passed, 0 failed\n"


def test_a_wrong_vector_fails(tmp_path: Path) -> None:
    records, _ = _records()
    (tmp_path / "noise.bin").write_bytes(records[:-1] + bytes([records[-1] ^ 1]))
    with pytest.raises(AssertionError, match="1 failed"):
        run_on("asan", "link-vectors", tmp_path)
