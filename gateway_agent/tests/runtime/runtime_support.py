"""A real runtime process for tests, and modules made by hand where no tool would make them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wasmbed.runtime import HostRequest, Limits, LogEvent, RuntimeClient, RuntimeGone, StartRequest, StateEvent, abi
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from wasmbed.runtime import Event

SYS = ("wasmbed:sys",)


def digest_of(wasm: bytes) -> str:
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}"


@dataclass
class RuntimeProcess:
    """`wasmbed-runtime` with a socket and a cache of its own."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.directory / "runtime.sock"

    @classmethod
    def start(cls, directory: Path, cache: Path) -> RuntimeProcess:
        """Start the process and wait until it told the service manager that it is ready."""
        config = directory / "runtime.yaml"
        config.write_text(f"socket: {directory}/runtime.sock\ncache_directory: {cache}\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(directory / "notify.sock"))
            manager.settimeout(30)
            process = subprocess.Popen(
                [sys.executable, "-m", "wasmbed.runtime.main", "--config", str(config)],
                env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify.sock")},
            )
            try:
                assert b"READY=1" in manager.recv(4096)
            except BaseException:
                process.kill()
                process.wait()
                raise
            (directory / "notify.sock").unlink()
        return cls(directory, process)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


class Agent:
    """A client that collects events, as the gateway agent does."""

    def __init__(self, client: RuntimeClient) -> None:
        self.client = client
        self.events: list[Event] = []
        self.times: list[float] = []
        self.gone = asyncio.Event()
        self._news = asyncio.Condition()

    async def collect(self) -> None:
        try:
            async for event in self.client.events():
                async with self._news:
                    self.events.append(event)
                    self.times.append(time.monotonic())
                    self._news.notify_all()
        except RuntimeGone:
            self.gone.set()

    async def wait_for(self, wanted: Callable[[Event], bool], timeout_s: float = 60) -> Event:
        """Return the first event that fits, waiting for it if it has not come yet."""
        async with asyncio.timeout(timeout_s), self._news:
            at = 0
            while True:
                for event in self.events[at:]:
                    if wanted(event):
                        return event
                at = len(self.events)
                await self._news.wait()

    async def state(self, instance: str, state: str, timeout_s: float = 60) -> StateEvent:
        event = await self.wait_for(
            lambda e: isinstance(e, StateEvent) and e.instance == instance and e.state == state, timeout_s
        )
        assert isinstance(event, StateEvent)
        return event

    async def log(self, instance: str, part: str, timeout_s: float = 60) -> LogEvent:
        event = await self.wait_for(
            lambda e: isinstance(e, LogEvent) and e.instance == instance and part in e.text, timeout_s
        )
        assert isinstance(event, LogEvent)
        return event

    async def request(self, instance: str, op: str, timeout_s: float = 60) -> HostRequest:
        event = await self.wait_for(
            lambda e: isinstance(e, HostRequest) and e.instance == instance and e.op == op, timeout_s
        )
        assert isinstance(event, HostRequest)
        return event

    async def run(
        self,
        instance: str,
        wasm: bytes,
        *,
        device_class: str = "gateway",
        limits: Limits | None = None,
        grants: tuple[str, ...] = SYS,
        env: dict[str, str] | None = None,
        application: str = "default/app",
        **fields: Any,
    ) -> StartRequest:
        """Load and start a module."""
        await self.client.load(digest_of(wasm), wasm)
        request = StartRequest(
            instance=instance,
            digest=digest_of(wasm),
            application=application,
            device=f"default/{instance}",
            device_class=device_class,
            limits=limits or Limits(memory_bytes=16 << 20, cpu_ms_per_call=200),
            grants=grants,
            env={"WORD": "hi"} if env is None else env,
            **fields,
        )
        await self.client.start(request)
        return request

    async def stop_all(self) -> None:
        for row in await self.client.list():
            await self.client.stop(row.instance)


@contextlib.asynccontextmanager
async def connected(runtime: RuntimeProcess) -> AsyncIterator[Agent]:
    """Connect an agent that collects events until the end of the block."""
    async with await RuntimeClient.connect(runtime.socket) as client:
        agent = Agent(client)
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(agent.collect())
            try:
                yield agent
            finally:
                collecting.cancel()


def leb(value: int) -> bytes:
    """Encode an unsigned LEB128 number."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


def vector(entries: list[bytes]) -> bytes:
    return leb(len(entries)) + b"".join(entries)


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


HEADER = b"\0asm\x01\0\0\0"
# Types 0: () -> i32, 1: () -> (), 2: (i32, i32, i32) -> i32.
TYPES = section(1, vector([b"\x60\0\x01\x7f", b"\x60\0\0", b"\x60\x03\x7f\x7f\x7f\x01\x7f"]))
MARKER = '(func (export "wasmbed_abi_1"))'
INIT = '(func (export "wasmbed_init") (result i32) (i32.const 0))'
EVENT = '(func (export "wasmbed_event") (param i32 i32 i32) (result i32) (i32.const 0))'


def plain_module(*, functions: int = 1, imports: int = 0, data_segments: int = 0, data_bytes: int = 0) -> bytes:
    """A module whose wasmbed_init returns 0, with as many other things as asked for."""
    out = HEADER + TYPES
    if imports:
        out += section(2, vector([name("wasmbed:sys") + name("clock") + b"\0\x01" for _ in range(imports)]))
    out += section(3, vector([b"\0"] * functions + [b"\x01"]))
    if data_segments:
        out += section(5, vector([b"\0\x80\x02"]))
    exports = [name("wasmbed_init") + b"\0" + leb(imports), name("wasmbed_abi_1") + b"\0" + leb(imports + functions)]
    out += section(7, vector(exports))
    out += section(10, vector([b"\x04\0\x41\0\x0b"] * functions + [b"\x02\0\x0b"]))
    if data_segments:
        each = b"\0\x41\0\x0b" + leb(data_bytes // data_segments) + bytes(data_bytes // data_segments)
        out += section(11, vector([each] * data_segments))
    return out


def imported(*functions: str) -> str:
    """Import functions, each as module.name without `wasmbed:`, under the name $module.name."""
    lines = []
    for function in functions:
        module, short = function.split(".")
        kind = abi.FUNCTIONS[f"wasmbed:{module}", short].type
        params = f"(param {' '.join(kind.params)})" if kind.params else ""
        results = f"(result {' '.join(kind.results)})" if kind.results else ""
        lines.append(f'(import "wasmbed:{module}" "{short}" (func ${function} {params} {results}))')
    return "\n".join(lines)


def application(body: str = "", *, uses: tuple[str, ...] = (), init: str = "", event: str = "") -> bytes:
    """A module of ABI 1 with a memory; init and event are instructions before `i32.const 0` of those functions.

    In event $type, $source and $length are the arguments. Without either there is an empty wasmbed_init.
    """
    functions = ""
    if init or not (event or '"wasmbed_' in body):
        functions += f'(func (export "wasmbed_init") (result i32) (local $n i32) {init} (i32.const 0))'
    if event:
        functions += f"""(func (export "wasmbed_event") (param $type i32) (param $source i32) (param $length i32)
          (result i32) (local $n i32) {event} (i32.const 0))"""
    return bytes(wat2wasm(f'(module {imported(*uses)} (memory (export "memory") 1) {MARKER} {functions} {body})'))


def timer(period_ms: int, number: int = 0) -> str:
    """Instructions that set a timer."""
    return f"(drop (call $sys.timer_set (i32.const {number}) (i32.const {period_ms}) (i32.const {period_ms})))"
