"""The bridge: opens the routes of applications on a backend and carries messages between the two.

An application's side is a `Session`: calls that never block, for any thread, as host functions need them. Messages from
ROS are checked before they are queued, whatever their encoding; messages of applications before they are sent.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import ConfigurationError
from wasmbed.bridges.ros2.routes import MAX_ROUTES
from wasmbed.bridges.ros2.session import Session
from wasmbed.bridges.ros2.shared import SharedSubscription

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wasmbed.bridges.ros2.backend import EndpointStatistics
    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.routes import Policy, Route
    from wasmbed.bridges.ros2.shared import Sink

log = logging.getLogger(__name__)

MAX_SESSIONS: Final = 1000


class Bridge:
    """The routes of all applications in one domain."""

    def __init__(self, node: Node, policy: Policy, domain_id: int) -> None:
        self.node = node
        self._policy, self._domain_id = policy, domain_id
        self._sessions: dict[str, Session] = {}
        self._shared: dict[tuple[str, str, QosProfile, int], SharedSubscription] = {}
        self._lock = threading.Lock()

    def open(
        self, application: str, routes: Sequence[Route], on_ready: Callable[[str], None] = lambda _: None
    ) -> Session:
        """Open the routes of an application; on_ready gets the name of a route whose queue was empty, on any thread.

        Raises:
            ConfigurationError: a route the policy does not allow, an application that is open already.
        """
        if application in self._sessions:
            raise ConfigurationError(f"{application}: its routes are open already")
        if len(self._sessions) >= MAX_SESSIONS or len(routes) > MAX_ROUTES:
            raise ConfigurationError(f"at most {MAX_SESSIONS} applications and {MAX_ROUTES} routes of each")
        for route in routes:
            refusal = self._policy.refusal(route, self._domain_id)
            if refusal:
                raise ConfigurationError(f"{application}: {refusal}")
        session = Session(self, application, routes, on_ready)
        self._sessions[application] = session
        log.info("routes opened application=%s routes=%d", application, len(routes))
        return session

    def attach(self, route: Route, sink: Sink) -> tuple[EndpointStatistics, Callable[[], None]]:
        """Give a topic's messages to a sink; routes of equal topic, type and QoS share one subscription.

        But for latched topics, whose message each has to get of its own. Returns the statistics of the subscription
        and what detaches the sink again.
        """
        wanted = (route.target, route.type, route.qos)
        key = (*wanted, id(sink) if route.qos.transient_local else 0)
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = SharedSubscription(self.node, *wanted, sink)
            else:
                shared.add(sink)

        def detach() -> None:
            with self._lock:
                if shared.remove(sink):
                    del self._shared[key]
                    shared.close()

        return shared.subscription.statistics, detach

    def forget(self, application: str) -> None:
        self._sessions.pop(application, None)

    def look(self) -> None:
        """Look for problems of all routes that come as no event, such as a peer with another type."""
        for session in list(self._sessions.values()):
            session.look()

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By application and route: counters, queue, and problems of the route's endpoint."""
        return {name: session.statistics() for name, session in list(self._sessions.items())}

    def close(self) -> None:
        for session in list(self._sessions.values()):
            session.close()
