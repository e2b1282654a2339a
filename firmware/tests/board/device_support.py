"""A board that runs the firmware's application part in QEMU, and the gateway's session with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import wasmtime
from board_support import CLASS, MACHINE
from wasmbed.link import noise
from wasmbed.link.line import Endpoint
from wasmbed.link.mcu import LinkState, McuSession
from wasmbed.link.secure import Ends
from wasmbed.runtime import HostRequest, Limits, LogEvent, StartRequest, StateEvent
from wasmbed.tools.provision import Wanted, provision

from tests.support.firmware import BUILD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from wasmbed.runtime import Event

DEVICE = "fleet/drone-7"
GATEWAY = "gw-hall"
GATEWAY_PRIVATE = b"\x7a" * 32
SHIFT = {"stm32": 3, "hifive1": 6}
DEADLINE_S = 120.0
LINE_OUT_S = 8.0
SECOND_PORT = ("-chardev", "socket,id=sensors,path={path},server=on,wait=off", "-serial", "chardev:sensors")


def compiled(text: str) -> tuple[str, bytes]:
    """Digest and bytes of a module."""
    wasm = bytes(wasmtime.wat2wasm(text))
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}", wasm


@dataclass
class Device:
    """One device: its files, its machine when it runs, and what the gateway saw of it."""

    board: str
    flash: Path
    program: str = "app"
    cut: str = ""
    # Three missed ones end a session: generous, as a busy host may not let the machine run for seconds.
    heartbeat_s: float = 10.0
    links: list[LinkState] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        template = (BUILD / self.board / f"{self.program}.flash").read_bytes()
        wanted = Wanted(DEVICE, CLASS[self.board], GATEWAY, noise.public_key(GATEWAY_PRIVATE), template)
        key = provision(self.flash, wanted)["public_key"]
        self.key = base64.b64decode(str(key))
        self._line = self.flash.with_suffix(".sock")
        self.mcu = self.new_session()
        self.process: asyncio.subprocess.Process | None = None
        self._session: asyncio.Future[None] | None = None

    def new_session(self) -> McuSession:
        """The gateway's end, as an agent has it that has just started."""
        ends = Ends(
            device_id=DEVICE.encode(), gateway_id=GATEWAY.encode(), privates=(GATEWAY_PRIVATE,), devices=(self.key,)
        )
        endpoint = Endpoint("unix", str(self._line))
        return McuSession(endpoint, lambda: (ends,), heartbeat_s=self.heartbeat_s, on_link=self.links.append)

    async def power_on(self) -> None:
        """Start the machine; it runs once the session opens its line."""
        self._line.unlink(missing_ok=True)
        argument = f"{self.flash.name} {self.cut}".strip()
        self.process = await asyncio.create_subprocess_exec(
            *MACHINE[self.board], "-display", "none", "-monitor", "none", "-nodefaults",
            "-chardev", f"socket,id=link,path={self._line},server=on,wait=on", "-serial", "chardev:link",
            "-kernel", str(self.flash), "-icount", f"shift={SHIFT[self.board]},sleep=on",
            "-semihosting-config", f"enable=on,target=native,arg={argument}",
            "-qmp", f"unix:{self.flash.with_suffix('.qmp')},server=on,wait=off",
            *(word.format(path=self.flash.with_suffix(".sensors")) for word in SECOND_PORT),
            cwd=self.flash.parent, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await self.until(self._line.exists)

    async def connect(self, wanted: bool) -> None:
        """Have the gateway hold the line, or let go of it."""
        if wanted:
            self._session = asyncio.ensure_future(self.mcu.run())
        elif self._session is not None:
            self._session.cancel()
            await asyncio.gather(self._session, return_exceptions=True)

    async def power_off(self) -> None:
        """Pull the plug."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            self.process = None
        await self.until(lambda: not self.mcu.up)

    async def pull_line(self, seconds: float) -> None:
        """Pull the serial line out; a device gives the session up after three heartbeats."""
        await self.connect(False)
        await asyncio.sleep(seconds)
        await self.connect(True)

    async def qmp(self, command: str) -> None:
        """One command of the QEMU host."""
        reader, writer = await asyncio.open_unix_connection(str(self.flash.with_suffix(".qmp")))
        await reader.readline()
        for name in ("qmp_capabilities", command):
            writer.write(json.dumps({"execute": name}).encode() + b"\n")
            while "return" not in json.loads(await reader.readline()):
                pass
        writer.close()

    async def until(self, condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  what is waited for has no event of its own
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        """Wait for a session that was told."""
        await self.until(lambda: self.mcu.up and bool(self.links) and self.links[-1].up)

    async def load(self, text: str) -> str:
        """Bring a module; its digest."""
        digest, wasm = compiled(text)
        await self.mcu.load(digest, wasm)
        return digest

    def request(self, digest: str, **changes: object) -> StartRequest:
        """A start request for a module."""
        fields = {
            "instance": f"uid-1/{DEVICE}",
            "digest": digest,
            "application": "default/hello",
            "device": DEVICE,
            "device_class": CLASS[self.board],
            "limits": Limits(),
            "grants": ("wasmbed:sys",),
            **changes,
        }
        return StartRequest(**fields)  # type: ignore[arg-type]

    async def run(self, text: str, **changes: object) -> StartRequest:
        """Load and start a module."""
        request = self.request(await self.load(text), **changes)
        await self.mcu.start(request)
        return request

    def lines(self) -> list[str]:
        """What the applications wrote to the journal."""
        return [event.text for event in self.events if isinstance(event, LogEvent)]

    def states(self) -> list[tuple[str, str]]:
        """States and messages in order."""
        return [(event.state, event.message) for event in self.events if isinstance(event, StateEvent)]

    def requests(self) -> list[HostRequest]:
        """What the applications asked of the gateway."""
        return [event for event in self.events if isinstance(event, HostRequest)]

    async def line(self, text: str, count: int = 1) -> None:
        """Wait until the journal has this line so often."""
        await self.until(lambda: self.lines().count(text) >= count)

    async def state(self, state: str) -> None:
        """Wait until this was the last state told."""
        await self.until(lambda: bool(self.states()) and self.states()[-1][0] == state)

    async def follow(self) -> None:
        """Collect events."""
        async for event in self.mcu.events():
            self.events.append(event)


@contextlib.asynccontextmanager
async def powered(device: Device) -> AsyncIterator[Device]:
    """The device with power and a session."""
    following = asyncio.ensure_future(device.follow())
    try:
        await device.power_on()
        await device.connect(True)
        await device.ready()
        yield device
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await device.connect(False)
        await device.power_off()
