"""The vehicles of the gateway's devices as PX4's topics in ROS 2: the flight service and the ROS 2 bridge connected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.mavlink.px4 import Px4Bridge
from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.qos import QosProfile
from wasmbed.gateway.px4_pilot import TopicPilot
from wasmbed.gateway.ros2_bridges import ros_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.mavlink import Fleet
    from wasmbed.bridges.mavlink.px4 import Topic
    from wasmbed.bridges.ros2 import Bridge
    from wasmbed.bridges.ros2.backend import Publisher, Received, Subscription
    from wasmbed.gateway.flight import Flight
    from wasmbed.gateway.flight_config import Px4TopicsConfig
    from wasmbed.gateway.flight_model import Ids
    from wasmbed.gateway.px4_owners import Owners
    from wasmbed.gateway.ros2_bridges import Ros2Bridges
    from wasmbed.service import Health

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
MAX_WAITING: Final = 512
# Samples a second of one input topic; PX4's own loops run at 250 Hz.
MAX_RATE_HZ: Final = 500
_RIGHTS: Final = {
    "VehicleCommand": "command",
    "TrajectorySetpoint": "offboard",
    "VehicleAttitudeSetpoint": "offboard",
    "VehicleRatesSetpoint": "offboard",
}


class TopicEndpoints:
    """The publishers and subscriptions of one vehicle; made and used on the agent's loop, but for `join` and `leave`.

    Samples wait in bounded queues between the two loops; what does not fit is dropped and counted.
    """

    def __init__(
        self,
        key: str,
        domain: int,
        on_bridge: Callable[[Callable[[], None]], None],
    ) -> None:
        """`on_bridge` runs a function on the bridge's loop."""
        self.key = key
        self.domain = domain
        self.published = self.dropped = 0
        self._on_bridge = on_bridge
        self._px4: Px4Bridge | None = None
        self._loop = asyncio.get_running_loop()
        self._publishers: dict[str, Publisher] = {}
        self._subscriptions: list[Subscription] = []
        self._out: deque[tuple[str, bytes]] = deque()
        self._in: deque[tuple[str, bytes]] = deque()

    # On the bridge's loop, and its backend's thread

    def join(self, bridge: Bridge) -> None:
        """Open the topics; raises Ros2Error."""
        backend, px4 = bridge.node.backend, self._px4
        if px4 is None:
            return
        for topic in px4.outputs.values():
            kind = f"px4_msgs/msg/{topic.message}"
            self._publishers[topic.name] = backend.create_publisher(topic.name, kind, _qos(topic))
        for topic in px4.inputs.values():
            self._subscribe(bridge, topic)

    def leave(self) -> None:
        """Close them."""
        endpoints = (*self._subscriptions, *self._publishers.values())
        self._subscriptions, self._publishers = [], {}
        for endpoint in endpoints:
            with contextlib.suppress(Ros2Error):
                endpoint.close()

    def _subscribe(self, bridge: Bridge, topic: Topic) -> None:
        second, count = 0, 0

        def received(data: bytes, _: Received) -> None:
            nonlocal second, count
            now = int(time.monotonic())
            second, count = now, count + 1 if now == second else 1
            # Whoever floods a topic must not keep the agent's loop busy with refusing it.
            if count > MAX_RATE_HZ or len(self._in) >= MAX_WAITING:
                self.dropped += 1
                return
            self._in.append((topic.name, data))
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take)

        kind = f"px4_msgs/msg/{topic.message}"
        found = bridge.node.backend.create_subscription(topic.name, kind, _qos(topic), received)
        self._subscriptions.append(found)

    def _flush(self) -> None:
        while self._out:
            name, data = self._out.popleft()
            publisher = self._publishers.get(name)
            try:
                sent = publisher is not None and publisher.publish(data)
            except Ros2Error as error:
                sent = False
                _log.warning("px4 sample not published topic=%s error=%s", name, error)
            self.published += sent
            self.dropped += not sent

    # On the agent's loop

    @property
    def refused(self) -> str:
        """Why the backend cannot carry one of them, in words; empty while it can."""
        endpoints = (*self._publishers.values(), *self._subscriptions)
        return next((it.statistics.refused for it in endpoints if it.statistics.refused), "")

    def serve(self, px4: Px4Bridge) -> None:
        """Carry a vehicle's topics, before anything is joined."""
        self._px4 = px4

    def send(self, topic: Topic, sample: bytes) -> None:
        """Publish a sample."""
        if len(self._out) >= MAX_WAITING:
            self.dropped += 1
            return
        self._out.append((topic.name, sample))
        if len(self._out) == 1:
            self._on_bridge(self._flush)

    def _take(self) -> None:
        while self._in:
            topic, sample = self._in.popleft()
            if self._px4 is not None:
                self._px4.receive(topic, sample)


def _qos(topic: Topic) -> QosProfile:
    return QosProfile(topic.reliable, topic.transient_local, depth=topic.depth)


@dataclass(frozen=True)
class VehicleTopics:
    """One vehicle in ROS 2."""

    namespace: str
    pilot: TopicPilot
    bridge: Px4Bridge
    endpoints: TopicEndpoints


class Px4Topics:
    """Keeps the topics of every vehicle that the configuration names."""

    def __init__(self, flight: Flight, owners: Owners, health: Health) -> None:
        self.vehicles: dict[Ids, VehicleTopics] = {}
        self._flight = flight
        self._owners = owners
        self._health = health
        self._bridges: Ros2Bridges | None = None
        self._problem = ""
        self._twice: set[str] = set()

    def connect(self, bridges: Ros2Bridges) -> None:
        """Take the ROS 2 bridge that runs from now on."""
        self._bridges = bridges

    async def run(self, fleet: Fleet) -> None:
        """Serve a fleet until cancelled. Without the section `mavlink.topics` there is nothing to do."""
        config = self._flight.config.topics
        if config is None:
            return
        async with asyncio.TaskGroup() as tasks:
            try:
                while True:
                    if self._usable():
                        await self._follow(config, fleet, tasks)
                    for found in self.vehicles.values():
                        found.pilot.look()
                    await asyncio.sleep(LOOK_S)
            finally:
                # What they fly is told to hold by the flight service, which ends with this.
                for found in self.vehicles.values():
                    self._leave(found)
                self.vehicles.clear()

    def _usable(self) -> bool:
        """Whether there can be topics; says what is wrong, also with those that are open."""
        bridges, usable = self._bridges, False
        if bridges is None:
            problem = "mavlink.topics needs ROS 2: add the section ros2 (role ros2) and look at its errors in the log"
        elif bridges.section.px4_release is None:
            problem = "mavlink.topics needs ros2.px4_release (variable ros2_px4_release), such as 1.16"
        else:
            usable = True
            problem = next((it for found in self.vehicles.values() if (it := found.endpoints.refused)), "")
        if problem != self._problem and problem:
            _log.warning("no px4 topics reason=%r", problem)
        self._problem = problem
        self._health.set("px4_topics", not problem, problem)
        return usable

    async def _follow(self, config: Px4TopicsConfig, fleet: Fleet, tasks: asyncio.TaskGroup) -> None:
        """Open and close topics as devices come and go."""
        wanted: dict[Ids, str] = {}
        for device, ids in sorted(self._flight.bound.items()):
            if not config.vehicles or ids[0] in config.vehicles:
                wanted.setdefault(ids, device)
        for ids, found in list(self.vehicles.items()):
            if wanted.get(ids) != found.pilot.device:
                del self.vehicles[ids]
                found.pilot.close()
                self._leave(found)
        names = {found.namespace for found in self.vehicles.values()}
        for ids in wanted.keys() - self.vehicles.keys():
            namespace = config.namespace_of(ids[0], ros_name(wanted[ids]))
            if namespace in names:
                self._tell_twice(namespace)
                continue
            names.add(namespace)
            found = self._open(config, fleet, tasks, ids, wanted[ids], namespace)
            if self._bridges is not None:
                await self._bridges.join(found.endpoints)

    def _tell_twice(self, namespace: str) -> None:
        if namespace not in self._twice:
            self._twice.add(namespace)
            remedy = "put {system} into mavlink.topics.namespace"
            _log.error("no px4 topics for a second vehicle of the same namespace=/%s; %s", namespace, remedy)

    def _open(
        self,
        config: Px4TopicsConfig,
        fleet: Fleet,
        tasks: asyncio.TaskGroup,
        ids: Ids,
        device: str,
        namespace: str,
    ) -> VehicleTopics:
        bridges = self._bridges
        if bridges is None or bridges.section.px4_release is None:
            raise RuntimeError("there is no ROS 2")
        vehicle = fleet.vehicle(*ids)
        rights = frozenset(_RIGHTS[name] for name in config.accept if name in _RIGHTS)
        rights |= frozenset({"dangerous"} if config.dangerous else ())
        pilot = TopicPilot(namespace, device, rights, vehicle, self._flight, self._owners, tasks)
        domain = config.domain if config.domain is not None else bridges.section.domain
        endpoints = TopicEndpoints(f"px4 /{namespace}", domain, bridges.post)
        bridge = Px4Bridge(
            *(fleet, vehicle, bridges.section.px4_release, endpoints.send, pilot),
            namespace=namespace,
            publish=config.publish,
            accept=config.accept,
        )
        endpoints.serve(bridge)
        bridge.start()
        found = self.vehicles[ids] = VehicleTopics(namespace, pilot, bridge, endpoints)
        _log.info("px4 topics opened namespace=/%s system=%d device=%s", namespace, ids[0], device)
        return found

    def _leave(self, found: VehicleTopics) -> None:
        found.bridge.close()
        if self._bridges is not None:
            self._bridges.drop(found.endpoints)
