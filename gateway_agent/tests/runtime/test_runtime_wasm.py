"""The reader of untrusted modules: right about good ones, ModuleError for all others."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_support import HEADER, leb, name, plain_module, section, vector
from wasmbed.runtime import validate, wasm
from wasmbed.runtime.profiles import CLASSES
from wasmtime import Engine, Module, wat2wasm

SAMPLE = bytes(
    wat2wasm("""(module
  (type $t (func (param i32 i64 f32 f64 v128 funcref externref) (result i32 i32)))
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "env" "table" (table 1 2 funcref)) (import "env" "global" (global i32))
  (table $own 3 7 externref)
  (memory (export "memory") 2 9)
  (global (export "g") (mut i64) (i64.const 5))
  (func $start (call $log (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "wasmbed_init") (result i32) (i32.const 0))
  (start $start)
  (elem (i32.const 0) $start) (data (i32.const 8) "data") (data "passive"))""")
)


def test_a_module_is_described_as_wasmtime_describes_it() -> None:
    contents = wasm.read(SAMPLE)
    module = Module(Engine(), SAMPLE)
    assert [(i.module, i.name) for i in contents.imports] == [(i.module, i.name) for i in module.imports]
    assert [i.kind for i in contents.imports] == ["function", "table", "global"]
    assert [e.name for e in contents.exports] == [e.name for e in module.exports]
    assert str(contents.imports[0].type) == "(i32, i32, i32) -> ()"
    assert [str(e.type) for e in contents.exports if e.kind == "function"] == ["() -> (i32)"]
    assert [(m.minimum_bytes, m.maximum, m.page_log2) for m in contents.memories] == [(2 * 65536, 9, 16)]
    assert [(t.minimum, t.maximum) for t in contents.tables] == [(3, 7)]
    assert contents.start_offset is not None
    assert SAMPLE[contents.start_offset] == 8


def test_a_custom_page_size_counts_in_bytes() -> None:
    contents = wasm.read(bytes(wat2wasm("(module (memory 100 200 (pagesize 1)))")))
    assert contents.memories[0].minimum_bytes == 100


def test_every_truncation_is_refused() -> None:
    ends = {8}
    at = 8
    while at < len(SAMPLE):  # a module may end between two sections
        length, shift, at = 0, 0, at + 1
        while True:
            byte = SAMPLE[at]
            length, shift, at = length | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                break
        at += length
        ends.add(at)
    for end in set(range(len(SAMPLE))) - ends:
        with pytest.raises(wasm.ModuleError):
            wasm.read(SAMPLE[:end])


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for module in (data, HEADER + data):
        with contextlib.suppress(wasm.ModuleError):
            wasm.read(module)


@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_changed_module_is_read_or_refused_and_never_invalid_for_every_class_unseen(
    changes: list[tuple[int, int]],
) -> None:
    module = bytearray(SAMPLE)
    for at, value in changes:
        module[at] = value
    try:
        facts = validate.facts_of(bytes(module))
    except wasm.ModuleError:
        return
    if facts.refusals.keys() >= CLASSES.keys():
        assert validate.module_findings(facts)


@given(
    number=st.integers(0, 13),
    count=st.integers(0, 2**32 - 1),
    rest=st.binary(max_size=40),
)
def test_a_list_longer_than_its_section_costs_nothing(number: int, count: int, rest: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(wasm.ModuleError):
        wasm.read(HEADER + section(number, leb(count) + rest))
    assert time.process_time() - began < 0.5


def test_the_largest_module_is_read_within_a_second() -> None:
    module = plain_module(functions=49_999, imports=1_000, data_segments=10_000, data_bytes=6 << 20)
    began = time.process_time()
    contents = wasm.read(module)
    assert time.process_time() - began < 1
    assert contents.over_limit == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x0d\0\0\0\x0a", "version 0xd of the format is not supported"),
        (b"\x0d\0\x01\0", "a component: build a core module instead"),
    ],
)
def test_another_version_is_named(body: bytes, says: str) -> None:
    with pytest.raises(wasm.ModuleError, match=says):
        wasm.read((b"\0asm" + body).ljust(8, b"\0"))


@pytest.mark.parametrize(
    ("section_bytes", "says"),
    [
        (section(99, b""), "unknown section 99 at byte 0x8"),
        (section(1, b"\0") * 2, "a second type section at byte 0xb"),
        (section(1, b"\x01\x2f\0"), "type form 0x2f is not supported"),
        (section(1, b"\x01\x60\x01\x55\0"), "value type 0x55 is not supported at byte 0xd"),
        (section(2, b"\x01\x01a\x01b\0\x05"), "type 5 does not exist"),
        (section(2, b"\x01\x02\xff\xfe\x01b\0\0"), "a name is not UTF-8"),
        (section(7, b"\x01\x01a\0\x09"), "names function 9, which does not exist"),
        (section(7, b"\x01\x01a\x09\0"), "kind 9 of an import or export is unknown"),
        (section(1, b"\xff\xff\xff\xff\xff\x01"), "a number is too long"),
        (section(1, b"\xff\xff\xff\xff\x7f"), "a number is too large"),
    ],
)
def test_a_fault_is_told_with_its_place(section_bytes: bytes, says: str) -> None:
    with pytest.raises(wasm.ModuleError, match=says):
        wasm.read(HEADER + section_bytes)


# Each list with a limit: its section, one entry of it, and the limit.
LISTS = {
    "types": (1, b"\x60\0\0", 10_000),
    "imports": (2, name("a") + name("b") + b"\x03\x7f\0", 1_000),
    "functions": (3, b"\0", 50_000),
    "tables": (4, b"\x70\0\0", 16),
    "globals": (6, b"\x7f\0\x41\0\x0b", 10_000),
    "exports": (7, name("a") + b"\x02\0", 1_000),
    "element segments": (9, b"\x01\0\0", 10_000),
    "data segments": (11, b"\x01\0", 10_000),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_over_its_limit_is_told_with_its_place_and_not_read(what: str) -> None:
    number, entry, limit = LISTS[what]
    assert wasm.read(HEADER + section(number, leb(limit) + entry * limit)).over_limit == []
    # Only what is counted is looked at: the last entry makes no sense.
    over = HEADER + section(number, leb(limit + 1) + entry * limit + b"\xff" * len(entry))
    assert wasm.read(over).over_limit == [f"{limit + 1} {what} (at byte 0x8); the limit is {limit}"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff", "unknown instruction ff at byte 0x17 in function 0"),
        (b"\xfc\x63", "unknown instruction fc 63 at byte 0x17 in function 0"),
        (b"\xfd\xff\x7f", "unknown instruction fd ff 7f at byte 0x17 in function 0"),
        (b"\x41\xff", "a function ends inside an instruction at byte 0x19 in function 0"),
        (b"\x0e\xff\xff\x03", "a list of 65535 entries does not fit its section at byte 0x18 in function 0"),
        (b"\x44\0", "8 bytes are announced and 1 are left at byte 0x18 in function 0"),
        (b"\x02\x33", None),
    ],
)
def test_code_that_is_none_is_told_with_its_function(body: bytes, says: str | None) -> None:
    module = HEADER + section(1, vector([b"\x60\0\0"])) + section(3, vector([b"\0"]))
    module += section(10, vector([leb(len(body) + 1) + b"\0" + body]))
    if says is None:
        wasm.read(module)  # a type that does not exist is wasmtime's to find
        return
    with pytest.raises(wasm.ModuleError, match=says):
        wasm.read(module)


@pytest.mark.parametrize("code", [b"\x41" + b"\x80" * 3_000, b"\x28" + b"\x80" * 3_000, b"\x02" + b"\x80" * 3_000])
def test_a_number_without_end_costs_no_more_than_its_function(code: bytes) -> None:
    body = leb(len(code) + 1) + b"\0" + code
    count = (4 << 20) // len(body)
    module = HEADER + section(1, vector([b"\x60\0\0"])) + section(3, vector([b"\0"] * count))
    began = time.process_time()
    with contextlib.suppress(wasm.ModuleError):
        wasm.read(module + section(10, leb(count) + body * count))
    assert time.process_time() - began < 2


def test_names_of_functions_are_cut_and_made_printable() -> None:
    text = bytes(wat2wasm("(module (func $ok (tag) (return_call $ok)))".replace("(tag) ", "")))
    contents = wasm.read(text)
    assert wasm.function_names(text, contents, [0]) == {0: "ok"}
    long = text.replace(b"\x02ok", b"\x02\x1bk")
    assert wasm.function_names(long, wasm.read(long), [0]) == {0: "?k"}
    assert wasm.function_names(text[:-1] + b"\xff", contents, [7]) == {}
