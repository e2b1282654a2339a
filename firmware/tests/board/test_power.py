"""Power cuts while a module comes and starts: at every operation on the flash the device comes back to a good state.

`make test` takes a seeded slice of them; WASMBED_POWER_EVERY=1 each of them, half done and done (`make soak`).
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest
from applications import BAD_INIT, HELLO, HELLO_TWO
from board_support import BOARDS, POWER_CUT
from device_support import DEADLINE_S, Device, compiled, powered

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from wasmbed.runtime import InstanceStatus

EVERY = int(os.environ.get("WASMBED_POWER_EVERY", "9"))
SEED = int(os.environ.get("WASMBED_POWER_SEED", "1"))
# The operations are dealt out to so many tests, for workers side by side.
PARTS = 4 if EVERY == 1 else 1
# More than any of these takes.
MOST_OPERATIONS = 1000
CUT_S = 4 * DEADLINE_S

pytestmark = pytest.mark.timeout(900 if EVERY > 1 else 7200)


@pytest.fixture(scope="session")
def images() -> None:
    build(*(BUILD / board / "app-faults.flash" for board in BOARDS))


def operations(part: int) -> list[tuple[int, str]]:
    """Which operations lose power in a part, and whether half done or done."""
    start = random.Random(SEED).randrange(EVERY)
    every = range(1 + start, MOST_OPERATIONS, EVERY)
    if EVERY > 1:
        return [(number, "ha"[at % 2]) for at, number in enumerate(every)]
    return [(number, where) for number in every if number % PARTS == part for where in "ha"]


async def fails(device: Device, step: Callable[[Device], Awaitable[object]]) -> bool:
    """Do a step on a device; tells whether its power failed in it."""
    await device.power_on()
    assert device.process is not None
    following = asyncio.ensure_future(device.follow())
    await device.connect(True)

    async def whole() -> None:
        await device.ready()
        await step(device)

    running = asyncio.ensure_future(whole())
    dead = asyncio.ensure_future(device.process.wait())
    await asyncio.wait([running, dead], return_when=asyncio.FIRST_COMPLETED, timeout=CUT_S)
    if running.done() and running.exception() is not None:
        await asyncio.wait([dead], timeout=CUT_S)  # the session may see the end of the machine first
    failed = dead.done() and dead.result() == POWER_CUT
    if not failed:
        assert running.done(), "the step does not end"
        running.result()
    for task in (running, following):
        task.cancel()
    await asyncio.gather(running, following, return_exceptions=True)
    await device.connect(False)
    await device.power_off()
    await dead
    return failed


async def cut_everywhere(
    prepared: Device,
    part: int,
    step: Callable[[Device], Awaitable[object]],
    check: Callable[[Device], Awaitable[object]],
) -> list[object]:
    """Cut the step at each operation of the part; what the check gave after each."""
    flash, board, seen = prepared.flash.read_bytes(), prepared.board, []
    for operation, where in operations(part):
        prepared.flash.write_bytes(flash)
        if not await fails(Device(board, prepared.flash, "app-faults", f"cut={operation}{where}"), step):
            print(f"{board} part {part}: {len(seen)} operations were cut")
            return seen
        async with powered(Device(board, prepared.flash, "app-faults")) as device:
            seen.append(await check(device))
    raise AssertionError(f"the step has more than {MOST_OPERATIONS} operations")


@pytest.mark.parametrize("part", range(PARTS))
async def test_update_that_loses_power_leaves_the_old_or_the_new_version(
    images: None, board_name: str, part: int, tmp_path: Path
) -> None:
    async with powered(Device(board_name, tmp_path / "flash.bin", "app-faults")) as prepared:
        await prepared.run(HELLO)
        await prepared.line("hello")
    old, new = compiled(HELLO)[0], compiled(HELLO_TWO)[0]

    async def step(device: Device) -> None:
        await device.mcu.start(device.request(await device.load(HELLO_TWO)))
        await device.line("HELLO")

    async def check(device: Device) -> str:
        (row,) = await device.mcu.list()
        assert row.digest in {old, new}
        await device.line("hello" if row.digest == old else "HELLO")
        assert row.digest in await device.mcu.modules()
        if row.digest == old:
            await step(device)  # and it goes on from there
        return row.digest

    seen = await cut_everywhere(prepared, part, step, check)
    assert old in seen
    assert len(seen) >= 3, "operations were cut"


@pytest.mark.parametrize("part", range(PARTS))
async def test_update_that_is_taken_back_ends_there_wherever_power_fails(
    images: None, board_name: str, part: int, tmp_path: Path
) -> None:
    async with powered(Device(board_name, tmp_path / "flash.bin", "app-faults")) as prepared:
        bad = prepared.request(await prepared.load(BAD_INIT))
        old = await prepared.run(HELLO)
        await prepared.line("hello")

    async def row_of(device: Device) -> InstanceStatus:
        (row,) = await device.mcu.list()
        return row

    async def back(device: Device) -> InstanceStatus:
        """The old version's row, once it runs for good."""
        async with asyncio.timeout(DEADLINE_S):
            while (row := await row_of(device)).key != old.key() or row.state != "Running":  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # its state is asked for
        return row

    async def step(device: Device) -> None:
        before = len(device.states())
        await device.mcu.start(bad)
        await device.until(lambda: any(message for _, message in device.states()[before:]))
        assert (await back(device)).previous == bad.key()

    async def check(device: Device) -> str:
        row = await back(device)
        assert row.previous in {"", bad.key()}
        if row.previous == "":
            await step(device)  # it had not been told of the update, or lost it whole
        return row.previous

    seen = await cut_everywhere(prepared, part, step, check)
    assert seen, "operations were cut"
