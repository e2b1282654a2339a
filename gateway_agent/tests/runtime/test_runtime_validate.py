"""Findings about a module for an application: all at once, each with its place."""

from __future__ import annotations

import dataclasses
import json

import pytest
from wasmbed.runtime import Limits, engine, validate, wasm
from wasmbed.runtime.profiles import CLASSES
from wasmtime import wat2wasm

TICK = '(func (export "wasmbed_tick") (result i32) (i32.const 0))'


def findings(
    text: str, *, device_class: str = "gateway", limits: Limits | None = None, grants: tuple[str, ...] = ()
) -> str:
    module = bytes(wat2wasm(f"(module {text})"))
    facts = validate.Facts.of(wasm.read(module), engine.feature_refusals(module))
    profile = CLASSES[device_class].lowered(limits or Limits())
    return "\n".join(validate.start_findings(facts, profile, grants))


def test_a_good_module_has_none() -> None:
    text = '(import "wasmbed:sys" "log" (func (param i32 i32 i32))) (memory (export "memory") 1) ' + TICK
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
        "exports neither wasmbed_start nor wasmbed_tick, so there is nothing to run",
        "import wasmbed:px4.command (at byte 0x15) takes pointers, so a memory must be exported as 'memory'",
    ]


def test_an_ungranted_sys_import_is_named() -> None:
    assert "wasmbed:sys is not granted" in findings(f'(import "wasmbed:sys" "sleep_hint" (func (param i32))) {TICK}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(func (result v128) (v128.const i64x2 0 0))", "SIMD support is not enabled"),
        ("(func $f (return_call $f))", "tail calls support is not enabled"),
        ("(table 1 externref)", "reference types"),
    ],
)
def test_a_feature_is_refused_by_the_small_classes_alone(text: str, says: str) -> None:
    for device_class in ("mcu", "riscv"):
        assert findings(text + TICK, device_class=device_class).startswith(f"class {device_class}: ")
        assert says.lower() in findings(text + TICK, device_class=device_class).lower()
    for device_class in ("gateway", "mpu"):
        assert findings(text + TICK, device_class=device_class) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(memory i64 1)", "memory64"),
        ("(tag)", "exceptions"),
        ("(memory 1) (func (result i32) (i32.atomic.load (i32.const 0)))", "threads"),
    ],
)
def test_what_no_class_has_is_refused_by_its_name(text: str, says: str) -> None:
    module = bytes(wat2wasm(f"(module {text} {TICK})"))
    facts = validate.Facts.of(wasm.read(module), engine.feature_refusals(module))
    assert says in " ".join(validate.module_findings(facts))


def test_a_memory_over_the_limit_is_told_with_both_sizes() -> None:
    assert findings(f"(memory 4) {TICK}", limits=Limits(memory_bytes=131072)) == (
        "memory (at byte 0x16) begins with 262144 bytes; "
        "the limit is 131072 (spec.resources.limits.memory, class gateway)"
    )


def test_an_entry_of_another_type_is_named() -> None:
    found = findings('(func (export "wasmbed_start") (param i32)) (memory (export "wasmbed_tick") 1)')
    assert "export wasmbed_start (at byte 0x1b) is (i32) -> () and must be () -> (i32)" in found
    assert "export wasmbed_tick (at byte 0x2b) is a memory and must be () -> (i32)" in found


def test_a_flood_of_findings_is_cut() -> None:
    found = findings("".join(f'(import "env" "f{n}" (func))' for n in range(400)) + TICK).split("\n")
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
    module = bytes(wat2wasm(f'(module (import "a" "b" (func)) (memory 1) {TICK})'))
    facts = validate.Facts.of(wasm.read(module), engine.feature_refusals(module))
    assert validate.Facts.from_dict(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts
