"""The modules of the official WebAssembly tests, out of the crate that the firmware's tests use too."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from wasmtime import WasmtimeError, wat2wasm

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
_TOKEN = re.compile(r';;[^\n]*|\(;|;\)|"(?:[^"\\]|\\.)*"|[()]', re.DOTALL)


@cache
def proposals() -> Path:
    """The folder of the proposals' tests; skips the test when it cannot be fetched."""
    spec = importlib.util.spec_from_file_location("firmware_suite", ROOT / "firmware/tests/suite.py")
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    try:
        return Path(suite.data_folder()) / "proposals"
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the official tests are not fetched: run scripts/install-firmware-tools ({error})")


def _forms(source: str) -> Iterator[str]:
    """The outermost parenthesised forms of a script."""
    depth = comments = begin = 0
    for match in _TOKEN.finditer(source):
        token = match.group()
        if token in {"(;", ";)"}:
            comments += 1 if token == "(;" else -1
        elif comments or token not in {"(", ")"}:
            continue
        elif token == "(":
            begin = begin if depth else match.start()
            depth += 1
        else:
            depth -= 1
            if not depth:
                yield source[begin : match.end()]


def modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every module of the scripts in a folder that can be made, and where it is from."""
    yield from _made(folder, r"\(\s*module\b", inside=False)


def bad_modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every module that the scripts say is malformed or invalid, as far as there are bytes of it."""
    yield from _made(folder, r"\(\s*assert_(malformed|invalid)\b", inside=True)


def _made(folder: Path, pattern: str, *, inside: bool) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*.wast")):
        for number, form in enumerate(_forms(path.read_text(errors="replace"))):
            if re.match(pattern, form):
                text = next(_forms(form[1:-1]), "") if inside else form
                with contextlib.suppress(WasmtimeError):
                    yield f"{folder.name}/{path.name} form {number}", bytes(wat2wasm(text))
