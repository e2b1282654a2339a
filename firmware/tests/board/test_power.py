"""Power cuts while a module comes and starts: at every operation on the flash the device comes back to a good state."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from applications import HELLO, HELLO_TWO
from board_support import POWER_CUT
from device_support import Device, compiled, powered

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from pathlib import Path

# Of an upload of this size with its start, and of the two starts of the board before: more operations than there are.
MOST_OPERATIONS = 400
# A slice of them; WASMBED_POWER_EVERY=1 takes all, half done and done.
EVERY = int(os.environ.get("WASMBED_POWER_EVERY", "7"))


async def step(device: Device) -> None:
    """Bring another version and run it; ends early when the power fails."""
    digest = await device.load(HELLO_TWO)
    await device.mcu.start(device.request(digest))
    await device.line("HELLO")


@pytest.mark.timeout(600 if EVERY > 1 else 7200)
async def test_update_that_loses_power_leaves_the_old_or_the_new_version(board_name: str, tmp_path: Path) -> None:
    build(BUILD / board_name / "app-faults.flash")
    flash = tmp_path / "flash.bin"
    device = Device(board_name, flash, program="app-faults")
    async with powered(device):
        await device.run(HELLO)
        await device.line("hello")
    prepared = flash.read_bytes()
    old, new = compiled(HELLO)[0], compiled(HELLO_TWO)[0]
    ended = 0
    seen = set()
    for operation in range(1, MOST_OPERATIONS, EVERY):
        where = "ha"[ended % 2]
        flash.write_bytes(prepared)
        device = Device(board_name, flash, program="app-faults", cut=f"cut={operation}{where}")
        async with until_the_power_fails(device) as failed:
            pass
        if not failed:
            break
        ended += 1
        device = Device(board_name, flash, program="app-faults")
        async with powered(device):
            (row,) = await device.mcu.list()
            assert row.digest in {old, new}
            await device.line("hello" if row.digest == old else "HELLO")
            assert row.digest in await device.mcu.modules()
            seen.add(row.digest)
            if ended % 4 == 0:
                await step(device)
    assert ended > 3, "operations were cut"
    assert old in seen


@contextlib.asynccontextmanager
async def until_the_power_fails(device: Device):  # type: ignore[no-untyped-def]
    """Runs the update on a device; gives whether its power failed in it."""
    await device.power_on()
    assert device.process is not None
    following = asyncio.ensure_future(device.follow())
    await device.connect(True)
    running = asyncio.ensure_future(whole(device))
    dead = asyncio.ensure_future(device.process.wait())
    await asyncio.wait([running, dead], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    if running.done() and running.exception() is not None:
        await asyncio.wait([dead], timeout=60)  # the session may see the end of the machine first
    failed = dead.done() and dead.result() == POWER_CUT
    for task in (running, following):
        task.cancel()
    await asyncio.gather(running, following, return_exceptions=True)
    await device.connect(False)
    await device.power_off()
    await dead
    yield failed


async def whole(device: Device) -> None:
    """A session and the update."""
    await device.ready()
    await step(device)
