"""The limits of a call: stack, CPU time, memory; and the words for what went over them."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from host_bench import World, compile_to, on_thread
from runtime_support import application
from wasmbed.runtime import Limits, abi
from wasmbed.runtime.faults import Fault
from wasmbed.runtime.instance import Sandbox
from wasmbed.runtime.profiles import CLASSES, Profile
from wasmbed.runtime.watchdog import Owner, StoppedError, Watchdog

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def with_sandbox(tmp_path: Path, watchdog: Watchdog) -> Callable[..., None]:
    """Do something with a sandbox of a module on a thread of its class."""

    def do(wasm: bytes, profile: Profile, work: Callable[[Sandbox], None]) -> None:
        directory = Path(tempfile.mkdtemp(dir=tmp_path))
        artifact = compile_to(directory / "a.cwasm", wasm)
        host = World(directory).host

        def run() -> None:
            sandbox = Sandbox(artifact, profile, host, watchdog)
            try:
                work(sandbox)
            finally:
                sandbox.close()

        on_thread(run, profile.stack_bytes)

    return do


SMALL = CLASSES["gateway"].lowered(Limits(memory_bytes=1 << 20, cpu_ms_per_call=2000))
SPIN = application(init="(loop (br 0))")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("(drop (i32.div_s (i32.const 1) (local.get $n)))", "division by zero in function 1"),
        ("(drop (i32.load (i32.const 70000)))", "access outside its memory in function 1"),
        ("unreachable", "unreachable executed in function 1; its memory was 64 KiB, limit 1 MiB"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "conversion of a float that is no integer in function 1"),
    ],
)
def test_a_trap_is_told_in_words_with_its_function(with_sandbox: Callable[..., None], body: str, says: str) -> None:
    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        with pytest.raises(Fault, match=f"^wasmbed_init: {says}$"):
            sandbox.call(abi.INIT)

    with_sandbox(application(init=body), SMALL, work)


@pytest.mark.parametrize("device_class", list(CLASSES))
def test_endless_recursion_is_a_trap_in_every_class(with_sandbox: Callable[..., None], device_class: str) -> None:
    deep = '(func $deep (export "wasmbed_init") (result i32) (i32.add (call $deep) (i32.const 1)))'

    def work(sandbox: Sandbox) -> None:
        for _ in range(3):
            sandbox.renew()
            with pytest.raises(Fault, match=r"stack of (8 MiB|32 KiB|8 KiB) exhausted \(recursion\?\) in deep"):
                sandbox.call(abi.INIT)

    with_sandbox(application(deep), CLASSES[device_class], work)


def test_a_host_call_from_the_bottom_of_the_stack_has_room(with_sandbox: Callable[..., None]) -> None:
    """The deepest frame calls the host over and over; Python runs on the margin below the WebAssembly stack."""
    deep = """(func $deep (export "wasmbed_init") (result i32)
        (drop (call $sys.device_name (i32.const 0) (i32.const 64))) (i32.add (call $deep) (i32.const 1)))"""

    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        with pytest.raises(Fault, match="stack of 8 MiB exhausted"):
            sandbox.call(abi.INIT)

    with_sandbox(application(deep, uses=("sys.device_name",)), CLASSES["gateway"].lowered(Limits()), work)


@pytest.mark.parametrize("limit_ms", [50, 100, 500])
def test_a_call_ends_within_20_ms_of_its_cpu_time_under_load(with_sandbox: Callable[..., None], limit_ms: int) -> None:
    """Three spinning threads and a storm of host calls on the machine's cores beside the measured one."""
    storm = application(uses=("sys.clock_monotonic_ns",), init="(loop (drop (call $sys.clock_monotonic_ns)) (br 0))")

    def load(wasm: bytes) -> threading.Thread:
        def work(sandbox: Sandbox) -> None:
            sandbox.renew()
            with pytest.raises(Fault):
                sandbox.call(abi.INIT)

        profile = CLASSES["gateway"].lowered(Limits(cpu_ms_per_call=4 * limit_ms))
        thread = threading.Thread(target=with_sandbox, args=(wasm, profile, work))
        thread.start()
        return thread

    def measured(sandbox: Sandbox) -> None:
        sandbox.renew()
        before_ns = sandbox.cpu_ns
        with pytest.raises(Fault) as fault:
            sandbox.call(abi.INIT)
        used_ms = (sandbox.cpu_ns - before_ns) / 1e6
        if "used its" in str(fault.value):
            assert abs(used_ms - limit_ms) <= 20
        else:  # the machine gave it less than a quarter of a core
            assert used_ms <= limit_ms + 20

    threads = [load(wasm) for wasm in (SPIN, SPIN, SPIN, storm)]
    try:
        with_sandbox(SPIN, CLASSES["gateway"].lowered(Limits(cpu_ms_per_call=limit_ms)), measured)
    finally:
        for thread in threads:
            thread.join()


def test_a_stopped_owner_is_interrupted_and_makes_no_further_call(
    with_sandbox: Callable[..., None], watchdog: Watchdog
) -> None:
    ready: list[Sandbox] = []
    times: list[float] = []

    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        ready.append(sandbox)
        with pytest.raises(StoppedError):
            sandbox.call(abi.INIT)
        times.append(time.monotonic())
        with pytest.raises(StoppedError):
            sandbox.call(abi.INIT)

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not (ready and ready[0].owner.running) and time.monotonic() < deadline:
            time.sleep(0.001)
        times.append(time.monotonic())
        watchdog.stop(ready[0].owner)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with_sandbox(SPIN, CLASSES["gateway"], work)
    stopper.join()
    assert times[1] - times[0] < 0.5 * busy()


def test_an_interruption_too_late_for_its_call_spares_the_next(
    with_sandbox: Callable[..., None], watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call was over when it was interrupted, and the watchdog was not told yet."""
    end = watchdog.end

    def end_late(owner: Owner) -> None:
        deadline = time.monotonic() + 60
        while owner.verdict is None and time.monotonic() < deadline:
            time.sleep(0.001)
        end(owner)

    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        for _ in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(watchdog, "end", end_late)
                assert sandbox.call(abi.EVENT, (1, 0, 0)) == 0
            assert sandbox.owner.verdict == "wall"
            assert sandbox.call(abi.EVENT, (1, 0, 0)) == 0
        monkeypatch.setattr(watchdog, "end", end_late)
        sandbox.renew()
        monkeypatch.undo()
        assert sandbox.call(abi.EVENT, (1, 0, 0)) == 0

    with_sandbox(application(event="nop"), CLASSES["gateway"].lowered(Limits(cpu_ms_per_call=20)), work)


def test_a_call_that_ends_about_at_its_limit_spares_the_next(with_sandbox: Callable[..., None]) -> None:
    spin = "(loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $source))))"
    ended = {True: 0, False: 0}

    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        steps = 1000
        for _ in range(300):
            try:
                sandbox.call(abi.EVENT, (1, steps, 0), limit_ms=1)
            except Fault:
                ended[False] += 1
                steps = int(steps * 0.93)
            else:
                ended[True] += 1
                steps = int(steps * 1.05)
            sandbox.call(abi.EVENT, (1, 1, 0))

    with_sandbox(application(event=spin), SMALL, work)
    assert min(ended.values()) > 10


def test_host_functions_reach_memory_as_soon_as_it_has_grown(with_sandbox: Callable[..., None]) -> None:
    name = "(call $sys.device_name (i32.const {}) (i32.const 64))"
    grows = f"""(drop {name.format(100)}) (drop (memory.grow (i32.const 4)))
        (drop {name.format(65536 * 5 - 64)}) (drop {name.format(100)})
        (if (i32.ne (i32.load (i32.const 100)) (i32.load (i32.const {65536 * 5 - 64}))) (then unreachable))"""

    def work(sandbox: Sandbox) -> None:
        sandbox.renew()
        assert sandbox.call(abi.INIT) == 0
        with pytest.raises(Fault, match="64 bytes at 0x50000 are not inside the memory of 327680 bytes"):
            sandbox.call(abi.EVENT, (1, 0, 0))

    outside = f"(drop {name.format(65536 * 5)})"
    with_sandbox(application(uses=("sys.device_name",), init=grows, event=outside), SMALL, work)
