"""The SDK's headers: as native code against Python, and as modules of every class."""

from __future__ import annotations

import ctypes
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.runtime import wasm

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
SDK = ROOT / "examples/sdk"
CLASSES = ("mpu", "gateway", "riscv", "mcu")


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("native")
    command = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-O2", "-w", "-shared", "-fPIC", "-I", SDK]
    subprocess.run(
        [*map(str, command), "-o", folder / "native.so", Path(__file__).parent / "sdk_native.c"],
        check=True,
        timeout=120,
    )
    library = ctypes.CDLL(str(folder / "native.so"))
    library.t_bytes.restype = ctypes.POINTER(ctypes.c_char)
    doubles = ctypes.c_double
    library.t_decimal.argtypes = library.t_json.argtypes = [doubles, ctypes.c_int32]
    library.t_signed.argtypes = [ctypes.c_int64]
    for name in ("m_sin", "m_cos"):
        getattr(library, name).argtypes, getattr(library, name).restype = [doubles], doubles
    library.m_finite.argtypes = [doubles]
    for name in ("m_clamp", "m_min", "m_max"):
        getattr(library, name).restype = ctypes.c_float
    library.m_clamp.argtypes = [ctypes.c_float] * 3
    library.m_min.argtypes = library.m_max.argtypes = [ctypes.c_float] * 2
    library.e_env.argtypes = [ctypes.c_char_p, doubles, doubles, ctypes.POINTER(doubles)]
    library.e_read.argtypes = [ctypes.c_char_p, ctypes.POINTER(doubles)]
    return library


def text(native: ctypes.CDLL, length: int) -> str:
    return bytes(native.t_bytes()[:length]).decode()


@given(st.floats(-1e8, 1e8), st.integers(0, 9))
def test_decimals_are_what_python_writes(native: ctypes.CDLL, value: float, decimals: int) -> None:
    got = text(native, native.t_decimal(value, decimals))
    assert len(got.partition(".")[2]) == decimals
    assert float(got) == pytest.approx(value, abs=0.5001 * 10**-decimals + 1e-7)
    assert got != "-0"


@pytest.mark.parametrize(
    ("value", "decimals", "wanted"),
    [
        (0.0, 0, "0"), (-0.0, 2, "0.00"), (2.5, 0, "3"), (-2.5, 0, "-3"), (-0.004, 2, "0.00"), (1.999, 2, "2.00"),
        (1e17, 0, "100000000000000000"), (1e18, 0, "nan"), (math.nan, 2, "nan"), (math.inf, 2, "nan"),
        (-math.inf, 2, "nan"), (1e10, 9, "nan"),
    ],
)  # fmt: skip
def test_rare_decimals(native: ctypes.CDLL, value: float, decimals: int, wanted: str) -> None:
    assert text(native, native.t_decimal(value, decimals)) == wanted
    assert text(native, native.t_json(value, decimals)) == wanted.replace("nan", "null")


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_what_python_writes(native: ctypes.CDLL, value: int) -> None:
    assert text(native, native.t_signed(value)) == str(value)


def test_a_line_ends_at_its_limit(native: ctypes.CDLL) -> None:
    assert native.t_fill(b"0123456789", 100) == 192


@given(st.decimals(-(10**9), 10**9, places=6))
def test_decimals_are_read_back(native: ctypes.CDLL, value: object) -> None:
    out = ctypes.c_double()
    written = f"{value:f}".encode()
    assert native.e_read(written, ctypes.byref(out)) == len(written)
    assert out.value == float(written)


@given(st.text(alphabet="0123456789.-+eEnaf ", max_size=30))
def test_whatever_is_read_is_a_number(native: ctypes.CDLL, written: str) -> None:
    out = ctypes.c_double(123.0)
    read = native.e_read(written.encode(), ctypes.byref(out))
    if read < 0:
        assert out.value == 123.0
    else:
        assert out.value == pytest.approx(float(written[:read]))


@pytest.mark.parametrize(
    ("value", "good", "wanted"),
    [
        (b"5", 1, 5.0),
        (None, 1, 7.0),
        (b"11", 0, None),
        (b"-1", 0, None),
        (b"", 0, None),
        (b"5 ", 0, None),
        (b"1" * 40, 0, None),
    ],
)
def test_settings_have_a_range(native: ctypes.CDLL, value: bytes | None, good: int, wanted: float | None) -> None:
    out = ctypes.c_double()
    assert native.e_env(value, 0.0, 10.0, ctypes.byref(out)) & 1 == good
    assert wanted is None or out.value == wanted


@given(st.floats(-1e4, 1e4))
def test_sine_and_cosine(native: ctypes.CDLL, angle: float) -> None:
    assert native.m_sin(angle) == pytest.approx(math.sin(angle), abs=1e-11)
    assert native.m_cos(angle) == pytest.approx(math.cos(angle), abs=1e-11)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_sine_of_what_is_no_angle_is_nan(native: ctypes.CDLL, value: float) -> None:
    assert math.isnan(native.m_sin(value))
    assert bool(native.m_finite(value)) == math.isfinite(value)


def test_comparisons_know_nan(native: ctypes.CDLL) -> None:
    nan = math.nan
    assert (native.m_min(nan, 2), native.m_min(2, nan), native.m_max(nan, 2), native.m_max(2, nan)) == (2, 2, 2, 2)
    assert (native.m_clamp(nan, 1, 3), native.m_clamp(9, 1, 3), native.m_clamp(2, 1, 3)) == (1, 3, 2)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32),
    st.floats(),
    st.text(alphabet="abcäß", max_size=30),
    st.binary(max_size=300),
    st.integers(0, 400),
)
def test_cbor_is_read_by_another_implementation_or_overflows(
    native: ctypes.CDLL, number: int, narrow: float, wide: float, word: str, data: bytes, capacity: int
) -> None:
    buffer = ctypes.create_string_buffer(b"\x55" * 512, 512)
    length = native.c_all(
        buffer, capacity, ctypes.c_int64(number), ctypes.c_float(narrow), ctypes.c_double(wide), word.encode(), data,
        len(data),
    )  # fmt: skip
    expected = [number, narrow, wide, word, data, number < 0, {"k": 1}]
    wanted = cbor2.dumps(expected[:1], canonical=True)  # length of the number alone
    needed = len(wanted) + 5 + 9 + len(cbor2.dumps(word)) + len(cbor2.dumps(data)) + 1 + 4
    assert bytes(buffer.raw[capacity:]) == b"\x55" * (512 - capacity), "written behind the buffer"
    if needed > capacity:
        assert length <= 0
        return
    got = cbor2.loads(buffer.raw[:length])
    assert length == needed
    assert (got[0], got[3:]) == (number, expected[3:])
    assert struct.pack("<f", got[1]) == struct.pack("<f", narrow) or math.isnan(narrow)
    assert struct.pack("<d", got[2]) == struct.pack("<d", wide) or math.isnan(wide)


def compiled(source: Path, output: Path, device_class: str, script: Path = ROOT / "scripts/build-example") -> bytes:
    subprocess.run([script, source, output, "--class", device_class], check=True, timeout=120)
    return output.read_bytes()


@pytest.mark.parametrize("device_class", CLASSES)
def test_strings_and_structures_work_in_every_class(tmp_path: Path, device_class: str) -> None:
    binary = compiled(Path(__file__).parent / "sdk_module.c", tmp_path / "module.wasm", device_class)
    config = wasmtime.Config()
    config.wasm_custom_page_sizes = True
    store = wasmtime.Store(wasmtime.Engine(config))
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, binary), [])
    exports = instance.exports(store)
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)

    def call(name: str, *arguments: float) -> int:
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(store, *arguments)  # type: ignore[no-any-return]

    start = call("address")
    memory.write(store, b"hello\0world\0hello there\0\xff\0", start)
    assert call("length", 0) == 5
    assert call("most", 0, 3) == 3
    assert call("order", 0, 6) < 0 < call("order", 6, 0)
    assert call("order", 0, 12) < 0
    assert call("order_n", 0, 12, 5) == 0
    assert call("order", 24, 0) > 0, "bytes are unsigned"
    assert call("find", 0, ord("w"), 20) == 6
    assert call("find", 0, ord("z"), 20) == -1
    assert call("compare", 0, 12, 5) == 0
    assert call("compare", 0, 12, 6) < 0
    call("copy", 100, 6, 6)
    assert call("order", 100, 6) == 0
    call("fill", 200, ord("x"), 4)
    call("fill", 204, 0, 1)
    assert call("length", 200) == 4
    memory.write(store, b"0123456789", start + 300)
    call("move", 302, 300, 8)
    assert bytes(memory.read(store, start + 300, start + 310)) == b"0101234567"
    call("move", 300, 302, 8)
    assert bytes(memory.read(store, start + 300, start + 310)) == b"0123456767"
    assert call("assign") == 7
    assert call("root", 2.25) == 1.5


@pytest.mark.parametrize("device_class", CLASSES)
def test_the_same_source_gives_the_same_bytes_anywhere(tmp_path: Path, device_class: str) -> None:
    here = compiled(ROOT / "examples/collector", tmp_path / "here.wasm", device_class)
    other = tmp_path / "quite another/place"
    shutil.copytree(ROOT / "examples", other / "examples")
    shutil.copytree(ROOT / "scripts", other / "scripts")
    (other / ".venv/bin").mkdir(parents=True)
    (other / ".venv/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (other / ".venv/bin/python").chmod(0o755)
    there = compiled(other / "examples/collector", other / "there.wasm", device_class, other / "scripts/build-example")
    assert here == there


def test_small_classes_take_memory_in_bytes(tmp_path: Path) -> None:
    sizes = {}
    for device_class in CLASSES:
        module = compiled(ROOT / "examples/collector", tmp_path / "module.wasm", device_class)
        sizes[device_class] = wasm.read(module).memories[0].minimum_bytes
    assert sizes["mcu"] == sizes["riscv"] < 4096
    assert sizes["mpu"] == sizes["gateway"]
    assert sizes["mpu"] % 65536 == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere.c", "out.wasm"], "nowhere.c is no C file"),
        (["examples/collector", "out.wasm", "--class", "toaster"], "no class 'toaster'"),
        (["examples/collector"], "Usage: build-example"),
        (["examples/collector", "out.wasm", "--fast"], "Usage: build-example"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arguments: list[str], why: str) -> None:
    command = [ROOT / "scripts/build-example", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=150, check=False)
    assert done.returncode == 2
    assert why in done.stderr.replace(str(tmp_path), "")


def test_warnings_are_errors_and_leave_no_output(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text(
        '#include "wasmbed.h"\nWB_APPLICATION;\nWB_INIT { float x = 1.5; int y = x; return y; }\n'
    )
    command = [ROOT / "scripts/build-example", tmp_path / "bad.c", tmp_path / "bad.wasm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode != 0
    assert "Wfloat-conversion" in done.stderr or "Wconversion" in done.stderr or "-Werror" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.c"]


def test_every_example_is_complete(build: Callable[[str, str], bytes]) -> None:
    folders = sorted(path.parent for path in (ROOT / "examples").glob("*/application.yaml"))
    assert len(folders) >= 7
    for folder in folders:
        for file in ("README.md", "application.yaml", f"{folder.name}.c"):
            assert (folder / file).is_file(), f"{folder.name} has no {file}"
        for manifest in folder.glob("application-*.yaml"):
            assert build(folder.name, manifest.stem.removeprefix("application-")).startswith(b"\0asm")


def test_the_sizes_in_the_readmes_are_the_measured_ones(build: Callable[[str, str], bytes]) -> None:
    for readme in sorted((ROOT / "examples").glob("*/README.md")):
        rows = [
            line.split("|") for line in readme.read_text().splitlines() if line.startswith(("| gateway, mpu", "| mcu"))
        ]
        assert rows, f"{readme} has no table of sizes"
        for _, classes, size, memory, *_ in rows:
            module = build(readme.parent.name, classes.split(",")[0].strip())
            assert int(size.replace(",", "")) == pytest.approx(len(module), rel=0.05)
            assert int(memory.replace(",", "")) == pytest.approx(wasm.read(module).memories[0].minimum_bytes, rel=0.05)
