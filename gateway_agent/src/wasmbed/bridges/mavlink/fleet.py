"""The gateway's own MAVLink component: its heartbeat, and the vehicles it knows."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.frames import Frame, decode_frame
from wasmbed.bridges.mavlink.operations import Ids
from wasmbed.bridges.mavlink.switch import Switch
from wasmbed.bridges.mavlink.vehicle import SPOKEN, Vehicle
from wasmbed.bridges.mavlink.vehicle_state import HEARTBEAT_S, heartbeat

_log = logging.getLogger(__name__)

_TURNS = 20


class Fleet:
    """Speaks as one component (`system`/`component`) with every vehicle behind the switch.

    Only messages that somebody wants are decoded: those of the protocols, and those of `watch`.
    """

    def __init__(
        self, switch: Switch, system: int, component: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.vehicles: dict[tuple[int, int], Vehicle] = {}
        self._clock = clock
        self._switch = switch
        self._wanted = {switch.dialect[name].id for name in SPOKEN if name in switch.dialect.by_name}
        self._watchers: dict[int, list[Callable[[Message], None]]] = {}
        self._by_system: dict[int, tuple[Vehicle, ...]] = {}
        self._system = system
        self._component = component
        self.port = switch.open_local(system, component, on_frame=self._receive)

    def vehicle(self, system: int, component: int = 1) -> Vehicle:
        """The vehicle with these ids, the same object each time."""
        key = (system, component)
        if key not in self.vehicles:
            ids = Ids(self._system, self._component, system, component)
            self.vehicles[key] = Vehicle(ids, self.port.send, clock=self._clock)
            self._by_system[system] = (*self._by_system.get(system, ()), self.vehicles[key])
        return self.vehicles[key]

    def watch(self, name: str, on_message: Callable[[Message], None]) -> Callable[[], None]:
        """Get every message of a kind; call what is returned to stop."""
        number = self._switch.dialect[name].id
        self._watchers.setdefault(number, []).append(on_message)

        def stop() -> None:
            self._watchers[number].remove(on_message)
            if not self._watchers[number]:
                del self._watchers[number]

        return stop

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        """Send the heartbeat and look after the vehicles within the context."""
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat(), name="mavlink-heartbeat")
            try:
                yield self
            finally:
                beating.cancel()
                for vehicle in self.vehicles.values():
                    vehicle.close()
                self.port.close()

    async def _beat(self) -> None:
        while True:
            # On the loop itself: a gateway that hangs falls silent.
            self.port.send(heartbeat())
            vehicles = list(self.vehicles.values())
            for turn in range(_TURNS):
                # A share of them at a time, so that many vehicles do not hold up the loop once a second.
                for vehicle in vehicles[turn::_TURNS]:
                    vehicle.advance(self._clock())
                await asyncio.sleep(HEARTBEAT_S / _TURNS)

    def _receive(self, frame: Frame) -> None:
        watchers = self._watchers.get(frame.id)
        vehicles = self._by_system.get(frame.system) if frame.id in self._wanted else None
        if not watchers and not vehicles:
            return
        item = decode_frame(frame)
        if item is None:
            return
        for watcher in tuple(watchers or ()):
            watcher(item)
        now = self._clock()
        for vehicle in vehicles or ():
            vehicle.receive(item, now)
