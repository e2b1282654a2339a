"""Serial port, time, sleep and resets of both boards in QEMU."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
from board_support import DEADLINE_S, Board

from tests.support.firmware import BUILD

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES_PER_S = 11_520  # 115,200 Bd, 8N1
PIECE = 64
RING = 256  # the smaller board's


def test_echo_at_line_rate_loses_nothing_under_load(board: Board) -> None:
    """The exerciser works 40,000 instructions between reads: the rings hold what comes meanwhile."""
    count = 4 * BYTES_PER_S
    data = b"".join(hashlib.sha256(i.to_bytes(4)).digest() for i in range(count // 32))
    board.send(f"e {len(data):x}\n".encode())

    echoed = b""
    more = threading.Condition()

    def send_paced() -> None:
        due = time.monotonic()
        for at in range(0, len(data), PIECE):
            with more:
                # A host that does not let the machine run would send faster than the machine's own time goes.
                assert more.wait_for(lambda at=at: at - len(echoed) <= RING - PIECE, DEADLINE_S)
            due = max(due + PIECE / BYTES_PER_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            board.send(data[at : at + PIECE])

    sender = threading.Thread(target=send_paced)
    sender.start()
    while len(echoed) < len(data):
        part = board.some()
        with more:
            echoed += part
            more.notify()
    sender.join()
    assert echoed == data
    statistics = board.values("u")
    assert statistics["lost"] == 0
    assert statistics["errors"] == 0
    assert statistics["received"] >= len(data)


@pytest.mark.parametrize(("shift", "expected_us"), [(3, 16_000), (4, 32_000), (6, 128_000)])
def test_time_follows_executed_instructions(start: Callable[..., Board], shift: int, expected_us: int) -> None:
    """Two million instructions of 2^shift ns each."""
    board = start(icount=f"shift={shift}")
    board.line()
    assert board.values("i")["us"] == pytest.approx(expected_us, rel=0.02)


@pytest.mark.parametrize("sleep_us", [100, 1_000, 10_000, 123_456, 2_000_000])
def test_sleep_ends_on_time(start: Callable[..., Board], sleep_us: int) -> None:
    """sleep=off: virtual time jumps to the next timer, whatever the host does."""
    board = start(icount="shift=4,sleep=off")
    board.line()
    slept = board.values(f"z {sleep_us:x}")["us"]
    assert sleep_us <= slept <= sleep_us + 500


def test_time_never_goes_back_and_many_short_sleeps_do_not_lose_it(board: Board) -> None:
    before = board.values("t")["us"]
    for _ in range(50):
        board.values("z 3e8")
    after = board.values("t")["us"]
    assert after - before >= 50 * 1000


def test_reset_on_request_is_told_from_power(board: Board) -> None:
    board.send(b"r\n")
    assert board.line().endswith(" reset=request boots=00000002 flash=ok")
    assert board.command("c") == "none"


def test_reset_by_the_host_is_told_from_power(board: Board) -> None:
    board.qmp("system_reset")
    assert board.line().endswith(" reset=external boots=00000002 flash=ok")


def test_board_knows_who_it_is(board: Board) -> None:
    assert board.command("p") == "drone-7 gw-hall"


def test_image_for_the_chip_itself_is_built(exercisers: None, board_name: str) -> None:
    """What QEMU does not model is compiled; it was never run."""
    assert (BUILD / board_name / "exerciser.part.elf").exists()
