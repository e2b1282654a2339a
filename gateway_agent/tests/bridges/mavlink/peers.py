"""Other ends in processes of their own, and a hub to meet them."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wasmbed.bridges.mavlink.endpoints import Endpoint, MavlinkConfig
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.hub import Hub

HERE = Path(__file__).parent
SITL = HERE.parents[3] / "roles/lab_vehicle/files"


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for a condition; TimeoutError names nothing, so the caller's line does."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found:
                return found
            await asyncio.sleep(0.01)


@dataclass
class Gateway:
    """A running hub with its fleet and the port vehicles connect to."""

    hub: Hub
    fleet: Fleet
    port: int

    def port_of(self, name: str) -> int:
        bound = self.hub.links[name].bound
        assert bound is not None
        return bound[1]


@asynccontextmanager
async def gateway(*more: Endpoint) -> AsyncIterator[Gateway]:
    """A gateway that listens for vehicles on a free UDP port, with more endpoints if wanted."""
    config = MavlinkConfig((Endpoint("vehicles", "udpin:127.0.0.1:0", max_peers=256), *more))
    async with Hub(config).running() as hub:
        for endpoint in config.endpoints:
            if not endpoint.address.startswith("tcp:"):
                await hub.ready(endpoint.name)
        async with Fleet(hub.switch, config.system, config.component).running() as fleet:
            bound = hub.links["vehicles"].bound
            assert bound is not None
            yield Gateway(hub, fleet, bound[1])


class Program:
    """A helper program of these tests, spoken to by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def line(self, seconds: float = 20.0, start: str = "") -> str:
        """The next line that begins with `start`."""
        assert self.process.stdout is not None
        if start:
            async with asyncio.timeout(seconds):
                while not (found := await self.line(seconds)).startswith(start):
                    if not found and self.process.stdout.at_eof():
                        raise RuntimeError("the program ended")
            return found
        async with asyncio.timeout(seconds):
            return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def program(name: str, *arguments: object) -> AsyncIterator[Program]:
    """Run a script of this folder until the context ends; it must print `ready`."""
    async with running(name, str(HERE / name), *map(str, arguments)) as made:
        yield made


@asynccontextmanager
async def simulator(*arguments: object) -> AsyncIterator[Program]:
    """Run simulated vehicles (ours, in their own process) until the context ends."""
    async with running("wasmbed_sitl", "-m", "wasmbed_sitl", *map(str, arguments), cwd=SITL) as made:
        yield made


@asynccontextmanager
async def running(name: str, *command: str, cwd: Path | None = None) -> AsyncIterator[Program]:
    """Run Python until the context ends; it must print `ready`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Program(process)
    try:
        line = await made.line(30.0)
        while line != "ready":
            if not line and process.stdout is not None and process.stdout.at_eof():
                raise RuntimeError(f"{name} ended before it was ready")
            line = await made.line(30.0)
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
