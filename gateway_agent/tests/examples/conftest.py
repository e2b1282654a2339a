"""Builds the examples as the README says, and the interpreter they run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from example_desk import Desk, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], bytes]:
    """Build an example's folder for a class, once a session."""
    built: dict[tuple[str, str], bytes] = {}

    def build(name: str, device_class: str) -> bytes:
        if (name, device_class) not in built:
            output = tmp_path_factory.mktemp("wasm") / f"{name}.wasm"
            command = [ROOT / "scripts/build-example", ROOT / "examples" / name, output, "--class", device_class]
            subprocess.run(command, check=True, timeout=120)
            built[name, device_class] = output.read_bytes()
        return built[name, device_class]

    return build


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The microcontrollers' interpreter as a library."""
    library = tmp_path_factory.mktemp("interpreter") / "interpreter.so"
    firmware = ROOT / "firmware/wasm"
    sources = [Path(__file__).parent / "interpreter_host.c", *sorted((firmware / "src").glob("*.c"))]
    options = ["-std=gnu11", "-O2", "-g0", "-shared", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off"]
    command = [sys.executable, "-m", "ziglang", "cc", *options, "-I", firmware / "include", "-o", library, *sources]
    subprocess.run([str(word) for word in command], check=True, timeout=120)
    return library


@pytest.fixture
def desk(interpreter: Path, build: Callable[[str, str], bytes]) -> Iterator[Callable[..., Desk]]:
    """Start an example in the interpreter with a board's limits; `desk("collector", Host(...))`."""
    desks: list[Desk] = []

    def start(name: str, host: Host, *, run: bool = True) -> Desk:
        one = Desk(interpreter, build(name, "mcu"), host)
        desks.append(one)
        if run:
            one.start()
        return one

    yield start
    for one in desks:
        one.close()
