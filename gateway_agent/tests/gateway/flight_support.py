"""A vehicle in a process of its own, the bridge, flight safety, and a peer that keeps what it is sent."""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasmbed.bridges.mavlink import Endpoint, Fleet, Hub
from wasmbed.bridges.mavlink.modes import AUTOPILOT_PX4, mode_name
from wasmbed.gateway.flight import Flight
from wasmbed.gateway.flight_config import FlightConfig
from wasmbed.gateway.flight_model import Claim, DeviceRecord
from wasmbed.gateway.px4_backend import Px4Backend
from wasmbed.hostcalls import Dispatcher, HostInstance
from wasmbed.runtime import HostRequest, abi
from wasmbed.runtime.abi import EventType, Telemetry

sys.path.append(str(Path(__file__).parents[1] / "bridges/mavlink"))
from peers import simulator, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from peers import Program
    from wasmbed.bridges.mavlink import Message, Vehicle
    from wasmbed.runtime import Delivery, Provision, Secret

DEVICE = "default/alpha"
HOME = (47.397742, 8.545594, 488.0)
NAN = float("nan")
RIGHTS = frozenset({"command", "offboard", "mission"})


class RecordingPeer:
    """A runtime as the dispatcher sees it."""

    backlog_bytes = 0

    def __init__(self) -> None:
        self.events: list[Delivery] = []
        self.provisions: list[Provision] = []

    def deliver(self, events: Sequence[Delivery]) -> None:
        self.events += events

    async def provide(self, provision: Provision) -> None:
        self.provisions.append(provision)

    async def secret(self, secret: Secret) -> None:
        raise AssertionError("no secrets here")

    def of(self, instance: str, kind: EventType) -> list[Delivery]:
        return [event for event in self.events if event.instance == instance and event.type == kind]


@dataclass
class Application:
    """One instance: its calls, and what came back."""

    rig: Rig
    name: str
    device: str = DEVICE

    @property
    def application(self) -> str:
        return f"default/{self.name}"

    def send(self, op: str, *args: Any, data: bytes = b"", token: int = 0) -> None:
        plain = tuple(int(item) if isinstance(item, IntEnum) else item for item in args)
        request = HostRequest(self.name, self.application, self.device, "px4", op, token, plain, data)
        self.rig.dispatcher.submit(request, self.rig.peer)

    async def call(self, op: str, *args: Any, data: bytes = b"", seconds: float = 60.0) -> tuple[int, bytes]:
        """Status and details of a call."""
        token = next(self.rig.tokens)
        self.send(op, *args, data=data, token=token)

        def answer() -> bytes | None:
            found = self.rig.peer.of(self.name, EventType.RESULT)
            return next((event.data for event in found if event.source == token), None)

        data = await until(answer, seconds)
        return struct.unpack_from("<i", data)[0], data[4:]

    async def command(self, number: int, *params: float, frame: int = 0) -> int:
        """The status of a command; params 5 and 6 are the place."""
        one, two, three, four, x, y, z = (*params, *(0.0,) * (7 - len(params)))
        data = abi.COMMAND.pack(number, frame, one, two, three, four, x, y, z)
        return (await self.call("command", data=data))[0]

    def setpoint(self, kind: int, *values: float, place: tuple[float, float] = (0.0, 0.0)) -> None:
        v = (*values, *(NAN,) * (8 - len(values)))
        self.send("setpoint", data=abi.SETPOINT.pack(kind, *v, *place))

    @property
    def losses(self) -> list[int]:
        """The reasons of OWNER events."""
        return [event.data[0] for event in self.rig.peer.of(self.name, EventType.OWNER)]

    def telemetry(self, kind: Telemetry) -> list[tuple[Any, ...]]:
        found = self.rig.peer.of(self.name, EventType.TELEMETRY)
        return [abi.TELEMETRY[kind].unpack(event.data) for event in found if event.source == kind]


@dataclass
class Rig:
    """Everything together; the vehicle with system id 1 is DEVICE's."""

    flight: Flight
    backend: Px4Backend
    dispatcher: Dispatcher
    fleet: Fleet
    port: int
    simulator: Program | None = None
    tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    peer: RecordingPeer = field(default_factory=RecordingPeer)
    claims: dict[tuple[str, str], Claim] = field(default_factory=dict)

    @property
    def vehicle(self) -> Vehicle:
        return self.fleet.vehicle(1)

    @property
    def reasons(self) -> list[str]:
        return [incident.reason for incident in self.flight.incidents(DEVICE)]

    async def application(
        self, name: str, rights: frozenset[str] = RIGHTS, *, device: str = DEVICE, system_id: int | None = None
    ) -> Application:
        made = Application(self, name, device)
        self.claims[made.application, device] = Claim(made.application, device, rights, system_id)
        self.flight.set_claims(dict(self.claims))
        spec = HostInstance(name, made.application, f"uid-{name}", device, frozenset({"wasmbed:px4"}), rights)
        await self.dispatcher.open(spec, self.peer)
        return made

    async def order(self, *orders: str) -> None:
        """Have the simulator carry out orders; returns when it has: the battery, told last, is shown."""
        assert self.simulator is not None
        percent = 61 if self.vehicle.state.battery_percent == 60 else 60
        for order in (*orders, f"battery {percent}"):
            self.simulator.tell(order)
        await until(lambda: self.vehicle.state.battery_percent == percent, 30.0)

    async def modes(self, heartbeats: int) -> set[str]:
        """The modes in the vehicle's next heartbeats, one a second of its own clock: what does not come meanwhile."""
        shown: list[str] = []

        def note(item: Message) -> None:
            if item.system == 1:
                shown.append(mode_name(AUTOPILOT_PX4, item["type"], item["custom_mode"]))

        stop = self.fleet.watch("HEARTBEAT", note)
        try:
            await until(lambda: len(shown) >= heartbeats, 10.0 * heartbeats)
        finally:
            stop()
        return set(shown)

    async def airborne(self, app: Application) -> None:
        assert await app.command(400, 1.0) == 0
        assert await app.command(22, NAN, 0.0, 0.0, NAN, NAN, NAN, HOME[2] + 10.0) == 0
        assert await self.vehicle.until(lambda s: s.position is not None and s.position.height_m > 9.0, 20.0)
        assert await self.vehicle.until(lambda s: s.mode == "hold", 10.0)

    async def in_offboard(self, app: Application) -> asyncio.Task[None]:
        """Have an application fly offboard; the task renews its setpoint."""

        async def renew() -> None:
            while True:
                app.setpoint(1, 20.0, 0.0, -12.0)
                await asyncio.sleep(0.05)

        renewing = asyncio.get_running_loop().create_task(renew())
        await asyncio.sleep(0)
        assert (await app.call("offboard", 1))[0] == 0
        assert self.vehicle.state.mode == "offboard"
        return renewing


@asynccontextmanager
async def rig(*options: object, heard: bool = True, **config: Any) -> AsyncIterator[Rig]:
    """The bridge with a simulated vehicle (ours, in its own process)."""
    endpoints = (Endpoint("vehicles", "udpin:127.0.0.1:0"),)
    async with AsyncExitStack() as stack:
        made = FlightConfig(endpoints, **config)
        hub = await stack.enter_async_context(Hub(made).running())
        await hub.ready("vehicles")
        fleet = await stack.enter_async_context(Fleet(hub.switch, made.system, made.component).running())
        flight = Flight(made)
        backend = Px4Backend(flight)
        dispatcher = Dispatcher((backend,))
        bound = hub.links["vehicles"].bound
        assert bound is not None
        backend.connect(fleet)
        tasks = [asyncio.get_running_loop().create_task(work) for work in (flight.run(fleet), dispatcher.run())]
        try:
            found = Rig(flight, backend, dispatcher, fleet, bound[1])
            flight.set_devices({DEVICE: DeviceRecord(system_id=1)})
            if heard:
                arguments = ("--port", bound[1], "--speed", 10, *options)
                found.simulator = await stack.enter_async_context(simulator(*arguments))
                assert await found.vehicle.until(lambda s: s.connected and s.has_position and s.home is not None, 10.0)
                await until(lambda: flight.available(DEVICE))
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            backend.disconnect()
