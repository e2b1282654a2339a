#!/usr/bin/env python3
"""Measure the runtime and, in the same run, bare wasmtime-py doing the same work; writes build/bench/runtime.json.

cold_start_ms         median from `load` of a new module to its state Running, compiling included
bare_cold_start_ms    the same by wasmtime-py in this process: compile, instantiate, call
warm_start_ms         median from `start` of a compiled module to its state Running
bare_call_us          one call of a function (i32, i32, i32) -> i32 by wasmtime-py
call_us               the same call with the runtime's limits and CPU clock
calls_per_s           calls of one instance
call_overhead_ratio   call_us / bare_call_us
host_call_ns          one wasmbed:sys call from WebAssembly
bare_host_call_ns     the same through a function defined with wasmtime-py
events_per_s          ROS 2 events of 64 bytes from the socket into ten instances that read each
start_N_apps_s        N instances of one module, from the first `start` to the last Running
apps_N_rss_mib        resident memory of all processes of the runtime with them
agent_loop_p99_ms_with_10_storms   how late the event loop of a process like the agent wakes, beside ten modules that do
                      nothing but host calls; agent_loop_p99_ms without them

Exits with 1 when a limit of LIMITS is missed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop
from wasmbed.runtime import Delivery, Provision, RuntimeClient, RuntimeGone, StartRequest, StateEvent, abi, engine
from wasmbed.runtime.backends import Backends, Ownership
from wasmbed.runtime.calls import Calls, Feeds
from wasmbed.runtime.host import HostFunctions
from wasmbed.runtime.host.context import Context
from wasmbed.runtime.inbox import Inbox
from wasmbed.runtime.instance import THREAD_MARGIN_BYTES, Sandbox
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.watchdog import Watchdog
from wasmtime import Func, FuncType, Instance, Module, Store, ValType, wat2wasm

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
STARTS = 20
GROWTH = (10, 50, 200)
CALLS = 20_000
ROUNDS = 5
HOST_CALLS = 50_000
EVENT_INSTANCES = 10
EVENT_ROUNDS = 50
STORMS = 10
LOOP_S = 10.0
LOOP_STEP_S = 0.002
LIMITS: Final = {"call_overhead_ratio": 1.15, "agent_loop_p99_ms_with_10_storms": 5.0}

MARKER = '(func (export "wasmbed_abi_1"))'
EVENT = '(func (export "wasmbed_event") (param i32 i32 i32) (result i32) (i32.const 0))'
APPLICATION = f"""(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1) (data (i32.const 0) "started NUMBER") {MARKER}
  (func (export "wasmbed_init") (result i32) (call $log (i32.const 2) (i32.const 0) (i32.const 7)) (i32.const 0))
  {EVENT})"""
CLOCK = '(import "wasmbed:sys" "clock_monotonic_ns" (func $clock (result i64)))'
CALLED = f"""(module {CLOCK} {MARKER} {EVENT}
  (func (export "wasmbed_init") (result i32) (local $n i32)
    (loop (drop (call $clock))
      (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {HOST_CALLS}))))
    (i32.const 0)))"""
READS = f"""(module
  (import "wasmbed:sys" "event_read" (func $read (param i32 i32 i32) (result i32)))
  (import "wasmbed:ros2" "open" (func $open (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "route") {MARKER}
  (func (export "wasmbed_init") (result i32) (call $open (i32.const 0) (i32.const 5)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32)
    (drop (call $read (i32.const 0) (i32.const 64) (i32.const 256))) (i32.const 0)))"""
STORM = f"""(module {CLOCK}
  (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32))) {MARKER}
  (func (export "wasmbed_init") (result i32) (call $timer (i32.const 0) (i32.const 10) (i32.const 0)))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32) (loop (drop (call $clock)) (br 0)) (i32.const 0)))"""


def best(work: Callable[[], object], repeats: int) -> float:
    """Return the seconds one of `repeats` runs of work takes, in the fastest of ROUNDS rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        rounds.append((time.perf_counter() - began) / repeats)
    return min(rounds)


def on_thread(work: Callable[[], T]) -> T:
    """Run work on a thread as large as an instance's."""
    results: list[T] = []
    before = threading.stack_size(CLASSES["gateway"].stack_bytes + THREAD_MARGIN_BYTES)
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    threading.stack_size(before)
    thread.join()
    if not results:
        raise RuntimeError("the measured work failed")
    return results[0]


def host_functions(directory: Path) -> HostFunctions:
    """The host's side of an instance that is alone in the world."""
    request = request_for(b"", "called")
    inbox, exchange = Inbox("gateway"), Exchange()
    return HostFunctions(
        Context(
            request=request,
            inbox=inbox,
            calls=Calls(request, inbox, lambda _request, _must: False),
            feeds=Feeds(inbox),
            backends=Backends(directory),
            exchange=exchange,
            reader=exchange.join("a", inbox),
            ownership=Ownership(directory, "d"),
            on_log=lambda *_: None,
        )
    )


def measure_calls(directory: Path) -> dict[str, float]:
    """Compare calls through the runtime's sandbox with bare ones."""
    wasm = bytes(wat2wasm(CALLED))
    artifact = directory / "called.cwasm"
    artifact.write_bytes(bytes(Module(engine.compiling_engine(), wasm).serialize()))

    def bare() -> tuple[float, float]:
        bare_engine = engine.running_engine(CLASSES["gateway"].stack_bytes)
        store = Store(bare_engine)
        store.set_epoch_deadline(1)
        clock = Func(store, FuncType([], [ValType.i64()]), time.monotonic_ns)
        exports = Instance(store, Module(bare_engine, wasm), [clock]).exports(store)
        event, init = exports[abi.EVENT], exports[abi.INIT]
        assert isinstance(event, Func)  # noqa: S101
        assert isinstance(init, Func)  # noqa: S101
        return best(lambda: event(store, 1, 0, 4), CALLS), best(lambda: init(store), 1) / HOST_CALLS

    def ours() -> tuple[float, float]:
        watchdog = Watchdog()
        watchdog.start()
        sandbox = Sandbox(artifact, CLASSES["gateway"], host_functions(directory), watchdog)
        sandbox.renew()
        result = (
            best(lambda: sandbox.call(abi.EVENT, (1, 0, 4)), CALLS),
            best(lambda: sandbox.call(abi.INIT), 1) / HOST_CALLS,
        )
        sandbox.close()
        watchdog.close()
        return result

    def bare_cold() -> float:
        times = []
        for number in range(STARTS):
            module = bytes(wat2wasm(APPLICATION.replace("NUMBER", str(number))))
            began = time.perf_counter()
            compiling = engine.compiling_engine()
            store = Store(compiling)
            store.set_epoch_deadline(1)
            log = Func(store, FuncType([ValType.i32()] * 3, []), lambda *_: None)
            init = Instance(store, Module(compiling, module), [log]).exports(store)[abi.INIT]
            assert isinstance(init, Func)  # noqa: S101
            init(store)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    bare_call, bare_host_call = on_thread(bare)
    call, host_call = on_thread(ours)
    return {
        "bare_cold_start_ms": on_thread(bare_cold) * 1e3,
        "bare_call_us": bare_call * 1e6,
        "call_us": call * 1e6,
        "calls_per_s": 1 / call,
        "call_overhead_ratio": call / bare_call,
        "bare_host_call_ns": bare_host_call * 1e9,
        "host_call_ns": host_call * 1e9,
    }


class Watched:
    """A client whose instances can be waited for."""

    def __init__(self, client: RuntimeClient) -> None:
        self.client = client
        self._running: set[str] = set()
        self._news = asyncio.Condition()

    async def collect(self) -> None:
        async for event in self.client.events():
            if isinstance(event, StateEvent) and event.state == "Running":
                async with self._news:
                    self._running.add(event.instance)
                    self._news.notify_all()

    async def running(self, instance: str) -> None:
        async with self._news:
            await self._news.wait_for(lambda: instance in self._running)

    async def stop_all(self) -> None:
        for row in await self.client.list():
            await self.client.stop(row.instance)
        self._running.clear()


async def measure_process(directory: Path) -> dict[str, float]:
    """Measure a real runtime process through its socket."""
    socket = directory / "runtime.sock"
    config = directory / "runtime.yaml"
    config.write_text(f"socket: {socket}\ncache_directory: {directory}/cache\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wasmbed.runtime.main", "--config", str(config)),
        env={**os.environ, "WASMBED_LOG_LEVEL": "ERROR"},
    )
    try:
        async with asyncio.timeout(600), await connect(socket) as client, asyncio.TaskGroup() as group:
            watched = Watched(client)
            collecting = group.create_task(watched.collect())
            figures = {
                **await measure_starts(watched),
                **await measure_growth(watched, process.pid),
                **await measure_events(watched),
                **await measure_storms(watched),
            }
            collecting.cancel()
            return figures
    finally:
        process.terminate()
        await process.wait()


async def connect(socket: Path) -> RuntimeClient:
    """Connect as soon as the process listens."""
    while True:
        try:
            return await RuntimeClient.connect(socket)
        except RuntimeGone:
            await asyncio.sleep(0.02)


async def measure_starts(watched: Watched) -> dict[str, float]:
    client = watched.client
    cold: list[float] = []
    warm: list[float] = []
    for number in range(STARTS):
        wasm = bytes(wat2wasm(APPLICATION.replace("NUMBER", str(number))))
        request = request_for(wasm, f"cold{number}")
        began = time.perf_counter()
        await client.load(request.digest, wasm)
        await client.start(request)
        await watched.running(request.instance)
        cold.append((time.perf_counter() - began) * 1e3)
        request = request_for(wasm, f"warm{number}")
        began = time.perf_counter()
        await client.start(request)
        await watched.running(request.instance)
        warm.append((time.perf_counter() - began) * 1e3)
    await watched.stop_all()
    return {"cold_start_ms": statistics.median(cold), "warm_start_ms": statistics.median(warm)}


async def measure_growth(watched: Watched, pid: int) -> dict[str, float]:
    wasm = bytes(wat2wasm(APPLICATION))
    await watched.client.load(request_for(wasm, "").digest, wasm)
    figures = {}
    for count in GROWTH:
        began = time.perf_counter()
        for number in range(count):
            await watched.client.start(request_for(wasm, f"app{number}"))
        for number in range(count):
            await watched.running(f"app{number}")
        figures[f"start_{count}_apps_s"] = time.perf_counter() - began
        figures[f"apps_{count}_rss_mib"] = sum(rss_mib(each) for each in family(pid))
        await watched.stop_all()
    return figures


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


async def measure_events(watched: Watched) -> dict[str, float]:
    client = watched.client
    wasm = bytes(wat2wasm(READS))
    await client.load(request_for(wasm, "").digest, wasm)
    names = [f"reads{number}" for number in range(EVENT_INSTANCES)]
    for name in names:
        await client.provide(Provision(f"bench/{name}", ("ros2",)))
        await client.start(request_for(wasm, name, routes=(("route", "subscribe", "topic"),)))
        await watched.running(name)
    data = abi.ROS2_HEADER.pack(abi.Ros2Kind.MESSAGE, 0, 0, 0) + bytes(64)
    batch = [Delivery(name, abi.EventType.ROS2, 0, data) for name in names for _ in range(abi.SOURCE_EVENTS)]
    began = time.perf_counter()
    for number in range(1, EVENT_ROUNDS + 1):
        client.deliver(batch)
        while (await client.metrics()).get("calls wasmbed:sys.event_read", 0) < number * len(batch):
            pass
    seconds = time.perf_counter() - began
    await watched.stop_all()
    return {"events_per_s": EVENT_ROUNDS * len(batch) / seconds}


async def measure_storms(watched: Watched) -> dict[str, float]:
    client = watched.client
    quiet = await loop_delays_ms(client)
    wasm = bytes(wat2wasm(STORM))
    await client.load(request_for(wasm, "").digest, wasm)
    for number in range(STORMS):
        await client.start(request_for(wasm, f"storm{number}"))
    for number in range(STORMS):
        await watched.running(f"storm{number}")
    stormy = await loop_delays_ms(client)
    await watched.stop_all()
    return {
        "agent_loop_p99_ms": statistics.quantiles(quiet, n=100)[98],
        "agent_loop_p99_ms_with_10_storms": statistics.quantiles(stormy, n=100)[98],
    }


async def loop_delays_ms(client: RuntimeClient) -> list[float]:
    """How late this loop wakes, while it asks the runtime for its instances as an agent would far less often."""
    loop = asyncio.get_running_loop()
    delays: list[float] = []

    async def ask() -> None:
        while True:
            await client.list()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask())
        end = loop.time() + LOOP_S
        while (now := time.perf_counter()) and loop.time() < end:
            await asyncio.sleep(LOOP_STEP_S)
            delays.append((time.perf_counter() - now - LOOP_STEP_S) * 1e3)
        asking.cancel()
    return delays


def request_for(wasm: bytes, instance: str, **fields: tuple[tuple[str, str, str], ...]) -> StartRequest:
    digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    grants = (abi.SYS, abi.ROS2)
    return StartRequest(instance, digest, "bench/app", f"bench/{instance}", "gateway", grants=grants, **fields)


def measure() -> dict[str, float]:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as directory:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(measure_process(Path(directory)))
        figures.update(measure_calls(Path(directory)))
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    figures = measure()
    path = ROOT / "build/bench/runtime.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{'figure':<34} {'measured':>14}")
    for name, value in figures.items():
        limit = f"   limit {LIMITS[name]:g}" if name in LIMITS else ""
        print(f"{name:<34} {value:>14.2f}{limit}")
    missed = [name for name, limit in LIMITS.items() if figures[name] > limit]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
