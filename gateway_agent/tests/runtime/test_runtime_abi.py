"""The header, the document and the runtime say the same of ABI 1."""

from __future__ import annotations

import re

import pytest
from wasmbed.runtime import abi

from tests.support.processes import ROOT

HEADER = (ROOT / "examples/sdk/wasmbed.h").read_text()
DOCUMENT = (ROOT / "docs/abi.md").read_text()
_C_TYPES = {"int32_t": "i32", "int64_t": "i64", "double": "f64", "void": ""}
OURS = {key: function for key, function in abi.FUNCTIONS.items() if key[0] != abi.WASI}
ENUMS = {
    "wb_error": ("WB_E", abi.Code),
    "wb_event": ("WB_", abi.EventType),
    "wb_telemetry": ("WB_", abi.Telemetry),
    "wb_mode": ("WB_MODE_", abi.FlightMode),
    "wb_ros2_kind": ("WB_ROS2_", abi.Ros2Kind),
    "wb_setpoint_kind": ("WB_SETPOINT_", abi.SetpointKind),
    "wb_format": ("WB_", abi.SampleFormat),
}


def declared() -> dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]]:
    """The functions of the header with their WebAssembly types."""
    functions = {}
    pattern = r'WB_IMPORT\("([\w:]+)", "(\w+)"\)\s+(\w+) \w+\(([^)]*)\);'
    for module, name, result, parameters in re.findall(pattern, HEADER):
        kinds = []
        for parameter in parameters.split(","):
            words = parameter.replace("const ", "").split()
            if words != ["void"]:
                kinds.append("i32" if "*" in parameter else _C_TYPES[words[0]])
        functions[module, name] = (tuple(kinds), (_C_TYPES[result],) if _C_TYPES[result] else ())
    return functions


def test_the_header_declares_every_function_with_its_type() -> None:
    assert declared() == {key: (function.type.params, function.type.results) for key, function in OURS.items()}


@pytest.mark.parametrize("name", ENUMS)
def test_the_headers_numbers_are_the_runtimes(name: str) -> None:
    prefix, ours = ENUMS[name]
    found = re.search(rf"enum {name} \{{(.*?)\}}", HEADER, re.DOTALL)
    assert found
    numbers = {key: int(value) for key, value in re.findall(r"(WB_\w+) = (-?\d+)", found[1])}
    assert numbers == {prefix + member.name: member.value for member in ours}


def test_the_headers_bounds_are_the_runtimes() -> None:
    bounds = {name: int(value) for name, value in re.findall(r"^#define WB_(\w+(?:_MAX|_MS|S)) (\d+)$", HEADER, re.M)}
    assert len(bounds) >= 20
    assert {name: getattr(abi, name) for name in bounds} == bounds
    assert f"#define WB_ABI {abi.VERSION}" in HEADER
    assert f'"{abi.MARKER}"' in HEADER


def test_the_document_has_every_function_with_its_rate() -> None:
    found: dict[tuple[str, str], int] = {}
    for module, section in re.findall(r"^## `(wasmbed:\w+)`\n(.*?)(?=^## )", DOCUMENT, re.M | re.S):
        for name, rate in re.findall(r"^\| `(\w+)\([^`]*`? *\| *([\d,]*) *\|", section, re.M):
            found[module, name] = int(rate.replace(",", "") or 0)
    assert found == {key: function.rate_per_s for key, function in OURS.items()}


def test_the_document_has_every_code_event_and_export() -> None:
    for code in abi.Code:
        assert f"| {code.value} | `{code.name}` |" in DOCUMENT
    for event in abi.EventType:
        assert f"| {event.value} `{event.name}` |" in DOCUMENT
    for name, kind in abi.ENTRIES.items():
        assert f"`{name}" in DOCUMENT, name
        assert len(kind.results) <= 1
    for kind, record in abi.TELEMETRY.items():
        assert re.search(rf"\| {kind.value} `{kind.name}` \|.*\| {record.size} \|", DOCUMENT)
