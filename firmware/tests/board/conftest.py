"""Builds the exerciser and gives each test a provisioned board."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from board_support import BOARDS, CLASS, Board
from wasmbed.tools.provision import Wanted, provision

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def exercisers() -> None:
    build(*(BUILD / board / f"exerciser.{kind}" for board in BOARDS for kind in ("flash", "part.elf")))


@pytest.fixture(params=BOARDS)
def board_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def flash(exercisers: None, board_name: str, tmp_path: Path) -> Path:
    path = tmp_path / "flash.bin"
    template = (BUILD / board_name / "exerciser.flash").read_bytes()
    provision(path, Wanted("drone-7", CLASS[board_name], "gw-hall", bytes(range(32)), template))
    return path


@pytest.fixture
def start(flash: Path, board_name: str) -> Iterator[Callable[..., Board]]:
    """Starts the board; again after it stopped, too."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Board(board_name, flash, **options))


@pytest.fixture
def board(start: Callable[..., Board]) -> Board:
    """A board that has said its first line."""
    started = start()
    assert started.line().endswith(" reset=power boots=00000001 flash=ok")
    return started
