"""What an application of ABI 1 must export, and what is said when it does not."""

from __future__ import annotations

import re

import pytest
from wasmbed.runtime import exports, validate
from wasmbed.runtime.profiles import CLASSES
from wasmtime import wat2wasm

MARKER = '(func (export "wasmbed_abi_1"))'
INIT = '(func (export "wasmbed_init") (result i32) (i32.const 0))'
EVENT = '(func (export "wasmbed_event") (param i32 i32 i32) (result i32) (i32.const 0))'
START = '(func (export "_start"))'


def found(text: str, device_class: str = "gateway") -> list[str]:
    """The findings without their places, each of which is where the name is."""
    module = bytes(wat2wasm(f"(module {text})"))
    texts = list(exports.findings(validate.facts_of(module), CLASSES[device_class]))
    for finding in texts:
        if place := re.search(r"(\S+) \(at byte (0x\w+)\)", finding):
            name = place[1].rpartition(".")[0 if place[1].startswith("wasmbed:") else 2].encode()
            assert module[int(place[2], 16) :].startswith(bytes([len(name)]) + name)
    return [re.sub(r" \(at byte 0x\w+\)", "", finding) for finding in texts]


@pytest.mark.parametrize("device_class", CLASSES)
def test_one_of_the_two_entries_is_enough(device_class: str) -> None:
    assert found(MARKER + INIT, device_class) == found(MARKER + EVENT, device_class) == []
    rest = '(func (export "wasmbed_stop")) (func (export "wasmbed_save") (result i32) (i32.const 0))'
    assert found(MARKER + INIT + EVENT + rest, device_class) == []


def test_the_marker_must_be_there_and_of_this_abi() -> None:
    assert found(INIT) == [
        "exports no wasmbed_abi_1, which says what ABI it was built for; add WB_APPLICATION to one source file"
    ]
    assert found('(func (export "wasmbed_abi_2"))' + INIT) == [
        "export wasmbed_abi_2: built for ABI 2, this runtime has 1; build it with this version's SDK"
    ]
    assert found('(func (export "wasmbed_abi_2"))' + MARKER + INIT) == []


def test_nothing_to_run_is_told() -> None:
    assert found(MARKER) == ["exports neither wasmbed_init nor wasmbed_event, so there is nothing to run"]


def test_the_interface_before_the_first_abi_is_named() -> None:
    assert found('(func (export "wasmbed_tick") (result i32) (i32.const 0))')[1] == (
        "export wasmbed_tick is of the interface before ABI 1; use wasmbed_init and wasmbed_event"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            MARKER + '(func (export "wasmbed_init"))',
            "export wasmbed_init is () -> () and must be () -> (i32)",
        ),
        (
            MARKER + '(func (export "wasmbed_event") (param i64) (result i32) (i32.const 0))',
            "export wasmbed_event is (i64) -> (i32) and must be (i32, i32, i32) -> (i32)",
        ),
        (
            MARKER + INIT + '(memory (export "wasmbed_stop") 1)',
            "export wasmbed_stop is a memory and must be () -> ()",
        ),
        (
            MARKER + INIT + '(func (export "wasmbed_save"))',
            "export wasmbed_save is () -> () and must be",
        ),
        (
            '(func (export "wasmbed_abi_1") (result i32) (i32.const 0))' + INIT,
            "export wasmbed_abi_1 is () -> (i32) and must be () -> ()",
        ),
    ],
)
def test_an_entry_of_another_type_is_told_with_both(text: str, says: str) -> None:
    (finding,) = found(text)
    assert finding.startswith(says)


def test_a_command_of_wasi_needs_no_marker_and_runs_where_wasi_is() -> None:
    for device_class in ("mpu", "gateway"):
        assert found(START, device_class) == []
    for device_class in ("mcu", "riscv"):
        assert found(START + MARKER, device_class) == [
            f"export _start is a command of WASI, which class {device_class} does not have; mpu and gateway have it"
        ]


def test_wasi_is_refused_by_its_name_on_small_classes() -> None:
    text = f'(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))) {MARKER} {INIT}'
    facts = validate.facts_of(bytes(wat2wasm(f"(module {text})")))
    for device_class in ("mcu", "riscv"):
        texts = validate.start_findings(facts, CLASSES[device_class], ("wasmbed:sys",))
        assert any(f"fd_write (at byte 0x1d): class {device_class} has no WASI; mpu and gateway" in t for t in texts)


def test_an_import_with_pointers_needs_the_memory() -> None:
    log = '(import "wasmbed:sys" "log" (func (param i32 i32 i32)))'
    assert found(log + MARKER + INIT) == [
        "import wasmbed:sys.log takes pointers, so a memory must be exported as 'memory'"
    ]
    assert found(log + MARKER + INIT + '(memory (export "memory") 1)') == []
    assert found(log + MARKER + INIT + '(global (export "memory") i32 (i32.const 1))') != []
