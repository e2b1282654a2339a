"""What happens when something dies: rows of docs/link.md and docs/firmware.md that no other test is about."""

from __future__ import annotations

import asyncio
import signal
import struct
from typing import TYPE_CHECKING

import pytest
from applications import application
from board_support import BOARDS
from device_support import DEVICE, Device, powered
from wasmbed.runtime import Provision

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PX4 = Provision(device=DEVICE, available=("px4",), link=True, sensors=())
GRANTS = ("wasmbed:sys", "wasmbed:px4")
SETPOINT_MS = 50
# Longer than the main loop may give no sign of life (HAL_SUPERVISION_US).
HELD_S = 6.0
# Longer than a setpoint may wait, by far.
GAP = 3000 // SETPOINT_MS


@pytest.fixture(scope="session")
def images() -> None:
    build(*(BUILD / board / "app.flash" for board in BOARDS))


@pytest.fixture
async def device(images: None, board_name: str, tmp_path: Path) -> AsyncIterator[Device]:
    async with powered(Device(board_name, tmp_path / "flash.bin")) as running:
        yield running


async def test_application_hears_nothing_of_an_agent_that_restarts(device: Device) -> None:
    """The new agent learns from the list what runs, and starts nothing anew."""
    text = application(
        "timer",
        data='(data (i32.const 0) "begantick")',
        init="""(call $say (i32.const 0) (i32.const 5))
                (drop (call $timer (i32.const 0) (i32.const 100) (i32.const 100)))""",
        event="""(if (i32.eq (local.get $type) (i32.const 1)) (then (call $say (i32.const 5) (i32.const 4)))
                   (else (call $number (local.get $type))))""",
    )
    request = await device.run(text)
    await device.line("tick", 3)
    await device.connect(False)
    device.mcu = device.new_session()
    device.links.clear()
    following = asyncio.ensure_future(device.follow())
    await device.connect(True)
    await device.ready()
    (row,) = await device.mcu.list()
    assert (row.key, row.state, row.restarts) == (request.key(), "Running", 0)
    await device.line("tick", device.lines().count("tick") + 5)
    assert set(device.lines()) == {"began", "tick"}, "and no LINK event"
    assert device.lines().count("began") == 1
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_machine_that_its_host_held_is_not_taken_for_a_stuck_one(device: Device) -> None:
    """A busy host had idle boards reset: their clock had gone on while they could not run."""
    text = application(
        "timer",
        data='(data (i32.const 0) "begantick")',
        init="""(call $say (i32.const 0) (i32.const 5))
                (drop (call $timer (i32.const 0) (i32.const 1000) (i32.const 1000)))""",
        event="(call $say (i32.const 5) (i32.const 4))",
    )
    await device.run(text)
    # It sleeps between two ticks.
    await device.line("tick")
    assert device.process is not None
    device.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(HELD_S)
    device.process.send_signal(signal.SIGCONT)
    await device.line("tick", device.lines().count("tick") + 2)
    assert device.lines().count("began") == 1
    await device.ready()
    assert await device.mcu.crash() is None


async def test_what_an_application_owned_is_released_when_it_fails(device: Device) -> None:
    text = application(
        "timer acquire command",
        init="""(call $number (call $acquire)) (drop (call $command (i32.const 600)))
                (drop (call $timer (i32.const 0) (i32.const 300) (i32.const 0)))""",
        event="unreachable",
    )
    await device.mcu.provide(PX4)
    await device.run(text, grants=GRANTS, rights=("px4-command",))
    await device.until(lambda: any(request.op == "release" for request in device.requests()))
    asked = [(request.op, tuple(request.args)) for request in device.requests()]
    assert asked[-1] == ("release", ("failed",))
    assert asked[0] == ("acquire", ())
    # It runs again, and may own the vehicle again.
    await device.line("0", 2)


async def test_setpoint_that_has_waited_is_never_sent(device: Device) -> None:
    """A line that is out for less than three heartbeats: what was asked meanwhile is too old to be flown."""
    text = application(
        "timer acquire setpoint",
        init=f"""(call $number (call $acquire))
                 (drop (call $timer (i32.const 0) (i32.const {SETPOINT_MS}) (i32.const {SETPOINT_MS})))""",
        event="""(i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (i32.const 1)))
                 (drop (call $setpoint (i32.const 600)))""",
    )

    def numbers() -> list[int]:
        """Of the setpoints that came."""
        return [struct.unpack_from("<I", item.data or b"")[0] for item in device.requests() if item.op == "setpoint"]

    await device.mcu.provide(PX4)
    await device.run(text, grants=GRANTS, rights=("px4-offboard",))
    await device.until(lambda: len(numbers()) >= 5)
    out_s, jump = 4.0, 0
    while jump < GAP:
        # The machine's time goes slower than the host's when the host is busy.
        before = len(numbers())
        await device.pull_line(out_s)
        await device.ready()
        await device.until(lambda before=before: len(numbers()) >= before + 3)
        came = numbers()
        assert came == sorted(set(came)), "each once, in order"
        jump = came[before] - came[before - 1]
        out_s *= 1.5
    assert came[before + 1] - came[before] < GAP // 2, "the first that came was not one that had waited"
