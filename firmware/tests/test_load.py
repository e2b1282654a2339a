"""The loader: streaming, limits, the object in flash."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wbi_support import (
    BAD_OBJECT,
    FLASH_FAILED,
    FLASH_FULL,
    INVALID,
    LIMIT,
    MALFORMED,
    OK,
    UNSUPPORTED,
    Interpreter,
)

MODULE = """(module
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (memory 1) (data (i32.const 8) "some bytes of data")
  (global (mut i32) (i32.const 70000))
  (table 4 funcref) (elem (i32.const 1) $sum)
  (func $sum (export "sum") (param i32 i32) (result i32) (local i64 f32)
    (block (block (br_table 0 1 0 (local.get 0))) (nop))
    (if (result i32) (local.get 0) (then (call $add (local.get 0) (local.get 1))) (else (i32.const 123456789))))
  (export "memory" (memory 0))
)"""


def test_splits_do_not_change_the_object(interp: Interpreter) -> None:
    objects = set()
    for piece in (1, 2, 3, 5, 7, 16, 31, 64, 10_000):
        assert interp.load(MODULE, piece=piece) == OK
        objects.add(interp.object())
    assert len(objects) == 1


def test_digest_is_kept_and_commit_word_is_the_last(interp: Interpreter) -> None:
    assert interp.load(MODULE) == OK
    stored = interp.object()
    assert stored[8:40] == b"\x5a" * 32
    assert interp.lib.shim_check(len(stored)) == OK


@pytest.mark.parametrize("calls", range(1, 12))
def test_interrupted_load_leaves_no_object(interp: Interpreter, calls: int) -> None:
    interp.lib.shim_refuse_program_after(calls)
    status = interp.load(MODULE)
    if status == OK:
        pytest.skip("the load takes fewer steps")
    assert status == FLASH_FAILED
    assert interp.lib.shim_check(1 << 20) == BAD_OBJECT


def test_changed_object_is_refused(interp: Interpreter) -> None:
    assert interp.load(MODULE) == OK
    data = interp.lib.shim_object()
    for place in (0, 4, 60, len(interp.object()) - 1, 300):
        data[place] ^= 1
        assert interp.lib.shim_check(1 << 20) == BAD_OBJECT
        data[place] ^= 1
    assert interp.lib.shim_check(1 << 20) == OK
    assert interp.lib.shim_check(len(interp.object()) - 1) == BAD_OBJECT


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"flash": 300}, FLASH_FULL),
        ({"flash": 16}, FLASH_FULL),
        ({"scratch": 24}, LIMIT),
        ({"memory_bytes": 65535}, LIMIT),
        ({"stack_bytes": 16}, LIMIT),
        ({"function_bytes": 40}, LIMIT),
    ],
)
def test_limits_of_a_board_are_refusals(interp: Interpreter, limits: dict[str, int], status: int) -> None:
    assert interp.load(MODULE, **limits) == status
    assert interp.load_error().reason


@pytest.mark.parametrize(
    ("text", "status", "function"),
    [
        ('(module (func (export "f") (result i32) (i64.const 1)))', INVALID, 0),
        ("(module (func) (func (local i32) (drop (f32.add (local.get 0) (local.get 0)))))", INVALID, 1),
    ],
)
def test_refusal_names_function_and_byte(interp: Interpreter, text: str, status: int, function: int) -> None:
    wasm = bytes(wasmtime.wat2wasm(text))
    assert interp.load(wasm) == status
    error = interp.load_error()
    assert (error.status, error.function) == (status, function)
    assert wasm[error.offset] in {0x0B, 0x92}


def test_unsupported_features_are_named(interp: Interpreter) -> None:
    assert interp.load("(module (func (drop (ref.null func))))") == UNSUPPORTED
    assert "reference types" in interp.load_error().reason
    assert interp.load("(module (memory i64 1))") == UNSUPPORTED


def test_scratch_of_512_bytes_is_enough_for_compiled_code(interp: Interpreter) -> None:
    nested = "(block " * 10 + "(nop)" + ")" * 10
    assert interp.load(f"(module (func (param i32) (local i32 i64 f32 f64) {nested}))", scratch=512) == OK


def test_refused_load_stays_refused(interp: Interpreter) -> None:
    assert interp.load(b"\0asm\1\0\0\0\xff") == MALFORMED
    assert interp.load_error().offset == 8


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes_are_refused_alike_however_split(shim: str, data: st.DataObject) -> None:
    interp = Interpreter(shim)
    wasm = bytearray(wasmtime.wat2wasm(MODULE))
    for _ in range(data.draw(st.integers(0, 4))):
        wasm[data.draw(st.integers(0, len(wasm) - 1))] = data.draw(st.integers(0, 255))
    whole = interp.load(bytes(wasm), piece=len(wasm))
    error = interp.load_error()
    assert interp.load(bytes(wasm), piece=data.draw(st.integers(1, 40))) == whole
    assert interp.load_error() == error


def test_large_branch_table_is_a_table_of_halfwords(interp: Interpreter) -> None:
    """Each entry takes two bytes of flash, so that the suite's 24,000 entries stay in one function."""
    depths = " ".join("0" if i % 2 else "1" for i in range(5000))
    text = f"""(module (func (export "f") (param i32) (result i32)
      (block (block (br_table {depths} 1 (local.get 0))) (return (i32.const 10))) (i32.const 20)))"""
    interp.run(text)
    assert interp.lib.shim_object_bytes() < 5000 * 2 + 600
    assert [interp.value("f", i) for i in (0, 1, 2, 4999, 5000, 0xFFFFFFFF)] == [20, 10, 20, 10, 20, 20]
