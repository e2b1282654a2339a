"""The application's side of the bridge: a few calls by the name of a route, none of which blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.action_handlers import ActionCall, ActionServe
from wasmbed.bridges.ros2.errors import NotGrantedError
from wasmbed.bridges.ros2.handlers import Delivery, Handler, ServiceCall, ServiceServe, TopicIn, TopicOut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wasmbed.bridges.ros2.bridge import Bridge
    from wasmbed.bridges.ros2.routes import Route
    from wasmbed.bridges.ros2.shared import Messages

_HANDLERS: Final[dict[tuple[str, str], type[Handler]]] = {
    ("topic", "subscribe"): TopicIn,
    ("topic", "publish"): TopicOut,
    ("service", "call"): ServiceCall,
    ("service", "serve"): ServiceServe,
    ("action", "call"): ActionCall,
    ("action", "serve"): ActionServe,
}


class Session:
    """The open routes of one application; its methods may be called on any thread."""

    def __init__(
        self, bridge: Bridge, application: str, routes: Sequence[Route], on_ready: Callable[[str], None]
    ) -> None:
        self._bridge = bridge
        self.application = application
        self._in: dict[str, Handler] = {}
        self._out: dict[str, Handler] = {}
        self._handlers: list[Handler] = []
        try:
            for route in routes:
                handler = _HANDLERS[route.kind, route.direction](bridge, route, on_ready)
                self._handlers.append(handler)
                if route.direction == "publish":
                    self._out[route.name] = handler
                else:
                    self._in[route.name] = handler
                    self._out.setdefault(route.name, handler)
        except BaseException:
            self.close()
            raise

    def receive(self, name: str, capacity: int | None = None) -> Delivery | int | None:
        """The oldest delivery of a route, its size when it is above capacity (it stays), None when there is none.

        Raises NotGrantedError.
        """
        return self._find(self._in, name).receive(capacity)

    def take(self, name: str, count: int, size: int) -> Messages:
        """The oldest messages of a topic: at most so many and, but for the last, bytes; empty when there are none.

        Raises NotGrantedError.
        """
        return self._find(self._in, name).take(count, size)

    def discard(self, name: str) -> None:
        """Drop what waits in a route, and count it as dropped. Raises NotGrantedError."""
        self._find(self._in, name).discard()

    def serve(self, name: str, wanted: bool) -> None:
        """Whether the application takes the requests and goals of a route now; else they are refused.

        Raises NotGrantedError.
        """
        self._find(self._in, name).served = wanted

    def publish(self, name: str, data: bytes) -> None:
        """Publish on a topic. Raises NotGrantedError, BusyError, CallError, CdrError, ValidationError."""
        self._find(self._out, name).publish(data)

    def call(self, name: str, data: bytes) -> int:
        """Call a service or send a goal; the token of its deliveries. Raises as `publish`."""
        return self._find(self._in, name).call(data)

    def respond(self, name: str, token: int, data: bytes, status: int | None = None) -> None:
        """Answer a request (not at all with a negative status), or finish a goal with a status.

        Raises NotGrantedError, CdrError, ValidationError.
        """
        handler = self._find(self._in, name)
        if status is None:
            handler.respond(token, data)
        else:
            handler.respond(token, data, status)

    def feedback(self, name: str, token: int, data: bytes) -> None:
        """Publish feedback of a goal that is served. Raises as `publish`."""
        self._find(self._in, name).feedback(token, data)

    def cancel(self, name: str, token: int) -> None:
        """Ask for cancelling a goal that was sent. Raises NotGrantedError."""
        self._find(self._in, name).cancel(token)

    def _find(self, handlers: dict[str, Handler], name: str) -> Handler:
        handler = handlers.get(name)
        if handler is None:
            raise NotGrantedError(
                f"{self.application} has no such route: {name[:80]!r}; declare it in communication.ros2"
            )
        return handler

    def look(self) -> None:
        """Have every route look for problems that come as no event."""
        for handler in self._handlers:
            handler.look()

    def statistics(self) -> dict[str, Any]:
        """By route: its counters, what is queued, and problems in words."""
        return {
            f"{handler.route.direction} {handler.route.name}": {
                **handler.counted(),
                "queued": len(handler.queue),
                "queued_bytes": handler.queue.buffered_bytes,
                "problems": list(handler.problems()),
            }
            for handler in self._handlers
        }

    def close(self) -> None:
        """Close all routes."""
        for handler in self._handlers:
            handler.close()
        self._handlers = []
        self._in, self._out = {}, {}
        self._bridge.forget(self.application)
