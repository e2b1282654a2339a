"""The examples in the real runtime: a peer that answers their host requests, as a gateway agent would."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wasmbed.runtime import Delivery, HostRequest, Limits, Provision, Secret, Sensor, StartRequest
from wasmbed.runtime.abi import COMMAND, WAYPOINT, EventType

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_vehicle import Vehicle
    from runtime_support import Agent

KEY = bytes(range(32))
GRANTS = ("wasmbed:sys", "wasmbed:px4", "wasmbed:ros2", "wasmbed:sensor", "wasmbed:secure")
DEVICE = "default/drone"


def unsealed(envelope: bytes) -> bytes:
    """Open an envelope as docs/abi.md describes it, with another implementation than the runtime's."""
    fields = cbor2.loads(envelope)
    associated = cbor2.dumps([1, fields[2], fields[3], fields[4], fields[5]], canonical=True)
    return AESGCM(KEY).decrypt(fields[6], fields[7], associated)


@dataclass
class Peer:
    """Answers host requests of one application on one device and keeps what it was given."""

    agent: Agent
    application: str
    vehicle: Vehicle | None = None
    sent: list[bytes] = field(default_factory=list)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    subscribed: dict[tuple[str, int], int] = field(default_factory=dict)
    routes: tuple[str, ...] = ()
    # The status a message to the cloud gets.
    secure: Callable[[bytes], int] = lambda _message: 0
    _next_sequence: int = 1000
    _read: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self) -> None:
        """Answer until cancelled."""
        while True:
            await self.agent.wait_for(lambda _event: len(self.agent.events) > self._read, timeout_s=600)
            while self._read < len(self.agent.events):
                event = self.agent.events[self._read]
                self._read += 1
                if isinstance(event, HostRequest) and event.application == self.application:
                    await self._answer(event)
                    async with self._changed:
                        self._changed.notify_all()

    async def until(self, wanted: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until something holds that requests bring about."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(wanted)

    async def _answer(self, request: HostRequest) -> None:
        data = request.data or b""
        status, detail = 0, b""
        match request.module, request.op:
            case "secure", "sequence":
                await self.hand_out_key()
            case "secure", "send":
                message = unsealed(data)
                self.sent.append(message)
                status = self.secure(message)
            case "ros2", "publish":
                self.published.append((self.routes[int(request.args[0])], data))
            case _, "subscribe":
                self.subscribed[request.module, int(request.args[0])] = int(request.args[1])
            case "px4", _ if self.vehicle is not None:
                status, detail = self._fly(request.op, data)
        if request.token:
            self.deliver((EventType.RESULT, request.token, struct.pack("<i", status) + detail), request.instance)

    def _fly(self, op: str, data: bytes) -> tuple[int, bytes]:
        vehicle = self.vehicle
        assert vehicle is not None
        if op == "acquire":
            vehicle.acquire()
        elif op == "release":
            vehicle.release()
        elif op == "command":
            status, detail = vehicle.command(COMMAND.unpack(data))
            return status or 0, detail or b""
        elif op == "mission":
            return vehicle.upload(list(WAYPOINT.iter_unpack(data))), b""
        return 0, b""

    async def hand_out_key(self) -> None:
        await self.agent.client.secret(Secret(self.application, DEVICE, KEY, self._next_sequence))
        self._next_sequence += 1000

    def deliver(self, event: tuple[int, int, bytes], instance: str = "drone") -> None:
        self.agent.client.deliver([Delivery(instance, *event)])

    async def start(
        self, wasm: bytes, *, env: dict[str, str] | None = None, sensors: tuple[Sensor, ...] = (), **fields: Any
    ) -> None:
        """Provide the device and start the application on it; other content than before is a hot update."""
        await self.agent.client.provide(Provision(DEVICE, ("px4", "ros2", "sensor", "secure"), True, sensors))
        await self.hand_out_key()
        digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
        await self.agent.client.load(digest, wasm)
        await self.agent.client.start(
            StartRequest(
                instance="drone",
                digest=digest,
                application=self.application,
                app_uid="uid-1",
                device=DEVICE,
                device_class="mpu",
                limits=Limits(memory_bytes=16 << 20, cpu_ms_per_call=2000),
                grants=GRANTS,
                env=env or {},
                routes=tuple((alias, "publish", "topic") for alias in self.routes),
                rights=("px4-command", "px4-mission"),
                **fields,
            )
        )
