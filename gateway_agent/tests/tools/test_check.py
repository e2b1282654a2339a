"""`wasmbed check` gives the verdict of the runtime, with the real compiler and the real interpreter."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from wasmbed.tools import main
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Entries of the application interface, so that each module below is one but for what it is about.
ENTRIES = '(func (export "wasmbed_abi_1")) (func (export "wasmbed_init") (result i32) (i32.const 0))'
LOG = '(import "wasmbed:sys" "log" (func (param i32 i32 i32))) (memory (export "memory") 1)'


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run the command on a module in text; its exit code and report."""

    def run(text: str, *options: str) -> tuple[int, dict[str, Any]]:
        module = tmp_path / "app.wasm"
        module.write_bytes(wat2wasm(f"(module {text} {ENTRIES})"))
        monkeypatch.setattr(sys, "argv", ["wasmbed", "check", str(module), "--json", *options])
        with pytest.raises(SystemExit) as ended:
            main.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(output.out) if output.out else {"error": output.err}

    return run


@pytest.mark.parametrize("device_class", ["gateway", "mpu", "riscv", "mcu"])
def test_a_good_module_is_accepted(check: Any, device_class: str) -> None:
    small = device_class in ("riscv", "mcu")
    size = {"mcu": 32768 - 8, "riscv": 6144 - 8}.get(device_class, 65536)
    memory = f'(memory (export "memory") {size} (pagesize 1))'
    text = LOG.replace('(memory (export "memory") 1)', memory) if small else LOG
    code, report = check(text, "--class", device_class)
    assert (code, report["accepted"], report["findings"]) == (0, True, [])
    assert report["imports"] == ["wasmbed:sys.log"]
    assert report["memory_bytes"] == size
    assert (report["compiled_bytes"] is None, report["interpreter"] is None) == (small, not small)
    if small:
        assert report["interpreter"]["memory_bytes"] == size
        verdict = "fits" if device_class == "riscv" else "does not fit"
        assert any(note.startswith(f"hifive1: {verdict}; flash ") for note in report["notes"])
        # A byte more than the board of the class has, and it would refuse the start.
        code, report = check(text.replace(str(size), str(size + 1)), "--class", device_class)
        board = "hifive1" if device_class == "riscv" else "stm32"
        finding = f"{board} has not room for it: RAM {size + 9:,} of {size + 8:,} bytes"
        assert (code, report["findings"]) == (1, [finding])


def test_every_finding_is_printed(check: Any) -> None:
    text = """(import "wasmbed:px4" "acquire" (func (result i32))) (import "env" "puts" (func)) (memory 2)
      (data (i32.const 131072) "x") (func $blur (drop (v128.const i64x2 0 0)))"""
    code, report = check(text, "--class", "mcu", "--memory", "64Ki")
    assert code == 1
    found = "\n".join(report["findings"])
    for part in (
        "wasmbed:px4.acquire (at byte 0x",
        "env.puts (at byte 0x",
        "data segment 0 (at byte 0x",
        "class mcu has no SIMD, used at byte 0x",
        "in function 2 (blur)",
        "begins with 131072 bytes; the limit is 65536",
        "the microcontrollers' interpreter: ",
    ):
        assert part in found


def test_code_that_does_not_validate_is_refused_as_the_runtime_does(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check("(func $f (result i32) (i32.const 77))")
    module = tmp_path / "app.wasm"
    module.write_bytes(module.read_bytes().replace(b"\x41\xcd\0", b"\x42\xcd\0"))
    monkeypatch.setattr(sys, "argv", ["wasmbed", "check", str(module)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "refused, 1 finding for class gateway\n  - class gateway: type mismatch: expected i32, found i64" in text
    assert "in function 0 (f)\n" in text


def test_grants_come_from_the_command_line_or_the_manifest(check: Any, tmp_path: Path) -> None:
    text = '(import "wasmbed:px4" "acquire" (func (result i32))) (memory 3)'
    assert check(text)[0] == 1
    assert check(text, "--grant", "wasmbed:px4")[0] == 0
    manifest = tmp_path / "application.yaml"
    manifest.write_text("""
apiVersion: wasmbed.io/v1
kind: WasmApplication
metadata: {name: app, namespace: default}
spec:
  wasmImage: registry.example/app:v1
  targetDevices: [{deviceType: drone}]
  resources: {limits: {memory: 128Ki}}
  communication: {px4: {enabled: true}}
""")
    code, report = check(text, "--manifest", str(manifest))
    assert code == 1
    (finding,) = report["findings"]
    assert "begins with 196608 bytes; the limit is 131072" in finding
    assert check(text, "--manifest", str(manifest), "--memory", "1Mi")[0] == 0
    assert "px4 is not granted" in check(text, "--manifest", str(manifest), "--capability", "camera")[1]["findings"][0]


def test_a_module_larger_than_the_gateway_takes_is_refused(check: Any) -> None:
    code, report = check("", "--max-bytes", "50")
    assert code == 1
    assert "more than the 50 allowed; make it smaller or raise maxArtifactBytes" in report["findings"][0]


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("kind: [", "not valid YAML"),
        ("kind: EdgeDevice", "has 0 objects of kind WasmApplication"),
        ("{kind: WasmApplication, metadata: {name: a, namespace: b}}", "spec"),
        (None, "No such file"),
    ],
)
def test_without_a_verdict_the_exit_code_is_2(check: Any, tmp_path: Path, manifest: str | None, says: str) -> None:
    path = tmp_path / "application.yaml"
    if manifest is not None:
        path.write_text(manifest)
    code, report = check("", "--manifest", str(path))
    assert code == 2
    assert says in report["error"]
    assert "Traceback" not in report["error"]


def test_without_the_interpreter_it_is_said(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMBED_INTERP", "/nowhere/wasmbed-interp")
    code, report = check(LOG, "--class", "mcu")
    assert code == 0
    assert any("not tried with the microcontrollers' interpreter: /nowhere" in note for note in report["notes"])


def test_what_is_no_module_is_refused_with_its_first_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(b"#!/bin/sh\n")
    monkeypatch.setattr(sys, "argv", ["wasmbed", "check", str(path), "--class", "mcu"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    assert "does not begin with the bytes 00 61 73 6d" in capsys.readouterr().out


def test_a_module_of_another_abi_is_told_so(check: Any, tmp_path: Path) -> None:
    text = '(func (export "wasmbed_abi_2")) (func (export "wasmbed_event") (param i64))'
    code, report = check(text)
    assert code == 1
    assert any("export wasmbed_event (at byte 0x" in finding for finding in report["findings"])
