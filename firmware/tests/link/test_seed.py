"""The random generator: its standard, and that no two boots ever share what they generate, wherever the power fails."""

from __future__ import annotations

import ctypes
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_support import Device, Shim
from wasmbed.link import frames
from wasmbed.link.frames import FrameType

RECORD_BYTES = 44
NEVER = 0xFFFFFFFF
NONCE = bytes(range(16))


@pytest.fixture(scope="module")
def shim() -> Shim:
    return Shim()


@pytest.fixture
def device(shim: Shim) -> Device:
    return Device(shim)


class Drbg:
    """HMAC_DRBG with SHA-256 as NIST SP 800-90A 10.1.2 writes it, prediction resistance and reseeding left out."""

    def __init__(self, seed: bytes) -> None:
        self.key, self.value = bytes(32), b"\1" * 32
        self.update(seed)

    def update(self, data: bytes) -> None:
        for mark in (b"\0", b"\1") if data else (b"\0",):
            self.key = hmac.digest(self.key, self.value + mark + data, "sha256")
            self.value = hmac.digest(self.key, self.value, "sha256")

    def generate(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self.value = hmac.digest(self.key, self.value, "sha256")
            out += self.value
        self.update(b"")
        return out[:count]


def record(number: int, seed: bytes) -> bytes:
    data = b"WBSD" + number.to_bytes(4, "little") + seed
    return data + hashlib.sha256(data).digest()[:4]


@given(st.binary(min_size=32, max_size=32))
def test_the_generator_is_that_of_the_standard(shim: Shim, seed: bytes) -> None:
    out = ctypes.create_string_buffer(64)
    shim.shim_drbg(record(5, seed), out)
    stored = Drbg(seed)
    stored.generate(32)
    expected = Drbg(stored.generate(32))
    expected.update(b"nonce")
    assert out.raw == expected.generate(32) + expected.generate(32)


def ephemeral(device: Device, now_ms: int) -> bytes | None:
    """The ephemeral public key that this boot's first handshake shows; None when the device stays silent."""
    if not device.boot(now_ms):
        return None
    device.output(4096, now_ms)
    device.input(frames.encode(FrameType.INVITE, b"\1" + NONCE), now_ms)
    (frame,) = frames.FrameReader().feed(device.output(4096, now_ms))
    assert frame.kind == FrameType.MESSAGE1
    return frame.body[:32]


def test_boots_never_share_an_ephemeral_key(device: Device) -> None:
    found = [ephemeral(device, now) for now in range(50)]
    assert None not in found
    assert len(set(found)) == 50


def test_the_stored_seed_is_not_what_the_boot_uses_and_never_comes_again(device: Device) -> None:
    seeds = []
    for now in range(20):
        device.boot(now)
        seeds += [bytes(device.seed(slot)[8:40]) for slot in (0, 1)]
    # Each record is seen by two boots, and no seed by more: 21 seeds, and what an erased slot holds at first never.
    assert len(set(seeds)) == 21


def test_power_cut_at_every_byte_of_the_seed_write_shares_no_key(shim: Shim) -> None:
    seen: dict[bytes, tuple[int, int]] = {}
    for boots_before in (0, 1, 2):
        for cut in range(RECORD_BYTES + 1):
            device = Device(shim)
            # A seed of its own for each run, so that all keys ever made can be compared.
            device.set_seed(0, record(1, hashlib.sha256(bytes([boots_before, cut])).digest()))
            for boot in range(boots_before + 3):
                device.cut_seed_write_after(cut if boot == boots_before else NEVER)
                key = ephemeral(device, boot)
                if boot == boots_before and cut < RECORD_BYTES:
                    assert key is None, "a boot that could not store the next seed must stay silent"
                    continue
                assert key is not None, "a torn record must not take the device off the line"
                assert key not in seen, (seen[key], (boots_before, cut))
                seen[key] = (boots_before, cut)
            device.close()
    assert len(seen) == 3 * (RECORD_BYTES + 1) * 3 + sum((0, 1, 2)) * (RECORD_BYTES + 1) - 3 * RECORD_BYTES


def test_a_device_without_a_seed_stays_silent(device: Device) -> None:
    for slot in (0, 1):
        device.set_seed(slot, b"\xff" * RECORD_BYTES)
    assert device.boot(0) is False
    device.input(frames.encode(FrameType.INVITE, b"\1" + NONCE), 5000)
    assert device.output(4096, 5000) == b""


@given(st.integers(0, RECORD_BYTES * 8 - 1))
def test_a_record_with_a_wrong_bit_is_none(shim: Shim, bit: int) -> None:
    device = Device(shim)
    bad = bytearray(record(9, b"\7" * 32))
    bad[bit // 8] ^= 1 << bit % 8
    device.set_seed(0, bytes(bad))
    assert device.boot(0) is False
    device.close()


def test_numbers_of_records_may_wrap(device: Device) -> None:
    device.set_seed(0, record(0xFFFFFFFF, b"\7" * 32))
    device.boot(0)
    assert int.from_bytes(device.seed(1)[4:8], "little") == 0
    device.boot(1)
    assert int.from_bytes(device.seed(0)[4:8], "little") == 1
