"""Findings about a module for an application: all at once, each with its place."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from wasmbed.runtime import Limits, validate
from wasmbed.runtime.profiles import CLASSES
from wasmtime import wat2wasm

ENTRIES = '(func (export "wasmbed_abi_1")) (func (export "wasmbed_init") (result i32) (i32.const 0))'


def findings(
    text: str, *, device_class: str = "gateway", limits: Limits | None = None, grants: tuple[str, ...] = ()
) -> str:
    facts = validate.facts_of(bytes(wat2wasm(f"(module {text})")))
    profile = CLASSES[device_class].lowered(limits or Limits())
    return "\n".join(validate.start_findings(facts, profile, grants))


def test_a_good_module_has_none() -> None:
    text = '(import "wasmbed:sys" "log" (func (param i32 i32 i32))) (memory (export "memory") 1) ' + ENTRIES
    for device_class in CLASSES:
        assert findings(text, device_class=device_class, grants=("wasmbed:sys",)) == ""


def test_all_findings_come_at_once() -> None:
    found = findings(
        """(import "wasmbed:px4" "command" (func)) (import "env" "printf" (func))
           (import "wasmbed:sys" "log" (func (param i64))) (import "wasmbed:sys" "shout" (func))
           (import "wasmbed:sys" "m" (memory 1))""",
        grants=("wasmbed:sys",),
    ).split("\n")
    assert found == [
        "import wasmbed:px4.command (at byte 0x15): wasmbed:px4 is not granted; "
        "it is by spec.communication.px4.enabled and the device's capability px4",
        "import env.printf (at byte 0x2b): there is no such import module; there are "
        "wasmbed:px4, wasmbed:ros2, wasmbed:secure, wasmbed:sensor, wasmbed:sys",
        "import wasmbed:sys.log (at byte 0x38): its type is (i64) -> () and must be (i32, i32, i32) -> ()",
        "import wasmbed:sys.shout (at byte 0x4a): this runtime has no such function",
        "import wasmbed:sys.m (at byte 0x5e): a memory cannot be imported, only functions of the host can",
        "exports no wasmbed_abi_1, which says what ABI it was built for; add WB_APPLICATION to one source file",
        "exports neither wasmbed_init nor wasmbed_event, so there is nothing to run",
        "import wasmbed:px4.command (at byte 0x15) takes pointers, so a memory must be exported as 'memory'",
    ]


def test_an_ungranted_sys_import_is_named() -> None:
    assert "wasmbed:sys is not granted" in findings(f'(import "wasmbed:sys" "dropped" (func (result i32))) {ENTRIES}')


def place_of(told: str, module: bytes) -> tuple[str, int, str]:
    """Take a finding about a feature apart: its name, the byte at its place, the function."""
    match = re.fullmatch(
        r"(?:class \w+ has no|no class has) (.+), used at byte 0x([0-9a-f]+)(?: in function (.+))?", told
    )
    assert match, told
    return match[1], module[int(match[2], 16)], match[3] or ""


@pytest.mark.parametrize(
    ("text", "feature", "byte", "function"),
    [
        ("(func (param f32 i64) (result v128) (v128.const i64x2 0 0))", "SIMD", 0x7B, ""),
        ("(func $f) (func $g (drop (v128.const i64x2 0 0)))", "SIMD", 0xFD, "1 (g)"),
        ("(func $f (return_call $f))", "tail calls", 0x12, "0 (f)"),
        ("(table 1 externref)", "reference types", 0x6F, ""),
        ("(table 1 funcref) (table 1 funcref)", "reference types", 0x70, ""),
        ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "extended constant expressions", 0x6A, ""),
    ],
)
def test_a_feature_is_refused_by_the_small_classes_alone(text: str, feature: str, byte: int, function: str) -> None:
    module = bytes(wat2wasm(f"(module {text} {ENTRIES})"))
    for device_class in ("mcu", "riscv"):
        found = findings(f"{text} {ENTRIES}", device_class=device_class)
        assert place_of(found, module) == (feature, byte, function)
    for device_class in ("gateway", "mpu"):
        assert findings(text + ENTRIES, device_class=device_class) == ""


@pytest.mark.parametrize(
    ("text", "feature", "byte", "function"),
    [
        ("(memory i64 1)", "memory64", 0x04, ""),
        ("(tag)", "exceptions", 0x0D, ""),
        ("(memory 1) (func $spin (result i32) (i32.atomic.load (i32.const 0)))", "threads", 0xFE, "0 (spin)"),
        ("(memory 1) (memory 1)", "multi-memory", 0x00, ""),
        ("(type (array i8))", "GC", 0x5E, ""),
    ],
)
def test_what_no_class_has_is_refused_by_its_name(text: str, feature: str, byte: int, function: str) -> None:
    module = bytes(wat2wasm(f"(module {text} {ENTRIES})"))
    (found,) = validate.module_findings(validate.facts_of(module))
    assert place_of(found, module) == (feature, byte, function)


def test_several_features_are_all_told() -> None:
    text = "(memory 1) (memory i64 1) (tag) (func $f (return_call $f) (drop (v128.const i64x2 0 0)))"
    found = findings(f"{text} {ENTRIES}", device_class="mcu").split("\n")
    assert [line.split(",")[0] for line in found] == [
        f"class mcu has no {feature}" for feature in ("multi-memory", "memory64", "exceptions", "tail calls", "SIMD")
    ]


def test_a_fault_in_the_code_names_its_function() -> None:
    module = bytes(wat2wasm(f"(module (func) (func $bad (result i32) (i32.const 1)) {ENTRIES})"))
    broken = module.replace(b"\x04\0\x41\1\x0b", b"\x04\0\x42\1\x0b")
    assert broken != module
    (found,) = validate.module_findings(validate.facts_of(broken))
    assert found.startswith("type mismatch: expected i32, found i64 (at offset 0x")
    assert found.endswith(" in function 1 (bad)")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '(memory 1) (data "passive") (data (i32.const 65533) "1234")',
            r"data segment 1 \(at byte 0x\w+\) ends at byte 65537 of a memory that begins with 65536 bytes",
        ),
        (
            '(memory 1) (data (i32.const -1) "")',
            r"data segment 0 \(at byte 0x\w+\) ends at byte 4294967295 of a memory that begins with 65536 bytes",
        ),
        (
            '(memory 1) (data (i32.add (i32.const 65530) (i32.const 7)) "")',
            r"data segment 0 \(at byte 0x\w+\) ends at byte 65537 of a memory that begins with 65536 bytes",
        ),
        (
            '(memory 300 (pagesize 1)) (data (i32.const 300) "1")',
            r"data segment 0 \(at byte 0x\w+\) ends at byte 301 of a memory that begins with 300 bytes",
        ),
        (
            "(table 2 funcref) (func $f) (elem (i32.const 1) $f $f)",
            r"element segment 0 \(at byte 0x\w+\) ends at element 3 of a table that begins with 2 elements",
        ),
        (
            "(table 2 funcref) (table 0 funcref) (func $f) (elem (table 1) (i32.const 0) func $f)",
            r"element segment 0 \(at byte 0x\w+\) ends at element 1 of a table that begins with 0 elements",
        ),
    ],
)
def test_a_segment_that_would_trap_is_told_before(text: str, says: str) -> None:
    assert re.fullmatch(says, findings(f"{text} {ENTRIES}"))


def test_segments_that_fit_exactly_are_no_finding() -> None:
    text = """(memory 1) (data (i32.const 65532) "1234") (data (i32.const 65536) "") (table 2 funcref) (func $f)
      (elem (i32.const 0) $f $f) (elem (i32.const 2)) (elem func $f $f $f)"""
    assert findings(f"{text} {ENTRIES}") == ""


def test_a_memory_over_the_limit_is_told_with_both_sizes() -> None:
    assert findings(f"(memory 4) {ENTRIES}", limits=Limits(memory_bytes=131072)) == (
        "memory (at byte 0x1a) begins with 262144 bytes; "
        "the limit is 131072 (spec.resources.limits.memory, class gateway)"
    )


def test_a_flood_of_findings_is_cut() -> None:
    found = findings("".join(f'(import "env" "f{n}" (func))' for n in range(400)) + ENTRIES).split("\n")
    assert len(found) == 50
    assert found[-1] == "and 351 more"


def test_limits_lower_a_class_and_never_raise_it() -> None:
    mcu = CLASSES["mcu"].lowered(Limits(memory_bytes=16 << 20, stack_bytes=1 << 20, cpu_ms_per_call=60_000))
    assert (mcu.memory_bytes, mcu.stack_bytes, mcu.cpu_ms_per_call) == (65536, 8192, 100)
    gateway = CLASSES["gateway"].lowered(Limits(memory_bytes=256 << 20, stack_bytes=65536, cpu_ms_per_call=1))
    assert (gateway.memory_bytes, gateway.stack_bytes, gateway.cpu_ms_per_call) == (256 << 20, 65536, 1)
    assert CLASSES["gateway"].lowered(Limits()).memory_bytes == 64 << 20
    assert {name: (p.stack_bytes, p.cpu_ms_per_call) for name, p in CLASSES.items()} == {
        "mpu": (8 << 20, 60_000),
        "gateway": (8 << 20, 60_000),
        "riscv": (32 << 10, 500),
        "mcu": (8 << 10, 100),
    }


def test_facts_survive_the_cache() -> None:
    facts = validate.facts_of(bytes(wat2wasm(f'(module (import "a" "b" (func)) (table 1 externref) {ENTRIES})')))
    assert validate.Facts.from_dict(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts
