"""Rules of the flash, and the store through a power cut at every operation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from board_support import POWER_CUT
from wasmbed.tools import flash_file

from tests.support.firmware import FIRMWARE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from board_support import Board

OK, RANGE, PROTECTED, RULE = range(4)
MODULE0, SLOT0, BOOT = 0xA0000, 0x20000, 0
STORE_A = 0x8000
SECTOR = {"stm32": 0x20000, "hifive1": 0x1000}


def status(board: Board, text: str) -> int:
    return board.values(text)["status"]


def test_erase_and_program_are_seen_in_the_running_machine_and_in_the_file(
    board: Board, board_name: str, flash: Path
) -> None:
    assert status(board, f"F P {MODULE0:x} 0123456789ab") == OK
    assert board.command(f"F R {MODULE0:x} 8") == "0123456789abffff"
    at = flash_file.FILE_OFFSET + MODULE0
    assert flash.read_bytes()[at : at + 8] == bytes.fromhex("0123456789abffff")
    assert status(board, f"F E {MODULE0:x}") == OK
    assert board.command(f"F R {MODULE0:x} 8") == "ff" * 8
    assert flash.read_bytes()[at : at + SECTOR[board_name]] == b"\xff" * SECTOR[board_name]


def test_bits_only_go_from_one_to_zero(board: Board) -> None:
    assert status(board, f"F P {MODULE0:x} f0") == OK
    assert status(board, f"F P {MODULE0:x} 30") == OK
    assert status(board, f"F P {MODULE0:x} ff55") == OK
    assert status(board, f"F P {MODULE0:x} 0031") == RULE, "the second byte breaks the rule"
    assert board.command(f"F R {MODULE0:x} 2") == "3055", "nothing of a refused write is there"


def test_loader_and_running_image_are_not_written(board: Board) -> None:
    for offset in (BOOT, 0x7FFC, SLOT0, SLOT0 + 0x3FFFC):
        assert status(board, f"F P {offset:x} 00") == PROTECTED
    assert status(board, f"F P {SLOT0 - 2:x} 00000000") == PROTECTED
    assert status(board, f"F E {BOOT:x}") == PROTECTED
    assert status(board, f"F E {SLOT0:x}") == PROTECTED


def test_what_is_no_place_is_refused(board: Board) -> None:
    assert status(board, f"F E {MODULE0 + 4:x}") == RANGE
    assert status(board, "F E 100000") == RANGE
    assert status(board, "F P fffff 0000") == RANGE
    assert status(board, "F P ffffffff 0000") == RANGE


@pytest.mark.parametrize(("where", "left"), [("b", "ffffffff"), ("h", "1234ffff"), ("a", "12345678")])
def test_power_cut_in_a_write_leaves_what_was_done(start: Callable[..., Board], where: str, left: str) -> None:
    board = start()
    board.line()
    assert board.command(f"F X 1 {where}") == "ok"
    board.send(f"F P {MODULE0:x} 12345678\n".encode())
    assert board.exit_code() == POWER_CUT
    again = start()
    again.line()
    assert again.command(f"F R {MODULE0:x} 4") == left


# Records that fill the sector of the store: 4,096 bytes less header, seed and a short one, 88 each.
PUTS_UNTIL_FULL = (4096 - 12 - 52 - 12) // 88
OLD, NEW = "11" * 80, "22" * 80


@pytest.mark.parametrize("where", "bha")
@pytest.mark.parametrize(("puts", "operations"), [(1, 3), (PUTS_UNTIL_FULL, 11)], ids=["append", "move"])
def test_store_is_whole_after_a_power_cut_at_any_operation(
    start: Callable[..., Board], flash: Path, where: str, puts: int, operations: int
) -> None:
    """Appending takes 3 operations; moving to the other sector an erase, 3 a record and the header."""
    with start() as board:
        board.line()
        assert board.command("S O") == "ok"
        assert board.command("S P 3 aabbcc") == "ok"
        for _ in range(puts):
            assert board.command(f"S P 4 {OLD}") == "ok"
    prepared = flash.read_bytes()
    for operation in range(1, operations + 1):
        flash.write_bytes(prepared)
        with start() as board:
            board.line()
            assert board.command("S O") == "ok"
            assert board.command(f"F X {operation:x} {where}") == "ok"
            board.send(f"S P 4 {NEW}\n".encode())
            assert board.exit_code() == POWER_CUT
        with start() as again:
            again.line()
            assert again.command("S O") == "ok"
            assert again.command("S G 3") == "aabbcc"
            kept = again.command("S G 4")
            assert kept == (NEW if operation == operations and where == "a" else OLD)
            assert flash_file.Flash.decode(flash.read_bytes()).records[4].hex() == kept
            assert again.command(f"S P 4 {NEW}") == "ok", "and it goes on after the cut"
            assert again.command("S G 4") == NEW
            assert again.command("S G 3") == "aabbcc"
    flash.write_bytes(prepared)
    with start() as board:
        board.line()
        board.command("S O")
        board.command("F X 0 b")
        assert board.command(f"S P 4 {NEW}") == "ok"
        assert board.values("F N")["operations"] == operations, "every operation had its cut"


def test_records_and_the_seed_survive_many_moves(start: Callable[..., Board], flash: Path) -> None:
    seed = flash_file.Flash.decode(flash.read_bytes()).records[flash_file.STORE_SEED_0]
    with start() as board:
        board.line()
        assert board.command("S O") == "ok"
        assert board.command("S P 3 0102") == "ok"
        for number in range(3 * PUTS_UNTIL_FULL):
            assert board.command(f"S P 4 {number:04x}{'33' * 78}") == "ok"
    with start() as board:
        board.line()
        board.command("S O")
        assert board.command("S G 3") == "0102"
        assert board.command("S G 1") == seed.hex()
        assert board.command("S G 4").startswith(f"{3 * PUTS_UNTIL_FULL - 1:04x}")


def test_store_without_a_valid_sector_is_no_store(start: Callable[..., Board], flash: Path) -> None:
    """Never the provisioned seed again: a device that lost its store has none."""
    data = bytearray(flash.read_bytes())
    data[flash_file.FILE_OFFSET + STORE_A + 4] ^= 1
    flash.write_bytes(data)
    board = start()
    board.line()
    assert board.command("S O") == "none"
    assert board.command("S P 4 00") == "failed"


def test_map_is_the_same_in_c_and_python() -> None:
    header = (FIRMWARE / "include" / "flash_map.h").read_text()
    numbers = {name: int(value, 16) for name, value in re.findall(r"#define (FLASH_\w+) (0x[0-9a-f]+)u", header)}
    assert numbers["FLASH_BYTES"] == flash_file.FLASH_BYTES
    assert numbers["FLASH_FILE_OFFSET"] == flash_file.FILE_OFFSET
    assert numbers["FLASH_BOOT_BYTES"] == flash_file.BOOT_BYTES
    assert (numbers["FLASH_STORE_A"], numbers["FLASH_STORE_B"]) == flash_file.STORE_SECTORS
    assert numbers["FLASH_STORE_BYTES"] == flash_file.STORE_BYTES
    assert numbers["FLASH_PROVISION"] == flash_file.PROVISION
    assert numbers["FLASH_SLOT0"] == flash_file.SLOT0
    assert numbers["FLASH_SLOT_BYTES"] == flash_file.SLOT_BYTES
