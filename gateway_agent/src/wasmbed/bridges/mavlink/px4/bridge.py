"""One vehicle's topics: what it sends as CDR samples, and samples for it as orders.

The transport (the ROS 2 bridge) is a function that takes a topic and a sample, and calls `receive` with what comes in.
Times are the gateway's, in microseconds since 1970, as they are with PX4's own client after its time synchronisation.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Protocol

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.offboard import AttitudeSetpoint, Axes, LocalSetpoint, Setpoint
from wasmbed.bridges.mavlink.px4.from_px4 import FromPx4
from wasmbed.bridges.mavlink.px4.messages import Px4Message, definitions, from_cdr, to_cdr
from wasmbed.bridges.mavlink.px4.to_px4 import CONVERTED, ToPx4
from wasmbed.bridges.mavlink.px4.topics import OUTPUTS, Topic, topics
from wasmbed.bridges.mavlink.vehicle import Vehicle

_log = logging.getLogger(__name__)

DENIED = 2
UNSUPPORTED = 3
_IN_PROGRESS = 5
_MAX_COMMAND = 0xFFFF
_MAX_OPEN = 64


class Done(Protocol):
    """Where a command's end is told, once."""

    def __call__(self, result: int | None, detail: int = 0) -> None:
        """The MAV_RESULT and `result_param2`; None when nobody answered."""
        ...


class Orders(Protocol):
    """Who judges and carries out what comes in."""

    def command(self, command: Command, source: str, done: Done) -> None:
        """Carry out a command, and tell its end: the vehicle's answer or that of who judges."""
        ...

    def setpoint(self, setpoint: Setpoint) -> bool:
        """Take a setpoint; False when it was refused."""
        ...

    def other(self, item: Message) -> bool:
        """Send MANUAL_CONTROL or ODOMETRY; False when it was refused."""
        ...


class Px4Bridge:
    """Connects a vehicle with its topics from `start` to `close`.

    Only messages of `publish` go out, and only those of `accept` are taken in. An acknowledgement does not say which of
    two equal commands it answers, so each one's own end is published, addressed to who sent it. Progress goes to the
    first that is under way, as one of a number is at a time.
    """

    def __init__(
        self,
        fleet: Fleet,
        vehicle: Vehicle,
        release: str,
        send: Callable[[Topic, bytes], None],
        orders: Orders,
        *,
        namespace: str = "",
        publish: Collection[str] = tuple(OUTPUTS),
        accept: Collection[str] = (),
    ) -> None:
        outputs, inputs = topics(release, namespace)
        self.outputs = {name: topic for name, topic in outputs.items() if name in publish}
        self.inputs = {topic.name: topic for name, topic in inputs.items() if name in accept}
        self.taken = self.refused = 0
        self._fleet = fleet
        self._vehicle = vehicle
        self._send = send
        self._orders = orders
        self._definitions = definitions(release)
        self._to = ToPx4(release)
        self._from = FromPx4(vehicle.ids)
        self._stops: list[Callable[[], None]] = []
        # Who waits for which command's acknowledgement, in the order of sending; two may wait for the same number.
        self._open: dict[object, tuple[int, int, int]] = {}

    def start(self) -> None:
        """Begin."""
        names = (name for name in CONVERTED if name != "MANUAL_CONTROL")
        self._stops = [self._fleet.watch(name, self._sent) for name in names]

    def close(self) -> None:
        """Publish and take nothing any more."""
        for stop in self._stops:
            stop()
        self._stops = []

    def receive(self, topic: str, sample: bytes) -> None:
        """Take a sample of an input topic. One that is damaged or refused is counted and dropped."""
        if not self._stops:
            return
        try:
            item = from_cdr(self._definitions[self.inputs[topic].message], sample)
            passed = self._take(item)
        except (KeyError, ValueError) as error:
            _log.warning("px4 sample refused topic=%s reason=%r", topic, str(error))
            passed = False
        self.taken += passed
        self.refused += not passed

    def _take(self, item: Px4Message) -> bool:
        if item.name == "VehicleCommand" and item["command"] > _MAX_COMMAND:
            # Numbers above 16 bits are PX4's own, between its modules.
            return False
        passed = True
        for made in self._from.receive(item, time.time_ns() // 1000):
            if made.name in ("COMMAND_LONG", "COMMAND_INT"):
                self._command(item, made)
            elif made.name in ("SET_POSITION_TARGET_LOCAL_NED", "SET_ATTITUDE_TARGET"):
                passed = self._orders.setpoint(_setpoint(made))
            else:
                passed = self._orders.other(made)
        return passed

    def _command(self, item: Px4Message, made: Message) -> None:
        number = item["command"]
        params = tuple(item[f"param{index}"] for index in range(1, 8))
        command = Command(number, params, frame=0 if made.name == "COMMAND_INT" else None)
        if len(self._open) >= _MAX_OPEN:
            # The oldest was never answered.
            del self._open[next(iter(self._open))]
        ticket = object()
        self._open[ticket] = (number, item["source_system"], item["source_component"])

        def done(result: int | None, detail: int = 0) -> None:
            source = self._open.pop(ticket, None)
            if source is not None and result is not None:
                values = {"command": number, "result": result, "progress": 0, "result_param2": detail}
                self._publish(_addressed(Message("COMMAND_ACK", values, self._vehicle.ids.system, 1), source))

        self._orders.command(command, f"{item['source_system']}/{item['source_component']}", done)

    def _sent(self, item: Message) -> None:
        ids = self._vehicle.ids
        if not ids.sent_by_target(item):
            return
        if item.name == "COMMAND_ACK":
            if not ids.is_for_us(item):
                return
            waiting = next((source for source in self._open.values() if source[0] == item["command"]), None)
            if waiting is not None:
                if item["result"] != _IN_PROGRESS:
                    return
                item = _addressed(item, waiting)
        offset = self._vehicle.timesync.offset
        if offset is not None:
            self._to.offset_us = -offset.offset_ns // 1000
        self._publish(item)

    def _publish(self, item: Message) -> None:
        for made in self._to.receive(item, time.time_ns() // 1000):
            topic = self.outputs.get(made.name)
            if topic is not None:
                self._send(topic, to_cdr(made))


def _addressed(item: Message, source: tuple[int, int, int]) -> Message:
    """An acknowledgement for whoever sent the command."""
    values = {**item.values, "target_system": source[1], "target_component": source[2] & 0xFF}
    return Message(item.name, values, item.system, item.component)


def _setpoint(item: Message) -> Setpoint:
    """SET_POSITION_TARGET_LOCAL_NED or SET_ATTITUDE_TARGET as a setpoint."""
    v, mask = item.values, item["type_mask"]

    def axes(*names: str, first: int) -> Axes | None:
        found = [v.get(name, 0.0) if not mask >> bit & 1 else None for bit, name in enumerate(names, first)]
        return (found[0], found[1], found[2]) if any(part is not None for part in found) else None

    if item.name == "SET_ATTITUDE_TARGET":
        rates = axes("body_roll_rate", "body_pitch_rate", "body_yaw_rate", first=0)
        return AttitudeSetpoint(v["thrust"], None if mask & 1 << 7 else v["q"], rates, v["thrust_body"])
    return LocalSetpoint(
        axes("x", "y", "z", first=0),
        axes("vx", "vy", "vz", first=3),
        axes("afx", "afy", "afz", first=6),
        None if mask & 1 << 10 else v["yaw"],
        None if mask & 1 << 11 else v["yaw_rate"],
    )
