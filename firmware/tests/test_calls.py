"""Traps with their place, host calls, stack and memory limits."""

from __future__ import annotations

import pytest
import wasmtime
from wbi_support import (
    CONVERSION,
    DIVIDE,
    HOST,
    IMPORT_TYPE,
    NO_MEMORY,
    NULL,
    OK,
    OUT_OF_MEMORY_BOUNDS,
    OVERFLOW,
    SIGNATURE,
    STACK,
    TABLE,
    UNKNOWN_IMPORT,
    UNREACHABLE,
    Interpreter,
)

TRAPS = """(module
  (type $v (func)) (type $i (func (param i32) (result i32)))
  (import "host" "fail" (func $fail))
  (memory 1) (table 3 funcref) (elem (i32.const 0) $plain)
  (func $plain (export "plain"))
  (func (export "unreachable") (nop) (unreachable))
  (func (export "load") (param i32) (result i32) (i32.load offset=8 (local.get 0)))
  (func (export "far") (param i32) (result i32) (i32.load offset=0xffffffff (local.get 0)))
  (func (export "store8") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
  (func (export "load64") (param i32) (result i64) (i64.load (local.get 0)))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "truncate") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "indirect") (param i32) (call_indirect (type $v) (local.get 0)))
  (func (export "other") (param i32) (result i32) (call_indirect (type $i) (i32.const 1) (local.get 0)))
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))
  (func (export "host") (call $fail))
)"""
NAN = 0x7FF8000000000000


@pytest.mark.parametrize(
    ("name", "arguments", "status", "opcode"),
    [
        ("unreachable", (), UNREACHABLE, 0x00),
        ("load", (65536 - 11,), OUT_OF_MEMORY_BOUNDS, 0x28),
        ("load", (0xFFFFFFFF,), OUT_OF_MEMORY_BOUNDS, 0x28),
        ("far", (1,), OUT_OF_MEMORY_BOUNDS, 0x28),
        ("store8", (65536,), OUT_OF_MEMORY_BOUNDS, 0x3A),
        ("load64", (65529,), OUT_OF_MEMORY_BOUNDS, 0x29),
        ("divide", (1, 0), DIVIDE, 0x6D),
        ("divide", (0x80000000, 0xFFFFFFFF), OVERFLOW, 0x6D),
        ("truncate", (NAN,), CONVERSION, 0xAA),
        ("truncate", (0x41E0000000000000,), OVERFLOW, 0xAA),
        ("indirect", (3,), TABLE, 0x11),
        ("indirect", (1,), NULL, 0x11),
        ("other", (0,), SIGNATURE, 0x11),
        ("deep", (100000,), STACK, 0x10),
        ("host", (), HOST, 0x10),
    ],
)
def test_trap_names_function_and_byte(
    interp: Interpreter, name: str, arguments: tuple[int, ...], status: int, opcode: int
) -> None:
    wasm = bytes(wasmtime.wat2wasm(TRAPS))
    interp.run(wasm)
    assert interp.call(name, *arguments) == status
    error = interp.error()
    assert error.status == status
    assert error.reason not in {"", "unknown status"}
    assert wasm[error.offset] == opcode, "the byte of the instruction that trapped"
    names = [
        "fail",
        "plain",
        "unreachable",
        "load",
        "far",
        "store8",
        "load64",
        "divide",
        "truncate",
        "indirect",
        "other",
        "deep",
        "host",
    ]
    assert error.function == names.index(name)


def test_instance_works_on_after_a_trap(interp: Interpreter) -> None:
    interp.run(TRAPS)
    assert interp.call("divide", 1, 0) == DIVIDE
    assert interp.value("divide", 12, 4) == 3


def test_last_byte_of_memory_is_reachable(interp: Interpreter) -> None:
    interp.run(TRAPS)
    assert interp.call("load", 65536 - 12) == OK
    assert interp.call("store8", 65535) == OK
    assert interp.call("load64", 65528) == OK


def test_stack_bound_is_the_buffer_given(interp: Interpreter) -> None:
    deepest = []
    for stack in (512, 1024, 2048):
        interp.run(TRAPS, stack=stack)
        depth = 0
        while interp.call("deep", depth + 1) == OK:
            depth += 1
        assert interp.call("deep", depth + 1) == STACK
        assert interp.lib.shim_stack_used() <= stack
        deepest.append(depth)
    assert deepest[2] > deepest[1] > deepest[0] > 5


HOSTED = """(module
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (import "host" "wide" (func $wide (param i64 i32) (result i64)))
  (import "host" "nested" (func $nested (param i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (call $add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (call $wide (local.get 0) (i32.const 5)))
  (func (export "inner") (param i32) (result i32) (call $add (local.get 0) (i32.const 1)))
  (func (export "outer") (param i32) (result i32)
    (i32.add (i32.const 1000) (i32.add (call $nested (local.get 0)) (call $nested (i32.const 20)))))
)"""


def test_host_functions_take_and_give_values(interp: Interpreter) -> None:
    interp.run(HOSTED)
    assert interp.value("add", 40, 2) == 42
    assert interp.value("wide", (1 << 40) + 3) == (1 << 40) + 8


def test_host_function_may_call_back(interp: Interpreter) -> None:
    interp.run(HOSTED)
    assert interp.value("outer", 7) == 1000 + 8 + 21


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('(module (import "host" "missing" (func)))', UNKNOWN_IMPORT),
        ('(module (import "other" "add" (func (param i32 i32) (result i32))))', UNKNOWN_IMPORT),
        ('(module (import "host" "add" (func (param i32 i64) (result i32))))', IMPORT_TYPE),
        ('(module (import "host" "add" (func (param i32 i32))))', IMPORT_TYPE),
        ('(module (import "host" "fail" (func)) (import "host" "m" (memory 1)))', UNKNOWN_IMPORT),
    ],
)
def test_import_that_is_not_granted_is_refused(interp: Interpreter, text: str, status: int) -> None:
    assert interp.load(text) == OK
    assert interp.start() == status
    assert interp.error().offset == text.count("import") - 1, "number of the import to blame"


def test_ram_that_is_too_small_is_refused(interp: Interpreter) -> None:
    text = "(module (memory 1) (global (mut i64) (i64.const 1)))"
    assert interp.load(text) == OK
    assert interp.start(ram=65536) == NO_MEMORY
    assert interp.start(ram=65536 + 16) == OK


def test_memory_grows_inside_the_buffer_only(interp: Interpreter) -> None:
    text = '(module (memory 1 5) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))'
    interp.run(text, ram=3 * 65536 + 16)
    assert interp.value("grow", 1) == 1
    assert interp.value("grow", 3) == 0xFFFFFFFF
    assert interp.value("grow", 1) == 2
    assert interp.value("grow", 1) == 0xFFFFFFFF


def test_custom_page_size_makes_small_memories(interp: Interpreter) -> None:
    text = """(module (memory 100 200 (pagesize 1))
      (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
    interp.run(text, ram=400)
    assert interp.call("load", 99) == OK
    assert interp.call("load", 100) == OUT_OF_MEMORY_BOUNDS
    assert interp.value("grow", 50) == 100
    assert interp.call("load", 149) == OK
    assert interp.call("load", 150) == OUT_OF_MEMORY_BOUNDS
