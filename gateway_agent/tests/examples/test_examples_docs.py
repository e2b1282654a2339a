"""The commands of docs/sdk.md that need no site are run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.firmware import BUILD, build

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/sdk.md").read_text()
pytestmark = pytest.mark.slow


def blocks(*headings: str) -> str:
    """All shell blocks below these headings, one after the other."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    found = [section for section in sections if section.split("\n", 1)[0] in headings]
    assert len(found) == len(headings)
    return "\n".join(block for section in found for block in re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S))


def desk(tmp_path: Path) -> Path:
    """A checkout to work in: sources, and tools that are installed already."""
    for name in ("examples", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    # The firmware is built into this repository's own folder, where it is built once.
    (tmp_path / "firmware").symlink_to(ROOT / "firmware")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for tool in ("python", "wasmbed"):
        (tmp_path / ".venv/bin" / tool).write_text(f'#!/bin/sh\nexec "{Path(sys.executable).parent / tool}" "$@"\n')
        (tmp_path / ".venv/bin" / tool).chmod(0o755)
    (tmp_path / "Makefile").write_text("tools:\n")
    return tmp_path


def test_the_desk_works_as_described(tmp_path: Path) -> None:
    script = "set -eu\n" + blocks("At your desk", "Other languages")
    folder = desk(tmp_path)
    (folder / "build").mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "WASMBED_INTERP": str(interpreter())}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = re.search(r"The last one prints\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert expected is not None
    assert expected.group(1) in done.stdout
    assert done.stdout.count("accepted for class") == 3
    assert "hifive1: fits" in done.stdout


def interpreter() -> Path:
    build(program := BUILD / "host/wasmbed-interp")
    return program
