"""Calls any host function from WebAssembly, in a world where everything is there: autopilot, routes, sensors, a key."""

from __future__ import annotations

import queue
import struct
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from runtime_support import MARKER, imported
from wasmbed.runtime import HostRequest, Limits, Provision, Secret, Sensor, StartRequest, abi, engine
from wasmbed.runtime.backends import Backends, Ownership
from wasmbed.runtime.calls import Calls, Feeds
from wasmbed.runtime.host import HostFunctions
from wasmbed.runtime.host.context import Context
from wasmbed.runtime.inbox import Inbox
from wasmbed.runtime.instance import THREAD_MARGIN_BYTES, Sandbox
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES
from wasmtime import Module, wat2wasm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.watchdog import Watchdog

T = TypeVar("T")
NAMES = [f"{module.removeprefix('wasmbed:')}.{name}" for module, name in abi.FUNCTIONS if module != abi.WASI]
SLOTS = 1024
RESULT = 1016
KEY = bytes(range(32))
_LOAD = {"i32": "i32.load", "i64": "i64.load", "f64": "f64.load"}
_CODE = {"i32": "i", "i64": "q", "f64": "d"}
RIGHTS = ("px4-command", "px4-offboard", "px4-parameters", "px4-mission")
SENSORS = (Sensor("thermometer", 5, 1, 1000, 24 + 4), Sensor("camera", 6, 0, 30_000, 24 + 64 * 48))


def function(name: str) -> abi.HostFunction:
    module, short = name.split(".")
    return abi.FUNCTIONS[f"wasmbed:{module}", short]


def every_function() -> bytes:
    """A module whose wasmbed_event(n) calls function n with the arguments in memory and writes down its result."""
    cases = ""
    for number, name in enumerate(NAMES):
        kind = function(name).type
        arguments = " ".join(f"({_LOAD[t]} (i32.const {SLOTS + 8 * at}))" for at, t in enumerate(kind.params))
        call = f"(call ${name} {arguments})"
        if kind.results:
            call = f"({kind.results[0]}.store (i32.const {RESULT}) {call})"
        cases += f"(if (i32.eq (local.get 0) (i32.const {number})) (then {call}))"
    entry = '(func (export "{}") {} (result i32) {} (i32.const 0))'
    chosen = entry.format("wasmbed_event", "(param i32 i32 i32)", cases)
    # The same in the other two phases, for functions that belong to one of them.
    pick = cases.replace("(local.get 0)", f"(i32.load (i32.const {SLOTS - 64}))")
    others = entry.format("wasmbed_init", "", pick) + entry.format("wasmbed_save", "", pick)
    return bytes(wat2wasm(f'(module {imported(*NAMES)} {MARKER} (memory (export "memory") 1) {chosen} {others})'))


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


class World:
    """One instance of a module with its surroundings, made without a process."""

    def __init__(self, directory: Path, device_class: str = "gateway", **changes: Any) -> None:
        self.requests: list[HostRequest] = []
        self.lines: list[tuple[int, str, int]] = []
        self.full = False
        (directory / "owners").mkdir(exist_ok=True)
        self.backends = Backends(directory / "owners")
        self.exchange = Exchange()
        fields: dict[str, Any] = {
            "instance": "i",
            "digest": "sha256:" + "0" * 64,
            "application": "ns/app",
            "device": "ns/device",
            "device_class": device_class,
            "env": {"RATE": "10", "EMPTY": ""},
            "routes": (("odom", "subscribe", "topic"), ("reset", "call", "service")),
            "rights": RIGHTS,
            **changes,
        }
        self.request = StartRequest(**fields)
        self.inbox = Inbox(device_class)
        self.context = Context(
            request=self.request,
            inbox=self.inbox,
            calls=Calls(self.request, self.inbox, self._post),
            feeds=Feeds(self.inbox),
            backends=self.backends,
            exchange=self.exchange,
            reader=self.exchange.join("ns/app", self.inbox),
            ownership=Ownership(self.backends.owners, self.request.device),
            on_log=lambda *line: self.lines.append(line),
        )
        self.host = HostFunctions(self.context)

    def _post(self, request: HostRequest, must: bool) -> bool:
        if self.full and not must:
            return False
        self.requests.append(request)
        return True

    def provide_all(self) -> None:
        """Have everything behind the host modules, the autopilot owned, the first route open."""
        self.backends.provide(Provision("ns/device", ("px4", "ros2", "secure", "sensor"), sensors=SENSORS))
        self.backends.secret(Secret("ns/app", "ns/device", KEY, 5000))
        self.context.ownership.acquire()
        self.context.open_routes.update((0, 1))


class HostBench:
    """Runs calls of `every_function` on a thread of its own, as an instance does."""

    def __init__(self, world: World, watchdog: Watchdog, artifact: Path) -> None:
        self.world = world
        limits = Limits(cpu_ms_per_call=2000)
        self._profile: Profile = CLASSES[world.request.device_class].lowered(limits)
        self._watchdog = watchdog
        self._artifact = artifact
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        before = threading.stack_size(self._profile.stack_bytes + THREAD_MARGIN_BYTES)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        threading.stack_size(before)
        self._sandbox: Sandbox | None = None
        self.do(self._begin)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _begin(self) -> None:
        self._sandbox = Sandbox(self._artifact, self._profile, self.world.host, self._watchdog)
        self._sandbox.renew()

    def do(self, work: Callable[[], T]) -> T:
        """Do something on the instance's thread."""
        results: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

        def run() -> None:
            try:
                results.put((work(), None))
            except BaseException as error:
                results.put((None, error))

        self._work.put(run)
        result, error = results.get(timeout=60)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def close(self) -> None:
        if self._sandbox is not None:
            self.do(self._sandbox.close)
        self._work.put(None)
        self._thread.join()
        self.world.context.ownership.release()

    def write(self, at: int, data: bytes) -> None:
        def work() -> None:
            assert self._sandbox is not None
            assert self._sandbox._memory is not None
            self._sandbox._memory.write(self._sandbox._store, data, at)

        self.do(work)

    def read(self, at: int, length: int) -> bytes:
        def work() -> bytes:
            assert self._sandbox is not None
            assert self._sandbox._memory is not None
            return bytes(self._sandbox._memory.read(self._sandbox._store, at, at + length))

        return self.do(work)

    def call(self, name: str, *arguments: float, phase: str = "event") -> int:
        """Call a host function in a phase of the instance; return its result."""
        kind = function(name).type
        for at, (code, value) in enumerate(zip(kind.params, arguments, strict=True)):
            self.write(SLOTS + 8 * at, struct.pack(f"<{_CODE[code]}", value))
        self.write(SLOTS - 64, struct.pack("<i", NAMES.index(name)))

        def work() -> None:
            assert self._sandbox is not None
            self.world.context.phase = phase  # type: ignore[assignment]
            try:
                if phase == "event":
                    self._sandbox.call(abi.EVENT, (NAMES.index(name), 0, 0))
                else:
                    self._sandbox.call(abi.INIT if phase == "init" else abi.SAVE)
            finally:
                self.world.context.phase = ""

        self.do(work)
        if not kind.results:
            return 0
        code = _CODE[kind.results[0]]
        return int(struct.unpack(f"<{code}", self.read(RESULT, struct.calcsize(code)))[0])


def compile_to(path: Path, wasm: bytes) -> Path:
    path.write_bytes(bytes(Module(engine.compiling_engine(), wasm).serialize()))
    return path
