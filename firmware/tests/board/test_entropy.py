"""Ephemeral keys of the real firmware as they are on the wire: no boot ever has one of another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from board_support import BOARDS, POWER_CUT
from device_support import DEADLINE_S, Device
from wasmbed.link import frames
from wasmbed.link.frames import FrameType

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Always the same: nothing but the device's own seed makes a difference.
INVITATION = frames.encode(FrameType.INVITE, b"\1" + bytes(16))
INVITE_AGAIN_S = 3.0
# A boot advances the seed by one record: its head, the record, its check. After a torn one the store moves to its other
# sector: an erasure, two records, the sector's header.
CUTS = (
    *([f"{operation}{where}"] for operation in (1, 2, 3) for where in "bha"),
    *(["2h", f"{operation}{where}"] for operation in (1, 3, 6, 8) for where in "ha"),
)


@pytest.fixture(scope="session")
def images() -> None:
    build(*(BUILD / board / "app-faults.flash" for board in BOARDS))


@contextlib.asynccontextmanager
async def booted(device: Device) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The device with power, and its line."""
    await device.power_on()
    while True:
        with contextlib.suppress(ConnectionRefusedError):  # the socket's file is there before it listens
            reader, writer = await asyncio.open_unix_connection(str(device.flash.with_suffix(".sock")))
            break
        await asyncio.sleep(0.01)
    try:
        yield reader, writer
    finally:
        writer.close()
        await device.power_off()


async def ephemerals(device: Device, count: int) -> list[bytes]:
    """What a boot sends as its ephemeral keys when it is invited so often; message 1 begins with them."""
    found: list[bytes] = []
    framer = frames.FrameReader()
    async with asyncio.timeout(DEADLINE_S), booted(device) as (reader, writer):
        while len(found) < count:
            # The device begins a handshake a second at most.
            writer.write(INVITATION)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INVITE_AGAIN_S):
                    got = len(found)
                    while len(found) == got:
                        data = await reader.read(4096)
                        assert data, "the board stopped"
                        found += [frame.body[:32] for frame in framer.feed(data) if frame.kind == FrameType.MESSAGE1]
    return found


async def loses_power(flash: Path, board: str, cut: str) -> None:
    """A boot that ends in the advance of its seed, before it has said anything."""
    device = Device(board, flash, "app-faults", f"cut={cut}")
    async with asyncio.timeout(DEADLINE_S), booted(device) as (reader, _):
        assert await reader.read() == b""
        assert device.process is not None
        assert await device.process.wait() == POWER_CUT


async def test_no_two_boots_share_an_ephemeral_key(images: None, board_name: str, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    device = Device(board_name, flash, "app-faults")
    provisioned = flash.read_bytes()
    keys = await ephemerals(device, 2)
    flash.write_bytes(provisioned)
    assert (await ephemerals(device, 1))[0] == keys[0], "the same flash would: nothing else makes the keys differ"
    for cuts in CUTS:
        for cut in cuts:
            await loses_power(flash, board_name, cut)
        keys += await ephemerals(device, 1)
    assert len(set(keys)) == len(keys) >= 2 + len(CUTS)
