"""The routes of one instance, between the agent's loop and the bridge's.

What an application sends is checked and encoded on the bridge's loop, what it gets was decoded on the backend's thread;
on the agent's loop only bytes are moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2 import Ros2Error
from wasmbed.bridges.ros2.actions import SUCCEEDED
from wasmbed.gateway.ros2_flow import LATE_S, Flow
from wasmbed.hostcalls import Outcome, Status
from wasmbed.runtime.abi import FINAL_ROS2, ROS2_HEADER, EventType, Ros2Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from wasmbed.bridges.ros2 import Bridge, Delivery, Route, Session
    from wasmbed.hostcalls import Instance

log = logging.getLogger(__name__)

# What may wait for the bridge's loop before an application is told to try again.
MAX_PENDING: Final = 1024
MAX_PENDING_BYTES: Final = 8 << 20
# Messages of one route that are moved in one turn of the loop.
_TURN: Final = 64
# A peer that has this much before it gets no more; then messages wait in the route's own queue, which drops and counts.
_BACKLOG_BYTES: Final = 1 << 20
_LATER_S: Final = 0.02
_KINDS: Final = {kind.name.lower(): kind for kind in Ros2Kind}


class Ros2Session:
    """Made and used on the agent's loop, but for `join` and `leave`, which the bridge's loop calls."""

    def __init__(
        self,
        instance: Instance,
        domain: int,
        routes: Sequence[Route],
        on_bridge: Callable[[Callable[[], None]], None],
    ) -> None:
        """`on_bridge` runs a function on the bridge's loop, in order."""
        self.instance = instance
        self.domain = domain
        self.routes = tuple(routes)
        self._on_bridge = on_bridge
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._handles = {route.name: handle for handle, route in enumerate(self.routes)}
        self._opened: set[int] = set()
        self._later: set[int] = set()
        self._flows = [Flow() for _ in self.routes]
        # The application's tokens of calls under way, by handle and the bridge's token; both loops use it.
        self._tokens: dict[tuple[int, int], int] = {}
        # Calls that the bridge's loop has not begun yet, by handle and the application's token.
        self._beginning: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self._pending = self._pending_bytes = 0
        self._closed = False

    @property
    def key(self) -> str:
        """The session's name at the bridge."""
        return f"{self.instance.spec.application}@{self.instance.device}"

    @property
    def connected(self) -> bool:
        """Whether a bridge carries the routes now."""
        return self._session is not None

    # On the bridge's loop

    def join(self, bridge: Bridge) -> None:
        """Open the routes; raises Ros2Error."""
        if not self._closed:
            session = bridge.open(self.key, self.routes, self._ready)
            for route in self.routes:
                if route.direction == "serve":
                    session.serve(route.name, False)
            self._session = session
            # Only now: what is opened from here on finds the session by itself.
            for handle in list(self._opened):
                self._serve(handle, True)
            # What came before the session was there.
            for route in self.routes:
                self._ready(route.name)

    def leave(self) -> None:
        """Close the routes; calls under way have failed."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail)

    def _ready(self, name: str) -> None:
        """Something waits in a route; on any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drain, self._handles[name])

    # On the agent's loop

    def open(self, handle: int) -> Outcome:
        """Deliver what a route has from now on."""
        self._opened.add(handle)
        self._serve(handle, True)
        self._drain(handle)
        return Outcome()

    def close_route(self, handle: int) -> Outcome:
        """Deliver nothing of a route any more."""
        self._opened.discard(handle)
        self._serve(handle, False)
        if self.routes[handle].direction == "serve":
            self._drain(handle)
        return Outcome()

    def _serve(self, handle: int, wanted: bool) -> None:
        """Have requests and goals of a route refused unless it is open."""
        session, route = self._session, self.routes[handle]
        if session is not None and route.direction == "serve":
            with contextlib.suppress(Ros2Error):  # closed meanwhile
                session.serve(route.name, wanted)

    def taken(self, handle: int, count: int) -> Outcome:
        """So many messages of a route have left the instance's queue."""
        flow = self._flows[handle]
        flow.taken(count)
        if flow.held and not flow.full:
            self._drain(handle)
        return Outcome()

    def close(self) -> None:
        """Deliver nothing any more."""
        self._closed = True
        self._opened.clear()

    def publish(self, handle: int, data: bytes) -> Outcome:
        """Publish, or have the application try again when the bridge does not keep up."""
        name = self.routes[handle].name
        return self._send(len(data), lambda session: session.publish(name, data))

    def respond(self, handle: int, token: int, status: int, data: bytes) -> Outcome:
        """Answer a request, or end a goal; status 0 is success, a negative one gives no answer."""
        route = self.routes[handle]
        code = status if route.kind == "service" else status or SUCCEEDED
        return self._send(len(data), lambda session: session.respond(route.name, token, data, code))

    def feedback(self, handle: int, token: int, data: bytes) -> Outcome:
        """Publish feedback of a goal that is served."""
        name = self.routes[handle].name
        return self._send(len(data), lambda session: session.feedback(name, token, data))

    def cancel(self, handle: int, token: int) -> Outcome:
        """Ask for cancelling a goal."""
        name = self.routes[handle].name
        if (handle, token) not in self._beginning and self._theirs(handle, token) is None:
            return Outcome(Status.NOTFOUND)

        def cancel(session: Session) -> None:
            # Only here, after the call has begun.
            if (theirs := self._theirs(handle, token)) is not None:
                session.cancel(name, theirs)

        return self._send(0, cancel)

    def _theirs(self, handle: int, token: int) -> int | None:
        """The bridge's token of a call under way."""
        return next((key[1] for key, ours in list(self._tokens.items()) if key[0] == handle and ours == token), None)

    def call(self, handle: int, data: bytes, token: int) -> Awaitable[Outcome]:
        """Call a service or send a goal; what comes of it are events with the token."""
        name = self.routes[handle].name
        begun: asyncio.Future[Outcome] = self._loop.create_future()
        self._beginning.add((handle, token))
        begun.add_done_callback(lambda _: self._beginning.discard((handle, token)))

        def begin() -> None:
            if begun.cancelled():
                return  # the application was told that it takes too long
            outcome = Outcome(Status.UNAVAILABLE)
            session = self._session
            if session is not None:
                try:
                    # Before anything of the call can be delivered, which takes another turn of this loop.
                    self._tokens[handle, session.call(name, data)] = token
                    outcome = Outcome()
                except Ros2Error as error:
                    outcome = Outcome(error.code, str(error).encode()[:256])

            def tell() -> None:
                if not begun.done():
                    begun.set_result(outcome)

            self._loop.call_soon_threadsafe(tell)

        self._on_bridge(begin)
        return begun

    def _send(self, size: int, action: Callable[[Session], None]) -> Outcome:
        with self._lock:
            if self._pending >= MAX_PENDING or self._pending_bytes + size > MAX_PENDING_BYTES:
                return Outcome(Status.AGAIN)
            self._pending += 1
            self._pending_bytes += size

        def run() -> None:
            with self._lock:
                self._pending -= 1
                self._pending_bytes -= size
            session = self._session
            if session is not None:
                try:
                    action(session)
                except Ros2Error as error:  # counted at the route
                    log.debug("not sent application=%s error=%s", self.key, error)

        self._on_bridge(run)
        return Outcome()

    def _drain(self, handle: int) -> None:
        """Move what waits in a route to the instance, as long as its peer keeps up."""
        session, route = self._session, self.routes[handle]
        if session is None or self._closed:
            return
        wanted = handle in self._opened or route.direction == "call"
        if not wanted:
            # What is latched is kept for when the route is opened: nobody sends it again.
            if not (route.kind == "topic" and route.qos.transient_local):
                with contextlib.suppress(Ros2Error):
                    session.discard(route.name)
            return
        flow, room, turn = self._flows[handle], _BACKLOG_BYTES - self.instance.peer.backlog_bytes, _TURN
        move = self._move_messages if route.kind == "topic" else self._move_one
        try:
            while turn > 0:
                if flow.full:
                    self._hold(handle)
                    return
                if room <= 0:
                    self._drain_later(handle)
                    return
                count, size = move(session, handle, min(turn, flow.room), room)
                if count == 0:
                    return
                flow.sent(count)
                turn -= count
                room -= size
        except Ros2Error:
            return  # closed meanwhile
        self._loop.call_soon(self._drain, handle)

    def _move_messages(self, session: Session, handle: int, count: int, size: int) -> tuple[int, int]:
        """Move messages of a topic to the instance: how many they were, and bytes."""
        messages = session.take(self.routes[handle].name, count, size)
        if not messages:
            return 0, 0
        now = time.time_ns()
        items = [ROS2_HEADER.pack(Ros2Kind.MESSAGE, 0, 0, stamp or now) + data for data, stamp in messages]
        self.instance.post_all(EventType.ROS2, handle, items)
        return len(items), sum([len(data) for data, _ in messages])

    def _move_one(self, session: Session, handle: int, _count: int, _size: int) -> tuple[int, int]:
        """The same with one delivery of a service or an action."""
        delivery: Any = session.receive(self.routes[handle].name)
        if delivery is None:
            return 0, 0
        self._deliver(handle, delivery)
        return 1, len(delivery.data)

    def _hold(self, handle: int) -> None:
        """Wait for room in the instance's queue, but not for ever."""
        flow = self._flows[handle]
        if flow.held:
            return
        flow.held, heard = True, flow.heard

        def again() -> None:
            flow.held = False
            if flow.heard == heard:
                flow.forget()
            self._drain(handle)

        self._loop.call_later(LATE_S, again)

    def _drain_later(self, handle: int) -> None:
        if handle not in self._later:
            self._later.add(handle)

            def again() -> None:
                self._later.discard(handle)
                self._drain(handle)

            self._loop.call_later(_LATER_S, again)

    def _deliver(self, handle: int, delivery: Delivery) -> None:
        kind = _KINDS[delivery.kind]
        token = delivery.token
        if self.routes[handle].direction == "call":
            found = self._tokens.get((handle, token))
            if found is None:
                return
            if kind in FINAL_ROS2:
                del self._tokens[handle, token]
            token = found
        header = ROS2_HEADER.pack(kind, delivery.status, token, delivery.timestamp_ns or time.time_ns())
        self.instance.post(EventType.ROS2, handle, header + delivery.data)

    def _fail(self) -> None:
        """Tell the application of calls that no bridge carries any more."""
        tokens, self._tokens = self._tokens, {}
        if self._closed:
            return
        for (handle, _), token in tokens.items():
            header = ROS2_HEADER.pack(Ros2Kind.FAILURE, Status.UNAVAILABLE, token, time.time_ns())
            self.instance.post(EventType.ROS2, handle, header + b"the bridge has ended")
