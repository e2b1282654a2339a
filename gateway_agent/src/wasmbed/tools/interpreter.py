"""Runs the host build of the microcontrollers' interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAME = "wasmbed-interp"
TIMEOUT_S = 60.0


class InterpreterError(Exception):
    """The interpreter is missing or refused the module; the message says what to do."""


class MissingError(InterpreterError):
    """The program is not there."""


@dataclass(frozen=True)
class Info:
    """What the interpreter says of a module; bytes throughout.

    ram_bytes is what an instance takes on a 32-bit board; scratch_bytes is needed while it is loaded.
    """

    module_bytes: int
    flash_bytes: int
    memory_bytes: int
    page_bytes: int
    table_entries: int
    globals_bytes: int
    functions: int
    largest_frame_bytes: int
    ram_bytes: int
    scratch_bytes: int
    imports: tuple[tuple[str, str], ...]


def find() -> Path:
    """The program: $WASMBED_INTERP, on PATH, or in the build folder of the repository around here."""
    named = os.environ.get("WASMBED_INTERP")
    if named:
        return Path(named)
    installed = shutil.which(NAME)
    if installed:
        return Path(installed)
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            built = folder / "build" / "firmware" / "host" / NAME
            if built.is_file():
                return built
    raise MissingError("the interpreter is not built: run `make -C firmware host`, or set WASMBED_INTERP")


def info(wasm: bytes) -> Info:
    """Validates and translates a module as a board would; raises InterpreterError with the refusal."""
    program = find()
    try:
        done = subprocess.run([program, "info", "-"], input=wasm, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise InterpreterError(f"no verdict within {TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise MissingError(
            f"{program}: {error.strerror}; run `make -C firmware host`, or set WASMBED_INTERP"
        ) from error
    if done.returncode != 0:
        raise InterpreterError(done.stderr.decode(errors="replace").strip() or "the interpreter failed")
    fields = json.loads(done.stdout)
    fields["imports"] = tuple((module, name) for module, name in fields["imports"])
    try:
        return Info(**fields)
    except TypeError:
        raise MissingError(
            f"{program} is of another version: run `make -C firmware host`, or set WASMBED_INTERP"
        ) from None


def run(module: Path, options: list[str]) -> int:
    """Runs a module in the foreground; the exit code of the interpreter."""
    return subprocess.run([find(), "run", module, *options], check=False).returncode
