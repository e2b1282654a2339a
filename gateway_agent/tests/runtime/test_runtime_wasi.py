"""WASI preview 1: what ordinary toolchains make runs, with nothing granted; what is refused is told once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from runtime_support import Agent, digest_of
from wasmbed.runtime import Limits, LogEvent, RequestRefused
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from pathlib import Path

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed (requirements/dev.in)"
)
PROGRAM = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    struct timespec pause = {0, 20000000}, before, after;
    unsigned char random[70000];
    printf("called %s with %d, WORD=%s\n", arguments[0], count, getenv("WORD"));
    fprintf(stderr, "a warning\n");
    if (fopen("/etc/passwd", "r") == NULL) {
        printf("no file: %s\n", strerror(errno));
    }
    fopen("other", "w");
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("slept %s\n", after.tv_nsec != before.tv_nsec && time(NULL) > 1700000000 ? "well" : "badly");
    if (getentropy(random, 256) != 0) {
        return 3;
    }
    printf("without an end of line");
    return EXIT;
}
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The program, for each of its exit codes."""
    directory = tmp_path_factory.mktemp("wasi")
    modules = {}
    for code in (0, 7):
        source = directory / f"program{code}.c"
        source.write_text(PROGRAM.replace("EXIT", str(code)))
        modules[code] = build(source)
    return modules


def build(source: Path) -> bytes:
    output = source.with_suffix(".wasm")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-o", str(output), str(source)]
    subprocess.run(command, check=True, timeout=300)
    return output.read_bytes()


@needs_compiler
async def test_a_program_of_an_ordinary_toolchain_runs(agent: Agent, compiled: dict[int, bytes]) -> None:
    await agent.run("program", compiled[0], limits=Limits(), env={"WORD": "good day"})
    state = await agent.state("program", "Running")
    assert state.message == "finished"
    await agent.log("program", "without an end of line")
    lines = [(e.level, e.text) for e in agent.events if isinstance(e, LogEvent)]
    assert lines[:2] == [(2, "called default/app with 1, WORD=good day"), (1, "a warning")]
    assert [text for _, text in lines if text.startswith("no file: ")] != []
    assert (2, "slept well") in lines
    refused = [text for _, text in lines if "is not granted; told once" in text]
    assert len(refused) == len(set(refused))
    (row,) = await agent.client.list()
    assert (row.state, row.message, row.restarts) == ("Running", "finished", 0)


@needs_compiler
async def test_another_exit_code_than_0_is_a_failure(agent: Agent, compiled: dict[int, bytes]) -> None:
    await agent.run("program", compiled[7], limits=Limits())
    assert (await agent.state("program", "Failed")).message.startswith("_start: exit status 7")


@needs_compiler
@pytest.mark.parametrize("device_class", ["mcu", "riscv"])
async def test_small_classes_refuse_it_by_name(agent: Agent, compiled: dict[int, bytes], device_class: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        await agent.run("program", compiled[0], device_class=device_class)
    assert any(f"class {device_class} has no WASI" in finding for finding in refusal.value.findings)


def command(imports: str, body: str) -> bytes:
    return bytes(wat2wasm(f'(module {imports} (memory (export "memory") 1) (func (export "_start") {body}))'))


REFUSED = """(import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"""


async def test_what_is_not_granted_is_refused_and_told_once_by_name(agent: Agent) -> None:
    opened = """(call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)
      (i64.const 0) (i32.const 0) (i32.const 0))"""
    accepted = "(call $accept (i32.const 3) (i32.const 0) (i32.const 0))"
    body = f"""(if (i32.ne {opened} (i32.const 76)) (then unreachable))
      (if (i32.ne {opened} (i32.const 76)) (then unreachable))
      (if (i32.ne {accepted} (i32.const 52)) (then unreachable)) (call $exit (i32.const 0))"""
    await agent.run("program", command(REFUSED, body))
    await agent.log("program", "sock_accept")
    texts = [e.text for e in agent.events if isinstance(e, LogEvent)]
    assert texts == [
        "wasi_snapshot_preview1.path_open is not granted; told once",
        "wasi_snapshot_preview1.sock_accept is not granted; told once",
    ]


async def test_a_pointer_outside_is_a_trap_and_a_long_sleep_ends_with_the_instance(agent: Agent) -> None:
    imports = '(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))'
    await agent.run("program", command(imports, "(drop (call $random (i32.const 65536) (i32.const -1)))"))
    failed = await agent.state("program", "Failed")
    assert "wasi_snapshot_preview1.random_get: 4294967295 bytes at 0x10000 are not inside" in failed.message
    imports = '(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'
    sleep = """(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000))
      (drop (call $poll (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 1024)))"""
    await agent.run("sleeper", command(imports, sleep), limits=Limits())
    await agent.client.stop("sleeper")
    assert [row.instance for row in await agent.client.list()] == ["program"]


async def test_an_unknown_function_of_it_is_named(agent: Agent) -> None:
    module = command('(import "wasi_snapshot_preview1" "fd_fly" (func))', "")
    with pytest.raises(RequestRefused, match=r"wasi_snapshot_preview1\.fd_fly .*this runtime has no such function"):
        await agent.client.load(digest_of(module), module)
