"""Firmware images over the secure link, against the firmware's own SMP."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from board import Board, session
from wasmbed.link.mcuboot import McuImages
from wasmbed.runtime import RequestRefused

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers

IMAGE = b"\0image" + bytes(range(256)) * 8
HASH = hashlib.sha256(IMAGE).digest()


async def test_an_image_is_uploaded_tried_confirmed_and_erased(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        images = McuImages(at.mcu)
        assert await images.echo("hello") == "hello"
        (running,) = await images.states()
        assert (running.slot, running.version, running.active, running.pending) == (0, "1.2.3", True, False)
        offsets: list[int] = []
        await images.upload(IMAGE, progress=offsets.append)
        assert offsets[-1] == len(IMAGE)
        assert offsets == sorted(offsets)
        assert [state.digest for state in await images.states()][1] == HASH
        await images.test(HASH)
        await images.confirm()
        with pytest.raises(RequestRefused, match="NOT_FOUND"):
            await images.test(b"\1" * 32)
        await images.erase()
        assert len(await images.states()) == 1


async def test_a_refused_image_is_told(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        with pytest.raises(RequestRefused, match="NO_ROOM"):
            await McuImages(at.mcu).upload(bytes(200_000))


async def test_a_reset_over_the_link_brings_a_new_session(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line")) as at:
        await McuImages(at.mcu).reset()
        await at.until(lambda: len(at.links) >= 2 and at.mcu.up)
        assert await at.mcu.list() == []


async def test_an_image_comes_through_a_line_that_loses_frames(tmp_path: Path) -> None:
    async with session(Board(tmp_path / "line", lose=0.05)) as at:
        await McuImages(at.mcu).upload(IMAGE)
