"""Compiling in a child, and the cache of compiled code."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest
from runtime_support import INIT, MARKER, digest_of, plain_module
from wasmbed.runtime import compile as compiling
from wasmbed.runtime.artifacts import Artifacts, CacheError, NotLoadedError
from wasmbed.runtime.compile import CompileError, CompilerFailedError, compile_module
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from pathlib import Path

MODULE = plain_module()
DIGEST = digest_of(MODULE)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Where a cache is made."""
    return tmp_path / "cache"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An empty directory for one compilation."""
    (tmp_path / "output").mkdir(mode=0o700)
    return tmp_path / "output"


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


async def test_a_module_is_compiled_once_and_found_by_the_next_process(private: Path) -> None:
    first = Artifacts(private)
    with pytest.raises(NotLoadedError):
        await first.get(DIGEST)
    await first.load(DIGEST, MODULE)
    before = {path: path.stat().st_ino for path in files(private)}
    assert [path.suffix for path in before] == [".cwasm", ".json"]
    await first.load(DIGEST, MODULE)
    second = Artifacts(private)
    assert (await second.get(DIGEST)).facts == (await first.get(DIGEST)).facts
    assert {path: path.stat().st_ino for path in files(private)} == before


async def test_loads_of_one_digest_at_once_compile_once(private: Path) -> None:
    artifacts = Artifacts(private)
    await asyncio.gather(*(artifacts.load(DIGEST, MODULE) for _ in range(4)))
    assert len(files(private)) == 2


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_cache_others_can_write_or_read_is_not_used(private: Path, mode: int) -> None:
    private.mkdir()
    private.chmod(mode)
    with pytest.raises(CacheError, match="with mode 0700"):
        Artifacts(private)


def test_a_link_is_not_used_as_cache(private: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    private.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError):
        Artifacts(private)


@pytest.mark.parametrize("suffix", [".cwasm", ".json"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 100], ids=["empty", "zeros"])
async def test_a_damaged_file_is_removed_and_made_again(private: Path, suffix: str, damage: bytes) -> None:
    await Artifacts(private).load(DIGEST, MODULE)
    next(path for path in files(private) if path.suffix == suffix).write_bytes(damage)
    artifacts = Artifacts(private)
    assert not await artifacts.has(DIGEST)
    assert files(private) == []
    await artifacts.load(DIGEST, MODULE)
    assert await artifacts.has(DIGEST)


def test_code_of_another_version_is_removed(private: Path) -> None:
    private.mkdir(mode=0o700)
    (private / "wasmtime-1.0.0-abc").mkdir()
    (private / "wasmtime-1.0.0-abc/old.cwasm").write_bytes(b"old")
    (private / "unrelated").write_bytes(b"kept")
    Artifacts(private)
    assert [path.name for path in files(private)] == ["unrelated"]


async def test_the_least_used_code_goes_when_the_cache_is_full(private: Path) -> None:
    modules = [plain_module(functions=number) for number in (1, 2, 3)]
    artifacts = Artifacts(private, cache_bytes=30_000)
    await artifacts.load(digest_of(modules[0]), modules[0])
    await artifacts.load(digest_of(modules[1]), modules[1])
    await artifacts.get(digest_of(modules[0]))
    await artifacts.load(digest_of(modules[2]), modules[2])
    assert [await artifacts.has(digest_of(module)) for module in modules] == [True, False, True]
    assert len(artifacts._known) == 2, "what is known of a module goes with it"


async def test_a_compilation_is_bounded_in_memory(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BASE_MEMORY_BYTES", 300 << 20)
    monkeypatch.setattr(compiling, "MEMORY_PER_MODULE_BYTE", 0)
    with pytest.raises(CompileError, match=r"more than 300 MiB of memory|300 MiB of memory were not enough"):
        await compile_module(heavy_module(), output, "name")
    assert files(output) == []


async def test_a_compilation_is_bounded_in_cpu_time(output: Path) -> None:
    with pytest.raises(CompileError, match="compiling took more than 1 s of CPU time"):
        await compile_module(heavy_module(), output, "name", cpu_s=1)
    assert files(output) == []


async def test_a_compilation_is_bounded_in_wall_time_and_leaves_no_process(output: Path) -> None:
    with pytest.raises(CompilerFailedError, match="compiling took more than 1 s"):
        await compile_module(heavy_module(), output, "name", wall_s=0.6)
    assert files(output) == []


@pytest.mark.parametrize(
    ("script", "says"), [("kill -KILL $$", "died of signal 9"), ("exit 1", "failed with status 1")]
)
async def test_a_compiler_that_is_killed_or_fails_is_not_the_fault_of_the_module(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    """A full disk or the host's memory running out was told as InvalidModule, which is never tried again."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(compiling.sys, "executable", str(python))
    with pytest.raises(CompilerFailedError, match=says):
        await compile_module(MODULE, output, "name")


@functools.cache
def heavy_module() -> bytes:
    """A module that takes wasmtime several seconds and 200 MiB: many functions of several loops."""
    loop = """(loop (local.set 3 (i32.add (local.get 3) (i32.load (local.get 2))))
      (br_if 0 (i32.lt_u (local.get 3) (i32.const 77))))"""
    function = f"(func (param i32 i32) (result i32) (local i32 i32) {loop * 6} (local.get 3))"
    tick = f"{MARKER} {INIT}"
    return bytes(wat2wasm(f"(module (memory 1) {tick} {function * 16_000})"))
