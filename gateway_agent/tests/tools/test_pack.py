"""`wasmbed pack` and `wasmbed run --interp`, with the real interpreter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.tools import binary, interpreter, main, pack

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION = """(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (global (mut i32) (i32.const 256))
  (global $heap (export "__heap_base") i32 (i32.const 300))
  (data (i32.const 260) "hello")
  (func (export "wasmbed_init") (result i32)
    (call $log (i32.const 2) (i32.const 260) (i32.const 5)) (i32.const 0)))"""


def module(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def with_custom(wasm: bytes) -> bytes:
    name = b"\x04name" + b"x" * 40
    return wasm + bytes([0, len(name)]) + name


def test_names_are_left_out_and_memory_becomes_small() -> None:
    packed = pack.pack(with_custom(module(APPLICATION)))
    info = interpreter.info(packed.wasm)
    assert (info.memory_bytes, info.page_bytes) == (304, 1)
    assert b"__heap_base" not in packed.wasm
    assert b"xxxx" not in packed.wasm
    assert info.imports == (("wasmbed:sys", "log"),)


def test_packing_twice_changes_nothing() -> None:
    once = pack.pack(with_custom(module(APPLICATION))).wasm
    assert pack.pack(once).wasm == once


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (APPLICATION.replace('(export "__heap_base") ', ""), "--heap-base"),
        (APPLICATION.replace("(i32.const 0)))", "(drop (memory.grow (i32.const 1))) (i32.const 0)))"), "memory.grow"),
        (APPLICATION.replace("(i32.const 0)))", "(memory.size)))"), "memory.size"),
        ("(module (func))", "no memory"),
        ('(module (import "a" "m" (memory 1)))', "no memory of its own"),
    ],
)
def test_page_size_is_kept_where_it_could_be_seen(text: str, note: str) -> None:
    packed = pack.pack(module(text))
    assert any(note in line for line in packed.notes)
    info = interpreter.info(packed.wasm)
    assert info.page_bytes == 65536 or info.memory_bytes == 0


def test_heap_base_may_be_given() -> None:
    packed = pack.pack(module(APPLICATION.replace('(export "__heap_base") ', "")), heap_base_bytes=1000)
    assert interpreter.info(packed.wasm).memory_bytes == 1000


def test_memory_always_holds_the_data() -> None:
    packed = pack.pack(module(APPLICATION), heap_base_bytes=8)
    assert interpreter.info(packed.wasm).memory_bytes == 272


def test_heap_base_beyond_the_memory_is_refused() -> None:
    with pytest.raises(binary.ModuleError, match="beyond the memory"):
        pack.pack(module(APPLICATION), heap_base_bytes=200_000)


def test_cost_tells_what_fits() -> None:
    info = interpreter.info(pack.pack(module(APPLICATION)).wasm)
    assert {cost.board.name: cost.fits for cost in pack.costs(info)} == {"stm32": True, "hifive1": True}
    large = interpreter.info(module("(module (memory 1))"))
    assert not any(cost.fits for cost in pack.costs(large) if cost.board.name == "hifive1")
    assert "does not fit" in pack.cost_table(large)


def test_refusal_of_the_interpreter_is_shown() -> None:
    with pytest.raises(interpreter.InterpreterError, match="reference types"):
        interpreter.info(module("(module (func (drop (ref.null func))))"))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        sections = binary.read_sections(binary.MAGIC + data)
        pack.pack(binary.write_sections(sections))
    except binary.ModuleError:
        pass


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wasmbed", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(ended.value.code or 0)


def test_commands_pack_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "app.wasm"
    source.write_bytes(module(APPLICATION))
    assert command(monkeypatch, "pack", str(source)) == 0
    assert command(monkeypatch, "run", "--interp", "--board", "hifive1", str(tmp_path / "app.packed.wasm")) == 0
    output = capfd.readouterr().out
    assert "hifive1" in output
    assert "info: hello" in output


def test_endless_application_ends_by_fuel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "loop.wasm"
    source.write_bytes(module('(module (func (export "wasmbed_init") (loop (br 0))))'))
    assert command(monkeypatch, "run", "--interp", "--fuel", "10000", str(source)) == 1
    assert "out of fuel" in capfd.readouterr().err


TIMED = """(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "env" (func $env (param i32 i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "event_read" (func $read (param i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "clock_monotonic_ns" (func $clock (result i64)))
  (import "wasmbed:px4" "acquire" (func $acquire (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "WORDevent stop ")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (if (i32.ne (call $acquire) (i32.const -19)) (then unreachable))
    (call $log (i32.const 2) (i32.const 64) (call $env (i32.const 0) (i32.const 4) (i32.const 64) (i32.const 32)))
    (drop (call $timer (i32.const 3) (i32.const 500) (i32.const 0)))
    (call $timer (i32.const 5) (i32.const 0) (i32.const 2000)))
  (func (export "wasmbed_event") (param $type i32) (param $source i32) (param $length i32) (result i32)
    (if (i32.ne (call $read (i32.const 0) (i32.const 100) (local.get $length)) (i32.const 4)) (then unreachable))
    (i32.store8 (i32.const 9) (i32.add (i32.const 48) (local.get $source)))
    (call $log (i32.const 1) (i32.const 4) (i32.const 6)) (i32.const 0))
  (func (export "wasmbed_stop") (call $log (i32.const 0) (i32.const 10) (i32.const 4))))"""


def test_a_life_at_the_desk_has_timers_settings_and_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "app.wasm"
    source.write_bytes(module(TIMED))
    assert command(monkeypatch, "run", "--interp", "--seconds", "5", "--env", "WORD=hi", str(source)) == 0
    assert capfd.readouterr().out.splitlines() == [
        "0.0 s info: hi",
        "0.5 s warning: event3",
        "2.0 s warning: event5",
        "4.0 s warning: event5",
        "5.0 s error: stop",
    ]


def test_an_init_that_is_not_zero_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "app.wasm"
    source.write_bytes(module('(module (func (export "wasmbed_init") (result i32) (i32.const 7)))'))
    assert command(monkeypatch, "run", "--interp", str(source)) == 1
    assert "wasmbed_init gave 7" in capfd.readouterr().err


def test_missing_file_is_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "pack", str(tmp_path / "none.wasm")) == 1
    assert capfd.readouterr().err.startswith("wasmbed: ")
