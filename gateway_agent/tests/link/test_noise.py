"""The gateway's Noise against the published vectors (crate `snow`, fetched by cargo) and against tampering."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.link import noise

from tests.support.noise_vectors import vectors


def _pair(row: dict[str, Any]) -> tuple[noise.Handshake, noise.Handshake]:
    key = {
        name: bytes.fromhex(row[name]) for name in ("init_static", "init_ephemeral", "resp_static", "resp_ephemeral")
    }
    initiator = noise.Handshake(
        prologue=bytes.fromhex(row["init_prologue"]),
        private=key["init_static"],
        remote=noise.public_key(key["resp_static"]),
        ephemeral=key["init_ephemeral"],
    )
    responder = noise.Handshake(
        prologue=bytes.fromhex(row["resp_prologue"]), private=key["resp_static"], ephemeral=key["resp_ephemeral"]
    )
    return initiator, responder


def test_published_vectors_hold() -> None:
    rows = vectors()
    assert len(rows) >= 2
    for row in rows:
        initiator, responder = _pair(row)
        messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in row["messages"]]
        assert initiator.write1(messages[0][0]) == messages[0][1]
        assert responder.read1(messages[0][1]) == messages[0][0]
        assert responder.write2(messages[1][0]) == messages[1][1]
        assert initiator.read2(messages[1][1]) == messages[1][0]
        if "handshake_hash" in row:
            assert initiator.hash == responder.hash == bytes.fromhex(row["handshake_hash"])
        keys = initiator.split()
        assert keys == responder.split()
        for index, (payload, sealed) in enumerate(messages[2:]):
            assert noise.seal(keys[index % 2], index // 2, payload) == sealed
            assert noise.unseal(keys[index % 2], index // 2, sealed) == payload


def _handshake() -> tuple[noise.Handshake, noise.Handshake, bytes]:
    responder_key = noise.new_private_key()
    initiator = noise.Handshake(
        prologue=b"both", private=noise.new_private_key(), remote=noise.public_key(responder_key)
    )
    return initiator, noise.Handshake(prologue=b"both", private=responder_key), responder_key


@given(st.integers(0, noise.MESSAGE1_BYTES * 8 - 1))
def test_one_wrong_bit_in_message_1_is_refused(bit: int) -> None:
    initiator, responder, _ = _handshake()
    message = bytearray(initiator.write1())
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(noise.NoiseError):
        responder.read1(bytes(message))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    _, responder, _ = _handshake()
    with pytest.raises(noise.NoiseError):
        responder.read1(data)


def test_another_prologue_is_refused() -> None:
    initiator, _, responder_key = _handshake()
    responder = noise.Handshake(prologue=b"other", private=responder_key)
    with pytest.raises(noise.NoiseError):
        responder.read1(initiator.write1())


def test_a_key_of_low_order_is_refused() -> None:
    _, responder, _ = _handshake()
    with pytest.raises(noise.NoiseError):
        responder.read1(bytes(noise.MESSAGE1_BYTES))
