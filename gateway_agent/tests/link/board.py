"""A microcontroller's line for tests: the firmware's link as a program, behind a UNIX socket at a line's pace."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from wasmbed.link import noise
from wasmbed.link.line import Endpoint
from wasmbed.link.mcu import LinkState, McuSession
from wasmbed.link.secure import Ends, Stranger

from tests.support import firmware
from tests.support.firmware import BUILD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

GATEWAY_PRIVATE = b"\x7a" * 32
DEVICE = "fleet/device-0"


def build(*targets: str) -> None:
    """Make programs of the firmware; skips where its tools are not installed."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("the firmware's tools are not installed; scripts/install-firmware-tools does it")
    firmware.build(*(BUILD / target for target in targets))


def ends(**changes: object) -> Ends:
    """Both ends of the line to test device 0."""
    fields = {
        "device_id": DEVICE.encode(),
        "gateway_id": b"gateway-1",
        "privates": (GATEWAY_PRIVATE,),
        "devices": (noise.public_key(b"\x41" * 32),),
        **changes,
    }
    return Ends(**fields)  # type: ignore[arg-type]


@dataclass
class Board:
    """The program and the line to it. baud None: as fast as it goes. lose: the share of frames lost each way."""

    path: Path
    baud: int | None = None
    speed: int = 1
    telemetry_ms: int = 0
    lose: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    bytes_down: int = 0
    cut: bool = False

    async def serve(self, started: asyncio.Event) -> None:
        """Accept connections, one after the other, until cancelled."""
        server = await asyncio.start_unix_server(self._connected, str(self.path))
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self._free = asyncio.Lock()
        await self.power_on()
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self.power_off()

    async def power_on(self) -> None:
        """Start the program."""
        self._process = await asyncio.create_subprocess_exec(
            str(BUILD / "host" / "link-peer"), "0", str(self.speed), str(self.telemetry_ms),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def power_off(self) -> None:
        """Kill the program."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def reset(self) -> None:
        """Power off and on; the line stays."""
        await self.power_off()
        await self.power_on()

    def pull(self) -> None:
        """Pull the line out."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        async with self._free:
            pumps = [asyncio.ensure_future(self._down(reader)), asyncio.ensure_future(self._up(writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        self._writers.discard(writer)
        writer.transport.abort()

    async def _down(self, reader: asyncio.StreamReader) -> None:
        pace = Pace(self.baud)
        filtered = Lossy(self)
        while data := await pace.read(reader):
            self.bytes_down += len(data)
            passed = filtered.take(data)
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(passed)
                await self._process.stdin.drain()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        pace = Pace(self.baud)
        filtered = Lossy(self)
        while True:
            data = await pace.read(self._process.stdout)
            if not data:
                await asyncio.sleep(0.02)  # the power is off
                continue
            writer.write(filtered.take(data))
            await writer.drain()


class Lossy:
    """Loses whole frames of a direction by chance."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._frame = b""

    def take(self, data: bytes) -> bytes:
        """What arrives of these bytes now."""
        if self._board.cut:
            return b""
        if not self._board.lose and not self._frame:
            return data
        *whole, self._frame = (self._frame + data).split(b"\0")
        return b"".join(
            b"\0" + part + b"\0" for part in whole if part and self._board.chance.random() >= self._board.lose
        )


class Pace:
    """A serial line's time for bytes: ten bits each. A late wake-up is made up for as long as bytes wait."""

    def __init__(self, baud: int | None) -> None:
        self._byte_s = 10 / baud if baud else 0.0
        self._free_at = 0.0

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Read what comes, once it is through the line; empty at the end."""
        if not self._byte_s:
            return await reader.read(4096)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        data = await reader.read(64)
        now = loop.time()
        if now - asked > 0.0005 or not self._free_at:
            self._free_at = max(self._free_at, now)  # the line rested
        self._free_at += len(data) * self._byte_s
        if (delay := self._free_at - now) > 0:
            await asyncio.sleep(delay)
        return data


@dataclass
class Session:
    """A running McuSession and what it told."""

    mcu: McuSession
    board: Board | None
    ends: list[Ends]
    links: list[LinkState]
    strangers: list[Stranger]
    telemetry: list[object]

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - a condition of another task's state
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        """Wait for a session that was told."""
        await self.until(lambda: self.mcu.up and bool(self.links) and self.links[-1].up)


@contextlib.asynccontextmanager
async def session(
    board: Board, *, wait: bool = True, heartbeat_s: float = 30.0, **changes: object
) -> AsyncIterator[Session]:
    """The board powered on, and a session with it."""
    build("host/link-peer")
    async with asyncio.TaskGroup() as group:
        started = asyncio.Event()
        serving = group.create_task(board.serve(started))
        await started.wait()
        async with running(Endpoint("unix", str(board.path)), board, heartbeat_s=heartbeat_s, **changes) as found:
            if wait:
                await found.ready()
            yield found
        serving.cancel()


@contextlib.asynccontextmanager
async def running(
    endpoint: Endpoint, board: Board | None, *, heartbeat_s: float, **changes: object
) -> AsyncIterator[Session]:
    """A running McuSession on an endpoint."""
    links: list[LinkState] = []
    strangers: list[Stranger] = []
    candidates = [ends(**changes)]
    telemetry: list[object] = []
    mcu = McuSession(
        endpoint,
        lambda: candidates, heartbeat_s=heartbeat_s, on_link=links.append, on_stranger=strangers.append,
        on_telemetry=telemetry.append,
    )  # fmt: skip
    task = asyncio.ensure_future(mcu.run())
    try:
        yield Session(mcu, board, candidates, links, strangers, telemetry)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
