"""Whatever the validator accepts, the runtime's own engine makes an instance of; whatever it is given, it answers."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_support import HEADER, leb, name, section, vector
from wasmbed.runtime import Limits, StartRequest, abi, validate, wasm
from wasmbed.runtime.backends import Backends, Ownership
from wasmbed.runtime.calls import Calls, Feeds
from wasmbed.runtime.compile import check_and_compile
from wasmbed.runtime.host import HostFunctions
from wasmbed.runtime.host.context import Context
from wasmbed.runtime.inbox import Inbox
from wasmbed.runtime.instance import Sandbox
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.watchdog import Watchdog
from wasmbed.tools import binary
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = '(func (export "wasmbed_abi_1")) (func (export "wasmbed_init") (result i32) (i32.const 0))'
SEEDS = {
    "an application": f"""
      (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
      (import "wasmbed:px4" "acquire" (func $acquire (result i32)))
      (memory (export "memory") 1 3) (table $t 4 9 funcref) (global $g (mut i64) (i64.const 5))
      (func $f (param i32) (result i32) (local i64 f64)
        (block (br_if 0 (local.get 0)) (call $log (i32.const 2) (i32.const 8) (i32.const 5)))
        (drop (memory.grow (i32.const 1))) (i32.load8_u offset=3 (local.get 0)))
      (elem (i32.const 1) $f $f) (elem func $f)
      (data (i32.const 65530) "hello!") (data "passive") {ENTRIES}
      (func (export "wasmbed_event") (param i32 i32 i32) (result i32)
        (call_indirect (param i32) (result i32) (local.get 0) (i32.const 1)))""",
    "a small one": f"""
      (memory (export "memory") 300 300 (pagesize 1)) (table 2 funcref) (func $f) (elem (i32.const 0) $f $f)
      (data (i32.const 0) "0123456789") (data (i32.const 298) "ab") {ENTRIES}""",
    "one of version 2.0": f"""
      (memory (export "memory") 1) (table $a 1 externref) (table $b 3 funcref)
      (func $f (result v128) (v128.const i64x2 1 2)) (func $g (result i32) (return_call $h))
      (func $h (result i32) (i32.const 0))
      (elem $e (table $b) (i32.const 0) funcref (ref.func $f) (ref.null func)) (elem declare func $g)
      (global i32 (i32.add (i32.const 60000) (i32.const 30)))
      (data (i32.add (i32.const 65000) (i32.const 500)) "end") {ENTRIES}
      (func (export "wasmbed_stop") (table.init $b $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e))""",
    "a command of WASI": """
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
      (memory (export "memory") 2) (data (i32.const 131070) "xy") (func (export "_start") (call 1 (i32.const 0)))""",
}
GRANTS = ("wasmbed:sys", "wasmbed:px4", "wasmbed:secure")
# WebAssembly may have 64 KiB of stack, so that the tests' own thread is large enough.
LIMITS = Limits(memory_bytes=4 << 20, stack_bytes=64 << 10, cpu_ms_per_call=1000)


class Trial:
    """Validates modules, and makes instances of those that are accepted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watchdog = Watchdog()
        self._watchdog.start()
        self.verdicts: Counter[str] = Counter()

    def close(self) -> None:
        self._watchdog.close()

    def attempt(self, module: bytes) -> None:
        """Validate for every class; compile and instantiate for each that takes it, which must work."""
        try:
            facts = validate.facts_of(module)
        except wasm.ModuleError:
            self.verdicts["no module"] += 1
            return
        classes = [
            profile.lowered(LIMITS)
            for profile in CLASSES.values()
            if not validate.start_findings(facts, profile.lowered(LIMITS), GRANTS)
        ]
        if not classes:
            self.verdicts["refused"] += 1
            return
        assert check_and_compile(module, self._folder, "module") == []
        for profile in classes:
            self.verdicts[profile.name] += 1
            sandbox = Sandbox(self._folder / "module.cwasm", profile, self._host(profile.name), self._watchdog)
            sandbox.renew()
            sandbox.close()

    def _host(self, device_class: str) -> HostFunctions:
        request = StartRequest("i", f"sha256:{'0' * 64}", "default/app", "default/device", device_class)
        inbox, exchange, backends = Inbox(device_class), Exchange(), Backends(self._folder)
        return HostFunctions(
            Context(
                request=request,
                inbox=inbox,
                calls=Calls(request, inbox, lambda _request, _must: False),
                feeds=Feeds(inbox),
                backends=backends,
                exchange=exchange,
                reader=exchange.join(request.application, inbox),
                ownership=Ownership(backends.owners, request.device),
                on_log=lambda _level, _text, _dropped: None,
            )
        )


@contextlib.contextmanager
def trials() -> Iterator[Trial]:
    with tempfile.TemporaryDirectory(prefix="wb-mutants-") as folder:
        trial = Trial(Path(folder))
        try:
            yield trial
        finally:
            trial.close()


Change = tuple[str, int, int, bytes]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "copy", "flip", "flip", "drop", "swap"]),
        st.integers(0, 1 << 20),
        st.integers(0, 1 << 20),
        st.binary(min_size=1, max_size=3)
        | st.sampled_from([b"\0", b"\x7f", b"\x80\x01", b"\x80\x80\x04", b"\xff\xff\xff\xff\x0f", b"\xff\xff\x03"]),
    ),
    min_size=1,
    max_size=3,
)


def changed(module: bytes, changes: list[Change], *, whole: bool) -> bytes:
    """Change bytes of sections, whose lengths are made right again, or of the whole file."""
    sections = [binary.Section(256, module[8:])] if whole else binary.read_sections(module)
    for kind, which, where, new in changes:
        number = which % len(sections)
        data = bytearray(sections[number].data)
        at = where % (len(data) + 1)
        match kind:
            case "set":
                data[at : at + len(new)] = new
            case "insert":
                data[at:at] = new
            case "delete":
                del data[at : at + len(new)]
            case "copy":
                data[at:at] = data[which % (len(data) + 1) :][: 4 * len(new)]
            case "flip" if at < len(data):
                data[at] ^= 1 << (new[0] & 7)
        sections[number] = binary.Section(sections[number].number, bytes(data))
        if kind == "drop" and len(sections) > 1:
            del sections[number]
        elif kind == "swap":
            other = where % len(sections)
            sections[number], sections[other] = sections[other], sections[number]
    return HEADER + sections[0].data if whole else binary.write_sections(sections)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mutant_that_is_accepted_can_be_instantiated(seed: str) -> None:
    module = bytes(wat2wasm(f"(module {SEEDS[seed]})"))
    with trials() as trial:
        trial.attempt(module)
        assert trial.verdicts["gateway"] == 1

        @settings(max_examples=500)
        @given(changes=CHANGES, whole=st.integers(0, 4))
        def attempt(changes: list[Change], whole: int) -> None:
            trial.attempt(changed(module, changes, whole=whole == 0))

        attempt()
        # All outcomes were seen, so the property is about something.
        assert min(trial.verdicts[verdict] for verdict in ("no module", "refused", "gateway")) >= 20, trial.verdicts


INDICES = st.sampled_from(
    [0, 1, 63, 64, 299, 300, 65535, 65536, 65537, 131072, 2**31 - 1, 2**31, 2**32 - 1]
) | st.integers(0, 2**32 - 1)


def signed(value: int) -> bytes:
    """Encode an i32 constant."""
    value -= (value & 0x80000000) << 1
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        done = value in (0, -1) and (low & 0x40 != 0) == (value == -1)
        out.append(low | (0 if done else 0x80))
        if done:
            return bytes(out)


def placed(value: int, *, added: int | None) -> bytes:
    """A constant expression, as a sum when `added` is given."""
    if added is None:
        return b"\x41" + signed(value) + b"\x0b"
    return b"\x41" + signed((value - added) & 0xFFFFFFFF) + b"\x41" + signed(added) + b"\x6a\x0b"


@given(
    pages=st.sampled_from([0, 1, 2, 64, 65, 65536]),
    small=st.booleans(),
    elements=st.sampled_from([0, 1, 3, 100_000, 100_001]),
    segments=st.lists(st.tuples(INDICES, st.integers(0, 70), st.none() | INDICES), max_size=3),
    functions=st.lists(st.tuples(INDICES, st.integers(0, 4), st.none() | INDICES), max_size=3),
)
@settings(max_examples=400)
def test_segments_are_accepted_exactly_when_they_fit(
    pages: int,
    small: bool,
    elements: int,
    segments: list[tuple[int, int, int | None]],
    functions: list[tuple[int, int, int | None]],
) -> None:
    memory = b"\x08" + leb(pages) + b"\0" if small else b"\0" + leb(pages)
    module = HEADER + section(1, vector([b"\x60\0\0", b"\x60\0\x01\x7f"])) + section(3, vector([b"\0", b"\x01"]))
    module += section(4, vector([b"\x70\0" + leb(elements)])) + section(5, vector([memory]))
    module += section(7, vector([name(abi.MARKER) + b"\0\0", name(abi.INIT) + b"\0\x01"]))
    module += section(9, vector([b"\0" + placed(at, added=add) + leb(n) + b"\0" * n for at, n, add in functions]))
    module += section(10, vector([b"\x02\0\x0b", b"\x04\0\x41\0\x0b"]))
    module += section(11, vector([b"\0" + placed(at, added=add) + leb(n) + b"x" * n for at, n, add in segments]))
    size = pages if small else pages << 16
    assert LIMITS.memory_bytes is not None
    fits = (
        size <= LIMITS.memory_bytes
        and elements <= wasm.MAX_TABLE_ELEMENTS
        and all(at + n <= size for at, n, _ in segments)
        and all(at + n <= elements for at, n, _ in functions)
    )
    with trials() as trial:
        trial.attempt(module)
        assert bool(trial.verdicts["gateway"]) == fits


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    for module in (data, HEADER + data):
        with contextlib.suppress(wasm.ModuleError):
            facts = validate.facts_of(module)
            assert validate.module_findings(facts) != []
