"""The interpreter's host build, made once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def interpreter_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("firmware")
    subprocess.run(["make", "-s", "-C", str(ROOT / "firmware"), f"BUILD={build}", "host"], check=True)
    return build / "host" / "wasmbed-interp"


@pytest.fixture(autouse=True)
def _use_it(interpreter_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMBED_INTERP", str(interpreter_program))
