"""Every kind of fault leaves its record and the board comes back by itself."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.firmware import BUILD

if TYPE_CHECKING:
    from board_support import Board

NM = {"stm32": "arm-none-eabi-nm", "hifive1": "riscv64-unknown-elf-nm"}
ACCESS_STM32, FETCH_STM32 = 0x82, 0x01
# kind of record, cause and address of each board; None: not compared, it differs by build.
FAULTS = {
    "undefined": ("instruction", {"stm32": (0x10000, 0), "hifive1": (2, 0)}),
    "null": ("access", {"stm32": (ACCESS_STM32, 8), "hifive1": (5, 8)}),
    "store": ("access", {"stm32": (ACCESS_STM32, 0x080A0000), "hifive1": (7, 0x204A0000)}),
    "stack": ("stack", {"stm32": (None, None), "hifive1": (7, None)}),
    "execute": ("instruction", {"stm32": (FETCH_STM32, 0), "hifive1": (1, None)}),
    "loader": ("access", {"stm32": (ACCESS_STM32, 0x08000000), "hifive1": (5, 0x20400000)}),
    "nowhere": ("access", {"stm32": (0x8200, 0x60000000), "hifive1": (5, 0x60000000)}),
    "panic": ("panic", {"stm32": (0x1234, 0), "hifive1": (0x1234, 0)}),
}


def record(board: Board) -> tuple[str, dict[str, int]]:
    line = board.command("c")
    return line, {name: int(value, 16) for name, value in re.findall(r"(\w+)=([0-9a-f]{8})", line)}


def code_of(board: str, function: str) -> range:
    """Where a function lies."""
    listing = subprocess.run(
        [NM[board], "-S", str(BUILD / board / "exerciser.elf")], check=True, capture_output=True, text=True
    ).stdout
    for line in listing.splitlines():
        fields = line.split()
        if fields[-1] == function and len(fields) == 4:
            return range(int(fields[0], 16) & ~1, (int(fields[0], 16) & ~1) + int(fields[1], 16))
    raise AssertionError(f"no {function}")


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_its_record_and_the_board_starts_again(board: Board, board_name: str, fault: str) -> None:
    board.send(f"f {fault}\n".encode())
    assert board.line().endswith(" reset=fault boots=00000002 flash=ok")
    kind, expected = FAULTS[fault]
    line, values = record(board)
    assert line.startswith(f"{kind} reason=fault ")
    cause, address = expected[board_name]
    if cause is not None:
        assert values["cause"] == cause
    if address is not None:
        assert values["address"] == address
    assert values["sequence"] == 1
    if fault in {"undefined", "null", "store", "loader", "nowhere"}:
        assert values["pc"] in code_of(board_name, "fault")


def test_stack_overflow_is_caught_at_the_first_word_below(board: Board, board_name: str) -> None:
    """Nothing in RAM lies below the main stack: the guard begins where the RAM does."""
    board.send(b"f stack\n")
    board.line()
    values = record(board)[1]
    bottom = {"stm32": 0x20000000, "hifive1": 0x80000000}[board_name]
    assert bottom - 256 <= values["address"] < bottom


def test_division_by_zero_traps_where_the_core_can(board: Board, board_name: str) -> None:
    board.send(b"f divide\n")
    if board_name == "hifive1":
        assert board.line() == "no fault"  # RISC-V defines a result
        return
    assert " reset=fault " in board.line()
    assert record(board)[0].startswith("arithmetic ")


def test_stuck_main_loop_is_reset_and_its_place_kept(board: Board, board_name: str) -> None:
    board.send(b"f stuck\n")
    assert board.line().endswith(" reset=supervision boots=00000002 flash=ok")
    line, values = record(board)
    assert line.startswith("supervision reason=supervision ")
    assert values["place"] == 0x77
    assert values["pc"] in code_of(board_name, "fault")
    assert 4000 <= values["uptime"] <= 4500


def test_record_survives_resets_until_it_is_cleared(board: Board) -> None:
    board.send(b"f null\n")
    board.line()
    first = board.command("c")
    board.send(b"r\n")
    board.line()
    assert board.command("c") == first
    board.qmp("system_reset")
    board.line()
    assert board.command("c") == first
    assert board.command("C") == "ok"
    assert board.command("c") == "none"
    board.send(b"f panic\n")
    board.line()
    assert record(board)[1]["sequence"] == 2
