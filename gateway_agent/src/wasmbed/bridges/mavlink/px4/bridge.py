"""One vehicle's topics: what it sends as CDR samples, and samples for it as MAVLink.

The transport (the ROS 2 bridge) is a function that takes a topic and a sample, and calls `receive` with what comes in.
Times are the gateway's, in microseconds since 1970, as they are with PX4's own client after its time synchronisation.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.guard import Guard
from wasmbed.bridges.mavlink.px4.from_px4 import FromPx4
from wasmbed.bridges.mavlink.px4.messages import Px4Message, definitions, from_cdr, to_cdr
from wasmbed.bridges.mavlink.px4.to_px4 import CONVERTED, ToPx4
from wasmbed.bridges.mavlink.px4.topics import Topic, topics
from wasmbed.bridges.mavlink.vehicle import Vehicle

_log = logging.getLogger(__name__)

_MAX_COMMANDS = 16


class Px4Bridge:
    """Connects a vehicle with its topics within the context of `running`.

    `guard` judges every VehicleCommand of the topic; a vehicle's topics are an application like any other. Commands are
    sent by the rules of `command_rules`; their acknowledgements are published as they come from the vehicle.
    """

    def __init__(
        self,
        fleet: Fleet,
        vehicle: Vehicle,
        release: str,
        publish: Callable[[Topic, bytes], None],
        guard: Guard,
        namespace: str = "",
    ) -> None:
        self.refused = 0
        self._fleet = fleet
        self._vehicle = vehicle
        self._publish = publish
        self._guard = guard
        self._release = release
        self._outputs, inputs = topics(release, namespace)
        self._inputs = {topic.name: definitions(release)[name] for name, topic in inputs.items()}
        self._to = ToPx4(release)
        self._from = FromPx4(vehicle.ids)
        self._tasks: asyncio.TaskGroup | None = None
        self._commands: set[asyncio.Task[None]] = set()

    @property
    def input_topics(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return tuple(self._inputs)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Px4Bridge"]:
        """Publish and take samples within the context; commands that are under way at its end are cancelled."""
        stops = [self._fleet.watch(name, self._sent) for name in CONVERTED if name != "MANUAL_CONTROL"]
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    yield self
                finally:
                    for task in self._commands:
                        task.cancel()
        finally:
            self._tasks = None
            for stop in stops:
                stop()

    def receive(self, topic: str, sample: bytes) -> None:
        """Take a sample of an input topic. One that is damaged or refused is counted and dropped."""
        if self._tasks is None:
            return
        now_us = time.time_ns() // 1000
        try:
            item = from_cdr(self._inputs[topic], sample)
        except (KeyError, ValueError) as error:
            self.refused += 1
            _log.warning("px4 sample refused topic=%s reason=%r", topic, str(error))
            return
        for made in self._from.receive(item, now_us):
            if made.name in ("COMMAND_LONG", "COMMAND_INT"):
                self._command(self._tasks, item, made)
            else:
                self._fleet.port.send(made)

    def _command(self, tasks: asyncio.TaskGroup, item: Px4Message, made: Message) -> None:
        params = tuple(item[f"param{number}"] for number in range(1, 8))
        command = Command(item["command"], params, frame=0 if made.name == "COMMAND_INT" else None)
        reason = self._guard.command(command, self._vehicle.state, self._vehicle.now())
        if reason is not None or len(self._commands) >= _MAX_COMMANDS:
            self.refused += 1
            # Denied, in the topic's own words.
            self._acknowledge(Message("COMMAND_ACK", _denied(item), self._vehicle.ids.system, 1))
            return
        task = tasks.create_task(self._run(command), name="px4-command")
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _run(self, command: Command) -> None:
        result = await self._vehicle.command(command)
        if not result.ok:
            _log.warning("px4 command failed system=%s reason=%r", self._vehicle.ids.system, str(result))

    def _sent(self, item: Message) -> None:
        ids = self._vehicle.ids
        if not ids.sent_by_target(item):
            return
        if item.name == "COMMAND_ACK" and not ids.is_for_us(item):
            return
        offset = self._vehicle.timesync.offset
        now_us = time.time_ns() // 1000
        if offset is not None:
            self._to.offset_us = -offset.offset_ns // 1000
        for made in self._to.receive(item, now_us):
            self._publish(self._outputs[made.name], to_cdr(made))

    def _acknowledge(self, item: Message) -> None:
        for made in self._to.receive(item, time.time_ns() // 1000):
            self._publish(self._outputs[made.name], to_cdr(made))


def _denied(item: Px4Message) -> dict[str, int]:
    return {
        "command": item["command"] & 0xFFFF,
        "result": 2,
        "progress": 0,
        "result_param2": 0,
        "target_system": item["source_system"],
        "target_component": item["source_component"] & 0xFF,
    }
