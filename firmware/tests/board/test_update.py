"""Updates of a running application on both boards: one that fails on trial is taken back by the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from applications import BAD_INIT, HELLO, HELLO_TWO, TRAPS, application
from board_support import BOARDS
from device_support import Device, compiled, powered
from wasmbed.runtime import RequestRefused, StateEvent

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wasmbed.runtime import InstanceStatus, StartRequest


@pytest.fixture(scope="session")
def images() -> None:
    # Test builds have a trial of 10 s.
    build(*(BUILD / board / f"{program}.flash" for board in BOARDS for program in ("app", "app-faults")))


@pytest.fixture
async def device(images: None, board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    async with powered(Device(board_name, tmp_path / "flash.bin")) as running:
        yield running


# Says 1, 2, ... over its updates: the number is its state.
KEEPS = application(
    "state_put state_get",
    init="""(drop (call $state_get (i32.const 600) (i32.const 4)))
            (i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 1)))
            (call $number (i32.load (i32.const 600)))""",
    more='(func (export "wasmbed_save") (result i32) (call $state_put (i32.const 600) (i32.const 4)))',
)


async def row_of(device: Device) -> InstanceStatus:
    (row,) = await device.mcu.list()
    return row


async def taken_back(device: Device, old: StartRequest, new: StartRequest) -> None:
    """Wait until the old version runs again, and the gateway has been told."""
    await device.until(
        lambda: any(isinstance(event, StateEvent) and event.rolled_back == new.key() for event in device.events)
    )
    await device.state("Running")
    row = await row_of(device)
    assert (row.digest, row.key, row.previous) == (old.digest, old.key(), new.key())
    assert (row.state, row.reason) == ("Running", "")


async def test_update_that_traps_is_taken_back_and_the_reason_told(device: Device) -> None:
    old = await device.run(HELLO)
    await device.line("tick")
    new = await device.run(TRAPS)
    await taken_back(device, old, new)
    await device.line("hello", 2)
    row = await row_of(device)
    assert row.message.startswith("update failed: unreachable: f"), "as a gateway's runtime says it"
    assert row.message.endswith(f"; {old.digest[:19]} runs again")
    assert row.restarts == 1
    assert device.states()[-1] == ("Running", row.message)
    assert device.lines().count("began") == 1, "it was not tried twice"
    # A reset changes nothing of that.
    await device.power_off()
    await device.power_on()
    await device.line("hello", 3)
    again = await row_of(device)
    assert (again.key, again.previous, again.message) == (row.key, row.previous, row.message)
    # And the next update forgets it.
    better = await device.run(HELLO_TWO)
    await device.line("TICK")
    row = await row_of(device)
    assert (row.key, row.previous, row.message) == (better.key(), "", "")


async def test_version_before_goes_on_with_the_state_it_had_saved(device: Device) -> None:
    old = await device.run(KEEPS)
    await device.line("1")
    await taken_back(device, old, await device.run(BAD_INIT))
    await device.line("2")


async def test_module_of_the_version_before_is_kept_as_long_as_the_update_is_on_trial(device: Device) -> None:
    old = await device.run(HELLO)
    await device.line("tick")
    new = await device.run(HELLO_TWO)
    await device.line("TICK")
    with pytest.raises(RequestRefused):
        await device.mcu.remove(old.digest)
    # Other modules find a place, but never that of either version.
    for number in range(3):
        await device.load(HELLO.replace("hello", f"text{number}"))
    assert {old.digest, new.digest} < set(await device.mcu.modules())
    # A reset begins the trial anew; a second update on trial goes back to the version that was proven.
    await device.power_off()
    await device.power_on()
    await device.line("HELLO", 2)
    await taken_back(device, old, await device.run(TRAPS))
    await device.mcu.remove(new.digest)


async def test_update_on_trial_can_be_stopped_and_replaced_by_the_version_before(device: Device) -> None:
    old = await device.run(HELLO)
    await device.line("tick")
    await device.run(HELLO_TWO)
    await device.line("TICK")
    await device.mcu.start(old)
    await device.line("hello", 2)
    row = await row_of(device)
    assert (row.key, row.previous) == (old.key(), "")
    new = await device.run(HELLO_TWO)
    await device.line("HELLO", 2)
    await device.mcu.stop(new.instance)
    before = len(device.links)
    await device.qmp("system_reset")
    await device.until(lambda: len(device.links) > before and device.links[-1].up)
    assert await device.mcu.list() == []
    await device.mcu.remove(old.digest)


async def test_update_that_has_held_its_time_is_not_taken_back(board_name: str, images: None, tmp_path: Path) -> None:
    late = TRAPS.replace("(i32.const 20) (i32.const 20)", "(i32.const 6000) (i32.const 6000)")
    assert late != TRAPS
    async with powered(Device(board_name, tmp_path / "flash.bin", program="app-faults")) as device:
        old = await device.run(HELLO)
        await device.line("tick")
        new = await device.run(late)
        await device.state("Failed")
        row = await row_of(device)
        assert (row.key, row.previous) == (new.key(), "")
        await device.line("began", 2)
        await device.mcu.remove(old.digest)
        assert compiled(HELLO)[0] not in await device.mcu.modules()
