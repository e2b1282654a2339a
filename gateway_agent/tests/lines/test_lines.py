"""Microcontrollers at a gateway: the boards' own firmware in QEMU, a real agent, API server and registry."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from gateway_site import eventually, wat
from line_site import SMALL, small

if TYPE_CHECKING:
    from line_site import LineSite

pytestmark = pytest.mark.timeout(240)
# Of an instruction that is fetched where nothing is: IBUSERR of CFSR, instruction access fault of mcause.
CAUSES = {"stm32": "0x100", "hifive1": "0x1"}


@pytest.mark.parametrize("board", ["stm32", "hifive1"])
def test_an_application_runs_on_the_board_and_its_lines_arrive(line_site: LineSite, board: str) -> None:
    device = line_site.board(board, "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    digest = line_site.push("small", small("version"))
    line_site.place_on("small", digest, device)
    line_site.wait_state("small", "Running", digest=digest)
    found = line_site.wait_line("small", "version")
    assert found.device == "default/dev-1"
    assert line_site.metric('wasmbed_agent_line_received_bytes{device="default/dev-1"}') > 0
    # The power fails: the module is still there, and runs again without being brought anew.
    device.off()
    line_site.wait_link("dev-1", "Disconnected")
    device.on()
    line_site.wait_link("dev-1", "Connected")
    line_site.wait_state("small", "Running", digest=digest)
    assert line_site.wait_line("small", "version").word != found.word
    line_site.remove("small")
    eventually(lambda: not any("version" in line.text for line in line_site.new_lines()[-3:]), "silence", 60)


@pytest.mark.parametrize("board", ["stm32", "hifive1"])
def test_a_new_version_that_fails_is_taken_back_by_the_board(line_site: LineSite, board: str) -> None:
    """As the gateway's own runtime does it, in the same words."""
    device = line_site.board(board, "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    digest = line_site.push("back", small("version"))
    line_site.place_on("back", digest, device)
    line_site.wait_state("back", "Running", digest=digest)
    broken = line_site.push(
        "back", wat(SMALL.replace("(i32.const 0)))", "(unreachable)))"), VERSION="trapped", PERIOD="200")
    )
    assert broken != digest
    line_site.place_on("back", broken, device)
    state = line_site.wait_state("back", "Failed", digest=broken)
    assert state["reason"] == "DeviceError"
    assert state["message"].startswith("update failed: unreachable: f")
    assert state["message"].endswith(f"; {digest[:19]} runs again")
    assert line_site.wait_line("back", "version ")
    better = line_site.push("back", small("betterv"))
    line_site.place_on("back", better, device)
    line_site.wait_state("back", "Running", digest=better)
    assert line_site.wait_line("back", "betterv")


def test_a_board_that_is_away_is_disconnected_and_an_agent_that_restarts_finds_it(line_site: LineSite) -> None:
    device = line_site.board("hifive1", "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    line_site.place_on("small", line_site.push("small", small()), device)
    line_site.wait_state("small", "Running")
    word = line_site.wait_line("small").word
    assert line_site.agent is not None
    line_site.agent.kill()
    line_site.start_agent()
    line_site.wait_link("dev-1", "Connected")
    # It is the same run: nothing was started anew.
    assert line_site.wait_line("small").word == word


def test_a_board_with_another_key_gets_nothing_until_the_slice_has_it(line_site: LineSite) -> None:
    device = line_site.board("stm32", "dev-1")
    line_site.begin(known=False)
    line_site.slice({"dev-1": "A" * 43 + "="})
    eventually(lambda: line_site.refusals("WrongKey"), "a refusal", 60)
    assert device.public_key in line_site.log.read_text()
    assert line_site.link("dev-1").get("state") != "Connected"
    line_site.slice({"dev-1": device.public_key})
    line_site.wait_link("dev-1", "Connected")
    # And a revoked one loses its session at once.
    line_site.slice({"dev-1": device.public_key}, revoked=True)
    line_site.wait_link("dev-1", "Disconnected")
    assert line_site.refusals("Revoked") == 1


def test_a_copy_of_a_device_at_another_line_is_refused(line_site: LineSite) -> None:
    device = line_site.board("stm32", "dev-1")
    copy = line_site.board("stm32", "dev-2")
    copy.off()
    shutil.copyfile(device.flash, copy.flash)
    line_site.begin(known=False)
    line_site.slice({"dev-1": device.public_key})
    line_site.wait_link("dev-1", "Connected")
    copy.on()
    eventually(lambda: line_site.refusals("Duplicate"), "a refusal", 60)
    line_site.place_on("small", line_site.push("small", small()), device)
    line_site.wait_state("small", "Running")


@pytest.mark.parametrize("board", ["stm32", "hifive1"])
def test_a_crash_is_told_with_its_place_once_and_forgotten_on_the_board(line_site: LineSite, board: str) -> None:
    device = line_site.board(board, "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    line_site.place_on("small", line_site.push("small", small()), device)
    line_site.wait_state("small", "Running")
    word = line_site.wait_line("small").word
    of = 'device="default/dev-1"'
    assert line_site.metric(f"wasmbed_agent_line_crashes_total{{{of}") == 0
    device.crash()
    eventually(lambda: line_site.metric(f"wasmbed_agent_line_crashes_total{{{of}") == 1, "the record was fetched", 60)
    (line,) = [line for line in line_site.log.read_text().splitlines() if "device crashed" in line]
    assert f"device=default/dev-1 what=instruction kind=4 cause={CAUSES[board]} pc=0x60000000 " in line
    assert " count=1 reset=crash" in line
    (figure,) = [text for text in line_site.metrics().splitlines() if text.startswith("wasmbed_agent_line_last_crash{")]
    for label in (of, 'what="instruction"', f'cause="{CAUSES[board]}"', 'pc="0x60000000"', 'reset="crash"'):
        assert label in figure
    # Its applications run again, and the record is gone there.
    eventually(lambda: line_site.wait_line("small").word != word, "the application runs again", 60)
    eventually(lambda: line_site.metric(f"wasmbed_agent_line_crashed{{{of}") == 0, "the record is forgotten", 60)
    boots = f'wasmbed_agent_line_device{{counter="boots",{of}}}'
    eventually(lambda: line_site.metric(boots) == 2, "its own counters", 60)
