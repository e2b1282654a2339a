"""Checking and compiling one untrusted module, as a process of its own with limits of memory, time and output.

The child reads the module from its standard input, writes NAME.cwasm and then NAME.json, which makes the first valid,
into a directory, and prints its findings as a JSON list. It ends with 0 when it wrote the files or has findings. Asked
to describe, it prints the Facts of the module instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from wasmtime import Module, WasmtimeError

from wasmbed.files import write_atomically
from wasmbed.runtime import engine, validate, wasm
from wasmbed.runtime.profiles import MIB
from wasmbed.runtime.protocol import MAX_MODULE_BYTES

# Python and wasmtime map about 260 MiB; compiling takes about 85 MiB a MiB of module.
BASE_MEMORY_BYTES: Final = 512 * MIB
MEMORY_PER_MODULE_BYTE: Final = 128
CPU_S: Final = 60
WALL_S: Final = 120
MAX_OUTPUT_BYTES: Final = 256 * MIB


class CompileError(Exception):
    """The module cannot be used; findings has every fault found, at least one."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__(findings[0])
        self.findings = findings


class CompilerFailedError(Exception):
    """The compiler was ended from outside or failed by itself, which says nothing about the module; try again."""


def memory_limit_bytes(module_bytes: int) -> int:
    """Return the address space a child gets for a module of this size."""
    return BASE_MEMORY_BYTES + MEMORY_PER_MODULE_BYTE * module_bytes


async def compile_module(
    module: bytes, directory: Path, name: str, *, cpu_s: int = CPU_S, wall_s: float = WALL_S
) -> None:
    """Compile into directory/NAME.cwasm and NAME.json.

    Raises CompileError, also when the module takes too much memory or CPU time or crashes the compiler, and
    CompilerFailedError.
    """
    output = await _child(module, ("--directory", str(directory), "--name", name), cpu_s, wall_s)
    findings = json.loads(output)
    if findings:
        raise CompileError([str(finding) for finding in findings])


async def describe_module(module: bytes, *, cpu_s: int = CPU_S, wall_s: float = WALL_S) -> validate.Facts:
    """Return what is known of a module without compiling it; raises as `compile_module`."""
    answer = json.loads(await _child(module, ("--describe",), cpu_s, wall_s))
    if isinstance(answer, list):
        raise CompileError([str(finding) for finding in answer])
    return validate.Facts.from_dict(answer)


async def _child(module: bytes, arguments: tuple[str, ...], cpu_s: int, wall_s: float) -> bytes:
    memory_bytes = memory_limit_bytes(len(module))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        *(*arguments, "--memory-bytes", str(memory_bytes), "--cpu-s", str(cpu_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"RUST_BACKTRACE": "0", "LC_ALL": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(wall_s):
            output, _ = await process.communicate(module)
    except TimeoutError:
        # The limit of CPU time comes first unless the machine gives none.
        raise CompilerFailedError(f"compiling took more than {wall_s:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _death(process.returncode or 0, memory_bytes, cpu_s)
    return output


def _death(status: int, memory_bytes: int, cpu_s: int) -> CompileError | CompilerFailedError:
    if status == -signal.SIGXCPU:
        return CompileError([f"compiling took more than {cpu_s} s of CPU time"])
    if status == -signal.SIGABRT:
        memory = f"{memory_bytes // MIB} MiB of memory were not enough"
        return CompileError([f"the compiler gave up; {memory}, or the module crashes it"])
    if status == -signal.SIGSEGV:
        return CompileError(["the module crashes the compiler"])
    if status < 0:
        return CompilerFailedError(f"the compiler died of signal {-status} ({signal.strsignal(-status)})")
    return CompilerFailedError(f"the compiler failed with status {status}; the runtime's journal has its error")


def main() -> None:
    """Run the child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--describe", action="store_true", help="print what is known of the module, compile nothing")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--cpu-s", type=int, required=True)
    arguments = parser.parse_args()
    limit_process(arguments.memory_bytes, arguments.cpu_s)
    module = sys.stdin.buffer.read(MAX_MODULE_BYTES + 1)
    answer: object
    try:
        if arguments.describe:
            answer = describe(module)
        else:
            answer = check_and_compile(module, arguments.directory, arguments.name)
    except MemoryError:
        answer = [f"compiling needs more than {arguments.memory_bytes // MIB} MiB of memory"]
    print(json.dumps(answer))


def limit_process(memory_bytes: int, cpu_s: int) -> None:
    """Bound this process for good, and let everything else on the machine go first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    # A seccomp filter may forbid it; the limits above hold or the child ends.
    with contextlib.suppress(OSError):
        os.nice(10)


def describe(module: bytes) -> dict[str, Any] | list[str]:
    """Return the Facts of a module as a dictionary, or the finding that it is none."""
    if len(module) > MAX_MODULE_BYTES:
        return [f"the module is larger than {MAX_MODULE_BYTES} bytes"]
    try:
        return asdict(validate.facts_of(module))
    except wasm.ModuleError as error:
        return [str(error)]


def check_and_compile(module: bytes, directory: Path, name: str) -> list[str]:
    """Return the findings; without any, the two files are written."""
    if len(module) > MAX_MODULE_BYTES:
        return [f"the module is larger than {MAX_MODULE_BYTES} bytes"]
    try:
        facts = validate.facts_of(module)
    except wasm.ModuleError as error:
        return [str(error)]
    if findings := validate.module_findings(facts):
        return findings
    try:
        code = bytes(Module(engine.compiling_engine(), module).serialize())
    except WasmtimeError as error:
        if "os error 12" in str(error):  # ENOMEM
            raise MemoryError from error
        return [" ".join(str(error).split())[:200]]
    write_atomically(directory / f"{name}.cwasm", code)
    description = {"facts": asdict(facts), "sha256": hashlib.sha256(code).hexdigest()}
    write_atomically(directory / f"{name}.json", json.dumps(description).encode())
    return []


if __name__ == "__main__":
    main()
