"""Builds what the tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wbi_support import Interpreter

from tests.support.firmware import BUILD, build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def shim() -> Path:
    build(BUILD / "unit" / "libshim.so")
    return BUILD / "unit" / "libshim.so"


@pytest.fixture
def interp(shim: Path) -> Interpreter:
    interpreter = Interpreter(shim)
    interpreter.lib.shim_refuse_program_after(0)
    interpreter.lib.shim_expire_on_call(0)
    return interpreter
