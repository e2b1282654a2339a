"""An application that storms the host functions of wasmbed:px4, in a real runtime, for the latency figures."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wasmbed.gateway.flight import Flight
from wasmbed.gateway.flight_config import FlightConfig
from wasmbed.gateway.flight_model import Claim, DeviceRecord
from wasmbed.gateway.px4_backend import Px4Backend
from wasmbed.hostcalls import Dispatcher, HostInstance
from wasmbed.runtime import HostRequest, Limits, RuntimeClient, StartRequest
from wasmtime import wat2wasm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wasmbed.bridges.mavlink import Fleet
    from wasmbed.runtime import Delivery, Provision, Secret

# The vehicles that are stormed, each by an application. What reaches the gateway from one is held by the rates of its
# functions (setpoint 200, subscribe 100 a second, ...), whatever it calls.
SYSTEMS = (1,)
# A hundred times a second a thousand calls of everything that reaches the gateway, and of what does not. The setpoint
# is a velocity of 0: one that is none would be refused in the runtime.
STORM = """
(module
  (import "wasmbed:sys" "timer_set" (func $timer_set (param i32 i32 i32) (result i32)))
  (import "wasmbed:px4" "acquire" (func $acquire (result i32)))
  (import "wasmbed:px4" "subscribe" (func $subscribe (param i32 i32) (result i32)))
  (import "wasmbed:px4" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "wasmbed:px4" "setpoint" (func $setpoint (param i32) (result i32)))
  (import "wasmbed:px4" "command" (func $command (param i32) (result i32)))
  (import "wasmbed:px4" "param_get" (func $param_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "SYS_AUTOSTART")
  (data (i32.const 256) "\\02")
  (func (export "wasmbed_abi_1"))
  (func (export "wasmbed_init") (result i32)
    (drop (call $timer_set (i32.const 0) (i32.const 10) (i32.const 10)))
    (i32.const 0))
  (func (export "wasmbed_event") (param i32 i32 i32) (result i32) (local $left i32)
    (local.set $left (i32.const 160))
    (drop (call $acquire))
    (loop $again
      (drop (call $subscribe (i32.const 2) (i32.const 0)))
      (drop (call $read (i32.const 1) (i32.const 64) (i32.const 64)))
      (drop (call $read (i32.const 2) (i32.const 64) (i32.const 64)))
      (drop (call $setpoint (i32.const 256)))
      (drop (call $command (i32.const 512)))
      (drop (call $param_get (i32.const 0) (i32.const 13)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.const 0)))
"""


class _Peer:
    """The runtime as the dispatcher sees it."""

    def __init__(self, client: RuntimeClient) -> None:
        self._client = client

    @property
    def backlog_bytes(self) -> int:
        return self._client.backlog_bytes

    def deliver(self, events: Sequence[Delivery]) -> None:
        self._client.deliver(events)

    async def provide(self, provision: Provision) -> None:
        await self._client.provide(provision)

    async def secret(self, secret: Secret) -> None:
        await self._client.secret(secret)


def renice(pid: int, nice: int) -> None:
    """Give a process and its scheduling group a priority, as Nice and CPUWeight of a unit do.

    One above others' is only given by root, and stays away without a word otherwise.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(OSError):
        # Where the kernel groups by session a process' own priority counts within its session alone.
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


@contextlib.contextmanager
def runtime(folder: Path, nice: int = 0) -> Iterator[Path]:
    """A runtime in its own process, with a priority: its socket."""
    path = folder / "runtime.sock"
    config = folder / "runtime.yaml"
    config.write_text(f"socket: {path}\ncache_directory: {folder}/cache\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "wasmbed.runtime.main", "--config", str(config)], start_new_session=True
    )
    try:
        # Before it has threads or workers, which take it over.
        renice(process.pid, nice)
        deadline = time.monotonic() + 60.0
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the runtime has not started; see its log above")
            time.sleep(0.05)
        yield path
    finally:
        process.kill()
        process.wait()


async def storm(path: Path, fleet: Fleet, counted: list[int]) -> None:
    """Run the storming applications, each with a vehicle, with the px4 backend behind them until cancelled.

    counted gets the number of requests that reached the backend as its first item.
    """
    flight = Flight(FlightConfig())
    backend = Px4Backend(flight)
    dispatcher = Dispatcher((backend,))
    backend.connect(fleet)
    rights = frozenset({"command", "offboard", "mission"})
    names = {f"storm-{system}": f"bench/drone-{system}" for system in SYSTEMS}
    flight.set_devices({f"bench/drone-{system}": DeviceRecord(system_id=system) for system in SYSTEMS})
    flight.set_claims(
        {(f"bench/{name}", device): Claim(f"bench/{name}", device, rights) for name, device in names.items()}
    )
    module = bytes(wat2wasm(STORM))
    digest = f"sha256:{hashlib.sha256(module).hexdigest()}"
    grants = ("wasmbed:px4", "wasmbed:sys")
    async with await RuntimeClient.connect(path) as client, asyncio.TaskGroup() as tasks:
        peer = _Peer(client)
        tasks.create_task(flight.run(fleet))
        tasks.create_task(dispatcher.run())
        await client.load(digest, module)
        px4_rights = tuple(f"px4-{right}" for right in sorted(rights))
        for name, device in names.items():
            application = f"bench/{name}"
            await dispatcher.open(HostInstance(name, application, "uid", device, frozenset(grants), rights), peer)
            await client.start(
                StartRequest(
                    *(name, digest, application, device, "gateway", Limits()), grants=grants, rights=px4_rights
                )
            )
        async for event in client.events():
            if isinstance(event, HostRequest):
                counted[0] += 1
                dispatcher.submit(event, peer)
