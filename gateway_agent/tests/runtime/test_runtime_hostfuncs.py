"""Every host function with good, bad and hostile arguments, called from WebAssembly; and the limits of a call."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
from runtime_support import busy
from wasmbed.runtime import Limits, abi, engine
from wasmbed.runtime.faults import Fault
from wasmbed.runtime.hostfuncs import HostFunctions
from wasmbed.runtime.instance import THREAD_MARGIN_BYTES, Sandbox
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES, Profile
from wasmbed.runtime.watchdog import StoppedError, Watchdog
from wasmtime import Module, wat2wasm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
IMPORTS = """
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (import "wasmbed:sys" "clock_monotonic_ns" (func $clock_monotonic_ns (result i64)))
  (import "wasmbed:sys" "clock_realtime_ns" (func $clock_realtime_ns (result i64)))
  (import "wasmbed:sys" "random" (func $random (param i32 i32) (result i32)))
  (import "wasmbed:sys" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "recv" (func $recv (param i32 i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "device_name" (func $device_name (param i32 i32) (result i32)))
  (import "wasmbed:sys" "env" (func $env (param i32 i32 i32 i32) (result i32)))
  (import "wasmbed:sys" "sleep_hint" (func $sleep_hint (param i32)))
"""
# What the calls below point at: a name at 0, a text with control characters at 16; the memory ends at 65536.
DATA = r'(data (i32.const 0) "RATE") (data (i32.const 16) "a\00b\0ac\ffd\tA\c3\a9")'


def on_thread(work: Callable[[], T], stack_bytes: int) -> T:
    """Run work on a thread as large as an instance's."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    before = threading.stack_size(stack_bytes + THREAD_MARGIN_BYTES)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


@dataclass
class Bench:
    """Runs one call of a body and keeps what came of it."""

    directory: Path
    watchdog: Watchdog
    exchange: Exchange = field(default_factory=Exchange)
    lines: list[tuple[int, str, int]] = field(default_factory=list)
    memory: bytes = b""
    sleep_ms: int | None = None
    cpu_ns: int = 0

    def __post_init__(self) -> None:
        self.reader = self.exchange.join("app")

    def compile(self, text: str) -> Path:
        path = self.directory / "module.cwasm"
        path.write_bytes(bytes(Module(engine.compiling_engine(), bytes(wat2wasm(text))).serialize()))
        return path

    def call(self, body: str, *, profile: Profile | None = None, memory: str = '(memory (export "memory") 1)') -> int:
        profile = profile or CLASSES["gateway"].lowered(Limits(memory_bytes=1 << 20, cpu_ms_per_call=2000))
        artifact = self.compile(
            f'(module {IMPORTS} {memory} {DATA} (func (export "wasmbed_tick") (result i32) (local i32) {body}))'
        )
        host = HostFunctions(
            device="ns/device",
            env={"RATE": "10", "EMPTY": ""},
            exchange=self.exchange,
            reader=self.reader,
            on_log=lambda *line: self.lines.append(line),
        )

        def work() -> int:
            sandbox = Sandbox(artifact, profile, host, self.watchdog)
            sandbox.renew()
            began = time.thread_time_ns()
            try:
                return sandbox.call(abi.TICK)
            finally:
                self.cpu_ns = time.thread_time_ns() - began
                self.sleep_ms = host.sleep_ms
                if sandbox._memory is not None and sandbox._store is not None:
                    self.memory = bytes(sandbox._memory.read(sandbox._store, 0, 4096))
                sandbox.close()

        return on_thread(work, profile.stack_bytes)


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    watchdog.start()
    yield watchdog
    watchdog.close()


@pytest.fixture
def bench(tmp_path: Path, watchdog: Watchdog) -> Bench:
    return Bench(tmp_path, watchdog)


def c(*values: int) -> str:
    return " ".join(f"(i32.const {value})" for value in values)


def test_log_passes_level_and_text_without_control_characters(bench: Bench) -> None:
    assert (
        bench.call(f"(call $log {c(9, 16, 11)}) (call $log {c(-1, 0, 4)}) (call $log {c(2, 0, 0)}) (i32.const 0)") == 0
    )
    assert bench.lines == [(4, "a\ufffdb\ufffdc\ufffdd\tAé", 0), (0, "RATE", 0), (2, "", 0)]


def test_log_cuts_a_long_line(bench: Bench) -> None:
    bench.call(f"(call $log {c(2, 1000, 60000)}) (i32.const 0)")
    assert len(bench.lines[0][1]) == abi.LOG_MAX


def test_clocks_tell_the_hosts_time(bench: Bench) -> None:
    before = time.time_ns(), time.monotonic_ns()
    bench.call(
        "(i64.store (i32.const 100) (call $clock_realtime_ns)) (i64.store (i32.const 108) (call $clock_monotonic_ns))"
        "(i32.const 0)"
    )
    after = time.time_ns(), time.monotonic_ns()
    assert before[0] <= int.from_bytes(bench.memory[100:108], "little") <= after[0]
    assert before[1] <= int.from_bytes(bench.memory[108:116], "little") <= after[1]


def test_random_fills_exactly_what_is_asked(bench: Bench) -> None:
    assert bench.call(f"(call $random {c(200, 256)})") == 256
    assert bench.memory[200:456].count(0) < 32
    assert not any(bench.memory[456:600])


def test_device_name_and_env_are_written(bench: Bench) -> None:
    assert bench.call(f"(call $device_name {c(100, 64)})") == 9
    assert bench.memory[100:110] == b"ns/device\0"
    assert bench.call(f"(call $env {c(0, 4, 100, 2)})") == 2
    assert bench.memory[100:103] == b"10\0"


def test_messages_travel_between_instances(bench: Bench) -> None:
    other = bench.exchange.join("app")
    bench.exchange.receive(other, b"RATE", 10)
    assert bench.call(f"(call $send {c(0, 4, 16, 3)})") == 1
    assert bench.exchange.receive(other, b"RATE", 10) == b"a\0b"
    assert bench.call(f"(call $recv {c(0, 4, 100, 8)})") == -11
    bench.exchange.send(other, b"RATE", b"answer")
    assert bench.call(f"(call $recv {c(0, 4, 100, 5)})") == -90
    assert bench.call(f"(call $recv {c(0, 4, 100, 6)})") == 6
    assert bench.memory[100:107] == b"answer\0"
    for _ in range(32):
        bench.exchange.send(bench.reader, b"RATE", b"x")
    assert bench.call(f"(call $send {c(0, 4, 16, 3)})") == -11


def test_sleep_hint_is_held_to_its_range(bench: Bench) -> None:
    for asked, given in ((250, 250), (-5, 10), (0, 10), (2**31 - 1, 60_000)):
        bench.call(f"(call $sleep_hint {c(asked)}) (i32.const 0)")
        assert bench.sleep_ms == given


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (f"(call $random {c(0, 257)})", -22),
        (f"(call $send {c(0, 65, 0, 1)})", -22),
        (f"(call $send {c(0, 0, 0, 1)})", -22),
        (f"(call $send {c(0, 4, 0, 4097)})", -90),
        (f"(call $recv {c(0, 65, 0, 1)})", -22),
        (f"(call $device_name {c(0, 3)})", -90),
        (f"(call $env {c(0, 3, 100, 10)})", -22),
        (f"(call $env {c(0, 4, 100, 1)})", -90),
        (f"(call $env {c(0, 300, 100, 1)})", -22),
    ],
)
def test_a_bad_argument_is_an_errno_value(bench: Bench, call: str, result: int) -> None:
    assert bench.call(call) == result


@pytest.mark.parametrize(
    ("pointer", "length"), [(65535, 2), (-1, 1), (0, -1), (2**31 - 1, 2**31 - 1), (-1, -1), (65537, 0)]
)
@pytest.mark.parametrize(
    "call",
    [
        "(call $log (i32.const 0) {range}) (i32.const 0)",
        "(call $random {range})",
        "(call $send {range} (i32.const 0) (i32.const 1))",
        "(call $send (i32.const 0) (i32.const 1) {range})",
        "(call $recv {range} (i32.const 0) (i32.const 1))",
        "(call $recv (i32.const 0) (i32.const 1) {range})",
        "(call $device_name {range})",
        "(call $env {range} (i32.const 0) (i32.const 1))",
        "(call $env (i32.const 0) (i32.const 4) {range})",
    ],
)
def test_a_range_outside_the_memory_is_a_trap(bench: Bench, call: str, pointer: int, length: int) -> None:
    with pytest.raises(
        Fault, match=r"wasmbed:sys\.\w+: -?\d+ bytes at 0x[0-9a-f]+ are not inside the memory of 65536 bytes"
    ):
        bench.call(call.format(range=c(pointer, length)))


def test_the_whole_memory_may_be_named_up_to_its_last_byte(bench: Bench) -> None:
    assert bench.call(f"(call $random {c(65536 - 256, 256)})") == 256
    assert bench.call(f"(call $random {c(65536, 0)})") == 0


def test_a_pointer_into_grown_memory_is_good(bench: Bench) -> None:
    assert bench.call(f"(drop (memory.grow (i32.const 3))) (call $random {c(4 * 65536 - 8, 8)})") == 8


def test_a_memory_of_single_bytes_is_checked_by_the_byte(bench: Bench) -> None:
    memory = '(memory (export "memory") 100 (pagesize 1))'
    assert bench.call(f"(call $random {c(90, 10)})", memory=memory) == 10
    with pytest.raises(Fault, match="memory of 100 bytes"):
        bench.call(f"(call $random {c(90, 11)})", memory=memory)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("(i32.div_s (i32.const 1) (local.get 0))", "wasmbed_tick: division by zero in function 9"),
        ("(i32.load (i32.const 70000))", "wasmbed_tick: access outside its memory in function 9"),
        ("unreachable", "wasmbed_tick: unreachable executed in function 9; its memory was 64 KiB, limit 1 MiB"),
        ("(i32.trunc_f32_s (f32.const nan))", "wasmbed_tick: conversion of a float that is no integer in function 9"),
    ],
)
def test_a_trap_is_told_in_words_with_its_function(bench: Bench, body: str, says: str) -> None:
    with pytest.raises(Fault, match=f"^{says}$"):
        bench.call(body)


@pytest.mark.parametrize("device_class", list(CLASSES))
def test_endless_recursion_is_a_trap_in_every_class(bench: Bench, device_class: str) -> None:
    profile = CLASSES[device_class]
    artifact = bench.compile(
        """(module (func $deep (export "wasmbed_tick") (result i32) (i32.add (call $deep) (i32.const 1))))"""
    )
    host = HostFunctions(device="d", env={}, exchange=bench.exchange, reader=bench.reader, on_log=lambda *_: None)

    def work() -> None:
        sandbox = Sandbox(artifact, profile, host, bench.watchdog)
        for _ in range(3):
            sandbox.renew()
            with pytest.raises(Fault, match=r"stack of (8 MiB|32 KiB|8 KiB) exhausted \(recursion\?\) in deep"):
                sandbox.call(abi.TICK)
        sandbox.close()

    on_thread(work, profile.stack_bytes)


def test_a_host_call_from_the_bottom_of_the_stack_has_room(bench: Bench) -> None:
    """The deepest frame calls the host over and over; Python runs on the margin below the WebAssembly stack."""
    artifact = bench.compile(
        """(module (import "wasmbed:sys" "device_name" (func $name (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func $deep (export "wasmbed_tick") (result i32)
            (drop (call $name (i32.const 0) (i32.const 64))) (i32.add (call $deep) (i32.const 1))))"""
    )
    host = HostFunctions(device="d", env={}, exchange=bench.exchange, reader=bench.reader, on_log=lambda *_: None)

    def work() -> None:
        sandbox = Sandbox(artifact, CLASSES["gateway"].lowered(Limits()), host, bench.watchdog)
        sandbox.renew()
        with pytest.raises(Fault, match="stack of 8 MiB exhausted"):
            sandbox.call(abi.TICK)
        sandbox.close()

    on_thread(work, 8 << 20)


@pytest.mark.parametrize("limit_ms", [50, 100, 500])
def test_a_call_ends_within_20_ms_of_its_cpu_time_under_load(bench: Bench, limit_ms: int) -> None:
    """Three spinning threads on the machine's cores beside the measured one."""
    spin = "(loop (br 0)) (i32.const 0)"
    load = [Bench(bench.directory, bench.watchdog) for _ in range(3)]
    for number, other in enumerate(load):
        other.directory = bench.directory / str(number)
        other.directory.mkdir()
    long = CLASSES["gateway"].lowered(Limits(cpu_ms_per_call=4 * limit_ms))
    short = CLASSES["gateway"].lowered(Limits(cpu_ms_per_call=limit_ms))

    def spins(other: Bench) -> None:
        with pytest.raises(Fault):
            other.call(spin, profile=long)

    threads = [threading.Thread(target=spins, args=(other,)) for other in load]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(Fault) as fault:
            bench.call(spin, profile=short)
    finally:
        for thread in threads:
            thread.join()
    if "used its" in str(fault.value):
        assert abs(bench.cpu_ns / 1e6 - limit_ms) <= 20
    else:  # the machine gave it less than a quarter of a core
        assert bench.cpu_ns / 1e6 <= limit_ms + 20


def test_a_stopped_owner_is_interrupted_and_makes_no_further_call(bench: Bench) -> None:
    artifact = bench.compile('(module (func (export "wasmbed_tick") (result i32) (loop (br 0)) (i32.const 0)))')
    host = HostFunctions(device="d", env={}, exchange=bench.exchange, reader=bench.reader, on_log=lambda *_: None)
    ready: list[Sandbox] = []

    def work() -> float:
        sandbox = Sandbox(artifact, CLASSES["gateway"], host, bench.watchdog)
        sandbox.renew()
        ready.append(sandbox)
        with pytest.raises(StoppedError):
            sandbox.call(abi.TICK)
        ended = time.monotonic()
        with pytest.raises(StoppedError):
            sandbox.call(abi.TICK)
        sandbox.close()
        return ended

    stopped: list[float] = []

    def stop() -> None:
        deadline = time.monotonic() + 10
        while not (ready and ready[0].owner.call) and time.monotonic() < deadline:
            time.sleep(0.001)
        stopped.append(time.monotonic())
        bench.watchdog.stop(ready[0].owner)

    stopper = threading.Thread(target=stop)
    stopper.start()
    ended = on_thread(work, 8 << 20)
    stopper.join()
    assert ended - stopped[0] < 0.5 * busy()
