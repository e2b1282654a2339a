"""The backend of `wasmbed:ros2`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from wasmbed.bridges.ros2 import Ros2Error
from wasmbed.gateway.ros2_bridges import Ros2Bridges
from wasmbed.gateway.ros2_routes import place_of
from wasmbed.gateway.ros2_session import Ros2Session
from wasmbed.hostcalls import BadCallError, Ended, HostCall, Instance, Outcome, Outlet, RefusedError, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric

    from wasmbed.gateway.ros2_config import Ros2Config
    from wasmbed.runtime import Sensor

_TOKEN = (1 << 63) - 1
# The operations on a route, and the directions it may have for each.
_DIRECTIONS: Mapping[str, tuple[str, ...]] = {
    "publish": ("publish",),
    "call": ("call",),
    "respond": ("serve",),
    "feedback": ("serve",),
    "cancel": ("call",),
}


class Ros2Backend(Collector):
    """Made by `running`, whose context is its life."""

    module = "ros2"
    operations: ClassVar[Mapping[str, float]] = {
        "open": 5.0,
        "close": 5.0,
        "publish": 5.0,
        "call": 5.0,
        "respond": 5.0,
        "feedback": 5.0,
        "cancel": 5.0,
        "taken": 5.0,
    }

    def __init__(self, section: Ros2Config, gateway: str, state_directory: Path) -> None:
        """Raises Ros2Error."""
        self._section = section
        self._bridges = Ros2Bridges(section, gateway, state_directory, self._on_state)
        self._sessions: dict[str, Ros2Session] = {}
        self._up: dict[int, bool] = {}
        self._outlet: Outlet | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, section: Ros2Config, gateway: str, state_directory: Path) -> AsyncIterator[Ros2Backend]:
        """Run the bridge's thread within the context; raises Ros2Error for a configuration that cannot be used."""
        backend = cls(section, gateway, state_directory)
        backend._bridges.start()
        try:
            yield backend
        finally:
            await backend._bridges.stop()

    @property
    def bridges(self) -> Ros2Bridges:
        """The bridge's thread, for what else takes part in ROS 2."""
        return self._bridges

    def attach(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def available(self, device: str) -> bool:
        """There is always a bridge to try, unless every domain that is used lacks one."""
        return not self._up or any(self._up.values())

    def sensors(self, device: str) -> Sequence[Sensor]:
        return ()

    async def open(self, instance: Instance) -> None:
        """Open the routes of an instance; a wrong one is refused with the field of the manifest."""
        spec = instance.spec.ros2
        if not any(spec.get(key) for key in ("topics", "services", "actions")):
            return
        domain = spec.get("domainId", self._section.domain)
        try:
            routes = await self._bridges.routes(spec, instance.device, domain)
        except Ros2Error as error:
            raise RefusedError(place_of(str(error), spec)) from None
        session = self._sessions[instance.name] = Ros2Session(instance, domain, routes, self._bridges.post)
        await self._bridges.join(session)

    async def close(self, instance: Instance, why: Ended) -> None:
        """Close its routes."""
        session = self._sessions.pop(instance.name, None)
        if session is not None:
            session.close()
            await self._bridges.leave(session)

    def handle(self, call: HostCall) -> Outcome | Awaitable[Outcome]:
        """Carry a call out."""
        session = self._sessions.get(call.instance.name)
        if session is None:
            return Outcome(Status.NOTFOUND)
        handle = call.number(1 if call.op == "open" else 0, 0, len(session.routes) - 1)
        if call.op == "open":
            if call.text(0) != session.routes[handle].name:
                raise BadCallError("open: the alias is not that of the handle")
            return session.open(handle)
        if call.op == "close":
            return session.close_route(handle)
        if call.op == "taken":
            return session.taken(handle, call.number(1, 1))
        if session.routes[handle].direction not in _DIRECTIONS[call.op]:
            raise BadCallError(f"{call.op}: not for a route to {session.routes[handle].direction}")
        return _act(session, handle, call) if session.connected else Outcome(Status.UNAVAILABLE)

    def _on_state(self, domain: int, up: bool) -> None:
        self._up[domain] = up
        if self._outlet is not None:
            self._outlet.changed()

    def collect(self) -> Iterator[Metric]:
        """Figures of domains, routes and recordings, for Prometheus."""
        up = GaugeMetricFamily("wasmbed_ros2_up", "Whether the bridge of a domain runs", labels=["domain"])
        starts = CounterMetricFamily("wasmbed_ros2_starts", "Starts of a domain's bridge", labels=["domain"])
        nodes = GaugeMetricFamily("wasmbed_ros2_nodes", "Other nodes that are seen in a domain", labels=["domain"])
        recorded = CounterMetricFamily(
            "wasmbed_ros2_recorded", "Messages for the recording by fate", labels=["domain", "fate"]
        )
        routes = CounterMetricFamily(
            "wasmbed_ros2_route_messages",
            "Messages of an application's route by what became of them",
            labels=["application", "device", "route", "fate"],
        )
        volume = CounterMetricFamily(
            "wasmbed_ros2_route_bytes",
            "Bytes delivered by an application's route",
            labels=["application", "device", "route"],
        )
        overruns = CounterMetricFamily(
            "wasmbed_ros2_route_overruns",
            "How often the subscription's cache was full, so that older messages were replaced uncounted",
            labels=["application", "device", "route"],
        )
        problems = GaugeMetricFamily(
            "wasmbed_ros2_route_problems",
            "Things that are wrong with a route, such as a peer of an incompatible QoS; the log has them in words",
            labels=["application", "device", "route"],
        )
        queued = GaugeMetricFamily(
            "wasmbed_ros2_route_queued",
            "Messages that wait for the application",
            labels=["application", "device", "route"],
        )
        for domain, found in self._bridges.statistics().items():
            up.add_metric([str(domain)], float(self._up.get(domain, False)))
            starts.add_metric([str(domain)], found.starts)
            nodes.add_metric([str(domain)], found.nodes)
            if found.recorded is not None:
                recorded.add_metric([str(domain), "written"], found.recorded.messages)
                recorded.add_metric([str(domain), "dropped"], found.recorded.dropped)
            for key, figures in found.sessions.items():
                names = list(key.split("@", 1))
                for route, values in figures.items():
                    for fate in ("received", "delivered", "rate_limited", "dropped", "malformed", "failed", "lost"):
                        routes.add_metric([*names, route, fate], values[fate])
                    volume.add_metric([*names, route], values["delivered_bytes"])
                    overruns.add_metric([*names, route], values["overruns"])
                    problems.add_metric([*names, route], len(values["problems"]))
                    queued.add_metric([*names, route], values["queued"])
        yield from (up, starts, nodes, recorded, routes, volume, overruns, problems, queued)


def _act(session: Ros2Session, handle: int, call: HostCall) -> Outcome | Awaitable[Outcome]:
    if call.op == "publish":
        return session.publish(handle, call.data)
    if call.op == "call":
        return session.call(handle, call.data, call.token)
    token = call.number(1, 0, _TOKEN)
    if call.op == "cancel":
        return session.cancel(handle, token)
    if call.op == "feedback":
        return session.feedback(handle, token, call.data)
    return session.respond(handle, token, call.number(2, -(1 << 31), (1 << 31) - 1), call.data)
