#!/usr/bin/env python3
"""Measure the runtime and, in the same run, bare wasmtime-py doing the same work; writes build/bench/runtime.json.

cold_start_ms         median from `load` of a new module to its state Running, compiling included
warm_start_ms         median from `start` of a compiled module to its state Running
bare_call_us          one call of a function () -> i32 by wasmtime-py
call_us               the same call with the runtime's limits and CPU clock
calls_per_s           calls of one instance
call_overhead_ratio   call_us / bare_call_us
host_call_ns          one wasmbed:sys call from WebAssembly
bare_host_call_ns     the same through a function defined with wasmtime-py
start_200_apps_s      200 instances of one module, from the first `start` to the last Running
apps_200_rss_mib      resident memory of the runtime with them
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
from typing import TYPE_CHECKING, TypeVar

from wasmbed.runtime import RuntimeClient, RuntimeGone, StartRequest, StateEvent, abi, engine
from wasmbed.runtime.hostfuncs import HostFunctions
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
APPLICATIONS = 200
CALLS = 20_000
ROUNDS = 5
HOST_CALLS = 50_000
APPLICATION = """(module
  (import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1) (data (i32.const 0) "started NUMBER")
  (func (export "wasmbed_start") (result i32) (call $log (i32.const 2) (i32.const 0) (i32.const 7)) (i32.const 0))
  (func (export "wasmbed_tick") (result i32) (i32.const 0)))"""
CALLED = f"""(module
  (import "wasmbed:sys" "clock_monotonic_ns" (func $clock (result i64)))
  (func (export "wasmbed_tick") (result i32) (i32.const 0))
  (func (export "wasmbed_start") (result i32) (local $n i32)
    (loop (drop (call $clock))
      (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {HOST_CALLS}))))
    (i32.const 0)))"""


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
        tick, start = exports[abi.TICK], exports[abi.START]
        assert isinstance(tick, Func)  # noqa: S101
        assert isinstance(start, Func)  # noqa: S101
        return best(lambda: tick(store), CALLS), best(lambda: start(store), 1) / HOST_CALLS

    def ours() -> tuple[float, float]:
        watchdog = Watchdog()
        watchdog.start()
        exchange = Exchange()
        host = HostFunctions(device="d", env={}, exchange=exchange, reader=exchange.join("a"), on_log=lambda *_: None)
        sandbox = Sandbox(artifact, CLASSES["gateway"], host, watchdog)
        sandbox.renew()
        result = (
            best(lambda: sandbox.call(abi.TICK), CALLS),
            best(lambda: sandbox.call(abi.START), 1) / HOST_CALLS,
        )
        sandbox.close()
        watchdog.close()
        return result

    bare_call, bare_host_call = on_thread(bare)
    call, host_call = on_thread(ours)
    return {
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


async def measure_starts(directory: Path) -> dict[str, float]:
    """Measure a real runtime process through its socket."""
    socket = directory / "runtime.sock"
    config = directory / "runtime.yaml"
    config.write_text(f"socket: {socket}\ncache_directory: {directory}/cache\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wasmbed.runtime.main", "--config", str(config)),
        env={**os.environ, "WASMBED_LOG_LEVEL": "ERROR"},
    )
    try:
        async with asyncio.timeout(300), await connect(socket) as client, asyncio.TaskGroup() as group:
            watched = Watched(client)
            collecting = group.create_task(watched.collect())
            figures = await measure_through(watched, process.pid)
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


async def measure_through(watched: Watched, pid: int) -> dict[str, float]:
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
    for row in await client.list():
        await client.stop(row.instance)
    wasm = bytes(wat2wasm(APPLICATION))
    await client.load(request_for(wasm, "").digest, wasm)
    began = time.perf_counter()
    for number in range(APPLICATIONS):
        await client.start(request_for(wasm, f"app{number}"))
    for number in range(APPLICATIONS):
        await watched.running(f"app{number}")
    start_s = time.perf_counter() - began
    status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240 - not a file on a disk
    rss_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "cold_start_ms": statistics.median(cold),
        "warm_start_ms": statistics.median(warm),
        "start_200_apps_s": start_s,
        "apps_200_rss_mib": rss_kib / 1024,
    }


def request_for(wasm: bytes, instance: str) -> StartRequest:
    digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    return StartRequest(instance, digest, "bench/app", f"bench/{instance}", "gateway", grants=(abi.SYS,))


def measure() -> dict[str, float]:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as directory:
        figures = asyncio.run(measure_starts(Path(directory)))
        figures.update(measure_calls(Path(directory)))
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    figures = measure()
    path = ROOT / "build/bench/runtime.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{'figure':<22} {'measured':>14}")
    for name, value in figures.items():
        print(f"{name:<22} {value:>14.2f}")


if __name__ == "__main__":
    main()
