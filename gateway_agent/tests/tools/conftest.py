"""The interpreter's host build."""

from __future__ import annotations

import pytest

from tests.support.firmware import BUILD, build

INTERPRETER = BUILD / "host/wasmbed-interp"


@pytest.fixture(scope="session")
def interpreter_program() -> None:
    build(INTERPRETER)


@pytest.fixture(autouse=True)
def _use_it(interpreter_program: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMBED_INTERP", str(INTERPRETER))
