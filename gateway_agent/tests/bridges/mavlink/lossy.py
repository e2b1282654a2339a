"""A network in simulated time between the state machines and a simulated vehicle: it loses, doubles and delays."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.operations import Ids, Operation
from wasmbed_sitl import SimulatedVehicle

IDS = Ids(245, 191, 1, 1)
QUIET = frozenset({"HEARTBEAT", "ATTITUDE", "GLOBAL_POSITION_INT"})


@dataclass(frozen=True)
class Network:
    """Shares from 0 to 1 and seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.02
    jitter_s: float = 0.0


CLEAN = Network()
BAD = Network(loss=0.3, duplication=0.2, delay_s=0.005, jitter_s=0.12)


class World:
    """Simulated time. `on_message` sees every message that reaches us; telemetry is off unless asked for."""

    def __init__(self, network: Network, seed: int = 0, vehicle: SimulatedVehicle | None = None) -> None:
        self.now = 1000.0
        self.vehicle = vehicle or SimulatedVehicle()
        self.vehicle.power_on(self.now)
        self.on_message: list[Callable[[Message, float], None]] = []
        self.sent: list[tuple[float, Message]] = []
        self.telemetry = False
        self._network = network
        self._rng = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._at(self.now, self._step)

    def send(self, item: Message) -> None:
        """From us to the vehicle."""
        self.sent.append((self.now, item))
        fields = dict(full(item).values)
        if "param_value" in fields:
            fields["param_bytes"] = fields["param_value"]
        sender = (IDS.own_system, IDS.own_component)
        self._through(lambda: self._back(self.vehicle.handle(item.name, dict(fields), sender, self.now)))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end and not until():
            self.now, _, action = heapq.heappop(self._queue)
            action()
        if not until():
            self.now = end

    def drive(self, operation: Operation[Any], seconds: float = 120.0) -> Any:
        """Run an operation to its end; its result, None when time ran out."""
        return self.drive_all([operation], seconds)[0]

    def drive_all(self, operations: list[Operation[Any]], seconds: float = 120.0) -> list[Any]:
        """Run operations at the same time."""

        def received(item: Message, now: float) -> None:
            for operation in operations:
                operation.receive(item, now)

        self.on_message.append(received)
        for operation in operations:
            operation.start(self.now)
        end = self.now + seconds
        while self.now < end and any(operation.result is None for operation in operations):
            for operation in operations:
                for item in operation.take():
                    self.send(item)
            due = min((o.deadline for o in operations if o.deadline is not None and o.result is None), default=end)
            following = self._queue[0][0] if self._queue else end
            if following <= due:
                self.run(following - self.now)
            else:
                self.now = max(self.now, due)
                for operation in operations:
                    operation.advance(self.now)
        for operation in operations:
            for item in operation.take():
                self.send(item)
        self.on_message.remove(received)
        return [operation.result for operation in operations]

    def _step(self) -> None:
        out = self.vehicle.step(self.now)
        self._back([item for item in out if self.telemetry or item[0] not in QUIET])
        self._at(self.now + 0.05, self._step)

    def _back(self, out: list[tuple[str, dict[str, Any]]]) -> None:
        for name, fields in out:
            values = {key: value for key, value in fields.items() if key != "param_bytes"}
            if "param_bytes" in fields:
                values["param_value"] = fields["param_bytes"]
            item = full(Message(name, values, self.vehicle.system, 1))
            self._through(lambda item=item: self._arrive(item))  # type: ignore[misc]

    def _arrive(self, item: Message) -> None:
        for listener in list(self.on_message):
            listener(item, self.now)

    def _through(self, action: Callable[[], None]) -> None:
        copies = 0 if self._rng.random() < self._network.loss else 1
        if self._rng.random() < self._network.duplication:
            copies += 1
        for _ in range(copies):
            self._at(self.now + self._network.delay_s + self._rng.random() * self._network.jitter_s, action)

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), action))
