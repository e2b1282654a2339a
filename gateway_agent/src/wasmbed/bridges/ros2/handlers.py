"""What is behind each kind of route: topics in and out, services called and served."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import (
    BusyError,
    CallError,
    CdrError,
    NoReplyError,
    NotGrantedError,
    Ros2Error,
    ValidationError,
)
from wasmbed.bridges.ros2.queues import SHORT_BYTES, BoundedQueue, RateLimit, RouteStatistics
from wasmbed.bridges.ros2.shared import CHECKED_LATER_BYTES
from wasmbed.bridges.ros2.types import CodecFactory, Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from wasmbed.bridges.ros2.bridge import Bridge
    from wasmbed.bridges.ros2.routes import Route
    from wasmbed.bridges.ros2.shared import Messages

log = logging.getLogger(__name__)

MAX_OUTSTANDING: Final = 64
# The code of a failure, docs/abi.md.
TOO_BIG: Final = -90
FINAL: Final = frozenset({"reply", "failure", "rejected", "result"})
MAX_PROBLEMS: Final = 8


@dataclass(slots=True)
class Delivery:
    """Something for the application.

    kind is message for a topic; reply or failure for a call; request for a served service; accepted, rejected,
    feedback, result or failure for a goal sent; goal or cancel for a goal served. token tells which call or goal,
    status how a goal ended, or the code of a failure.
    """

    kind: str
    data: bytes
    token: int = 0
    status: int = 0
    timestamp_ns: int = 0


class Encoding:
    """Between CDR and what an application reads and writes, checked both ways."""

    def __init__(self, codecs: CodecFactory, type_name: str, encoding: str) -> None:
        self.codec = codecs.codec(type_name)
        self._plain = None if encoding == "cdr" else Plain(codecs, type_name)
        self._json = encoding == "json"

    def outward(self, message: Any) -> bytes:
        """What the application gets."""
        if self._plain is None:
            return self.codec.dumps(message)
        return self._plain.to_json(message) if self._json else self._plain.to_cbor(message)

    def inward(self, data: bytes) -> Any:
        """What the application sent; raises CdrError or ValidationError."""
        if self._plain is None:
            return self.codec.loads(data)
        return self._plain.from_json(data) if self._json else self._plain.from_cbor(data)


class Handler:
    """Common to all: statistics, a queue to the application, tasks on the event loop."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        self.bridge, self.route = bridge, route
        self.statistics = RouteStatistics()
        # Who sent an older request or goal still waits for it.
        drop_oldest = route.drop == "oldest" and route.direction != "serve"
        self.queue = BoundedQueue(route.queue, route.queue_bytes, drop_oldest=drop_oldest)
        self.served = True
        """Whether the application takes the requests or goals of a route to serve."""
        self._problems: list[str] = []
        self._on_ready = on_ready
        self._limit = RateLimit(route.max_rate_hz)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, delivery: Delivery) -> bool:
        """Queue something for the application; whether that cost something, the delivery itself or older ones."""
        dropped, first = self.queue.put(delivery.data, delivery)
        self.statistics.dropped += dropped
        if first:
            self._on_ready(self.route.name)
        return dropped > 0

    def keep(self, delivery: Delivery) -> bool:
        """Queue something that is never dropped; False when the queue has no room for its bytes."""
        kept = self.queue.keep(delivery.data, delivery)
        if kept is None:
            return False
        dropped, first = kept
        self.statistics.dropped += dropped
        if first:
            self._on_ready(self.route.name)
        return True

    def receive(self, capacity: int | None = None) -> Delivery | int | None:
        """The oldest delivery, its size when it does not fit into capacity (it stays), None when there is none."""
        found = self.queue.get(capacity)
        if found is None or isinstance(found, int):
            return found
        self.statistics.delivered += 1
        self.statistics.delivered_bytes += len(found[0])
        delivery: Delivery = found[1]
        return delivery

    def take(self, count: int, size: int) -> Messages:
        """The oldest messages of a topic: at most so many and, but for the last, bytes; empty when there are none."""
        raise self.unsupported("take")

    def discard(self) -> None:
        """Drop and count what waits: nobody wants it."""
        count = len(self.queue.clear())
        self.statistics.dropped += count

    def admit(self) -> None:
        """Count a message of the application; raises BusyError above the route's rate."""
        self.statistics.received += 1
        if not self._limit.admit(time.monotonic()):
            self.statistics.rate_limited += 1
            raise BusyError(f"{self.route.name}: more than {self.route.max_rate_hz:g} messages a second")

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run on the event loop, from any thread."""

        def start() -> None:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def counted(self) -> dict[str, int]:
        """The route's counters; `lost` and `overruns` are those of its subscription, 0 for what has none."""
        return {**self.statistics.as_dict(), "lost": 0, "overruns": 0}

    def look(self) -> None:
        """Look for problems that come as no event."""

    def problem(self, text: str) -> None:
        """Take note of what is wrong with the route itself."""
        if text not in self._problems:
            self._problems = [*self._problems, text][-MAX_PROBLEMS:]

    def problems(self) -> list[str]:
        """What is wrong with the route and its endpoints, in words."""
        return self._problems

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.queue.clear()

    def unsupported(self, operation: str) -> NotGrantedError:
        return NotGrantedError(
            f"{self.route.name}: a {self.route.kind} to {self.route.direction} has no operation {operation}"
        )

    # What only some kinds have.

    def publish(self, data: bytes) -> None:
        raise self.unsupported("publish")

    def call(self, data: bytes) -> int:
        raise self.unsupported("call")

    def respond(self, token: int, data: bytes, status: int = 0) -> None:
        raise self.unsupported("respond")

    def feedback(self, token: int, data: bytes) -> None:
        raise self.unsupported("feedback")

    def cancel(self, token: int) -> None:
        raise self.unsupported("cancel")


class TopicIn(Handler):
    """A topic to the application."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        self.encoding, self.fields = route.encoding, route.fields
        self._codec = bridge.node.codecs.codec(route.type)
        self._endpoint, self._detach = bridge.attach(route, self)

    def wanted(self, messages: Messages, now: float) -> Messages:
        self.statistics.received += len(messages)
        if self.route.max_rate_hz is None:
            return messages
        passed = [message for message in messages if self._limit.admit(now)]
        self.statistics.rate_limited += len(messages) - len(passed)
        return passed

    def accept(self, messages: Messages) -> bool:
        dropped, first = self.queue.put_all(messages)
        self.statistics.dropped += dropped
        if first:
            self._on_ready(self.route.name)
        return dropped > 0

    def receive(self, capacity: int | None = None) -> Delivery | int | None:
        while True:
            found = self.queue.get(capacity)
            if found is None or isinstance(found, int):
                return found
            if sound := self._sound([found]):
                return Delivery("message", sound[0][0], timestamp_ns=sound[0][1])

    def take(self, count: int, size: int) -> Messages:
        while found := self.queue.get_all(count, size):
            if sound := self._sound(found):
                return sound
        return ()

    def _sound(self, messages: Messages) -> Messages:
        """Those that are what they should be; the others are counted."""
        if self.encoding == "cdr":
            messages = [item for item in messages if len(item[0]) > CHECKED_LATER_BYTES or self._is_sound(item[0])]
        self.statistics.delivered += len(messages)
        self.statistics.delivered_bytes += sum([len(data) for data, _ in messages])
        return messages

    def _is_sound(self, data: bytes) -> bool:
        try:
            self._codec.check(data)
        except CdrError as error:
            self.malformed()
            self._endpoint.problem(str(error))
            return False
        return True

    def malformed(self) -> None:
        self.statistics.malformed += 1

    def counted(self) -> dict[str, int]:
        # Before the route: of the subscription that routes of equal topic, type and QoS share.
        found, before = super().counted(), self._endpoint
        malformed = found["malformed"] + before.malformed
        return {**found, "malformed": malformed, "lost": before.lost, "overruns": before.overruns}

    def look(self) -> None:
        for problem in self.bridge.node.backend.type_problems(self.route.target, self.route.type):
            self._endpoint.problem(problem)

    def problems(self) -> list[str]:
        return self._endpoint.problems

    def close(self) -> None:
        self._detach()
        super().close()


class TopicOut(Handler):
    """A topic from the application; each route has a publisher of its own, so that its QoS holds."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        self._encoding = Encoding(bridge.node.codecs, route.type, route.encoding)
        self._publisher = bridge.node.backend.create_publisher(route.target, route.type, route.qos)

    def publish(self, data: bytes) -> None:
        """Raises BusyError, CdrError, ValidationError, and CallError when the publisher could not be made."""
        self.admit()
        if refused := self._publisher.statistics.refused:
            self.statistics.failed += 1
            raise CallError(f"{self.route.name}: {refused}")
        try:
            message = self._encoding.inward(data)
            serialized = data if self.route.encoding == "cdr" else self._encoding.codec.dumps(message)
            sent = self._publisher.publish(serialized)
        except (CdrError, ValidationError):
            self.statistics.malformed += 1
            raise
        if not sent:
            self.statistics.dropped += 1
            raise BusyError(f"{self.route.name}: the subscriptions do not keep up")
        self.statistics.delivered += 1
        self.statistics.delivered_bytes += len(data)

    def look(self) -> None:
        for problem in self.bridge.node.backend.type_problems(self.route.target, self.route.type):
            self._publisher.statistics.problem(problem)

    def problems(self) -> list[str]:
        return self._publisher.statistics.problems

    def close(self) -> None:
        self._publisher.close()
        super().close()


class Calls:
    """The calls of a route that an application has under way: from `begin` until it has taken what ends them.

    At most MAX_OUTSTANDING of them, so at most so many ends of calls wait in the queue, which drops none.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tokens = itertools.count(1)
        self._open: set[int] = set()

    def check(self) -> None:
        """Raises BusyError when there are too many."""
        if len(self._open) >= MAX_OUTSTANDING:
            self._handler.statistics.dropped += 1
            raise BusyError(f"{self._handler.route.name}: {MAX_OUTSTANDING} calls are under way")

    def begin(self) -> int:
        """The token of one more."""
        token = next(self._tokens)
        self._open.add(token)
        return token

    def keep(self, delivery: Delivery) -> None:
        """Queue what the application must get; one too large for the queue becomes a failure that says so."""
        handler = self._handler
        if delivery.kind == "failure":
            delivery.data = delivery.data[:SHORT_BYTES]
        if not handler.keep(delivery):
            handler.statistics.dropped += 1
            handler.statistics.failed += 1
            text = f"{handler.route.name}: the {delivery.kind} of {len(delivery.data)} bytes does not fit queueBytes"
            handler.keep(Delivery("failure", text.encode()[:SHORT_BYTES], delivery.token, TOO_BIG))

    def taken(self, found: Delivery | int | None) -> None:
        """Note what the application has taken."""
        if isinstance(found, Delivery) and found.kind in FINAL:
            self._open.discard(found.token)


class ServiceCall(Handler):
    """A service the application calls; replies and failures come as deliveries with the call's token."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        self._calls = Calls(self)
        codecs = bridge.node.codecs
        self._request = Encoding(codecs, f"{route.type}_Request", route.encoding)
        self._response = Encoding(codecs, f"{route.type}_Response", route.encoding)
        self._client = bridge.node.backend.create_client(route.target, route.type, route.qos)
        self._failure = ""

    def call(self, data: bytes) -> int:
        """Raises BusyError, CdrError, ValidationError."""
        self.admit()
        self._calls.check()
        try:
            serialized = self._request.codec.dumps(self._request.inward(data))
        except (CdrError, ValidationError):
            self.statistics.malformed += 1
            raise
        token = self._calls.begin()
        self.spawn(self._run(token, serialized))
        return token

    def receive(self, capacity: int | None = None) -> Delivery | int | None:
        found = super().receive(capacity)
        self._calls.taken(found)
        return found

    async def _run(self, token: int, request: bytes) -> None:
        try:
            reply = await self._client.call(request, self.route.timeout_s)
            self._calls.keep(Delivery("reply", self._response.outward(self._response.codec.loads(reply)), token))
        except Ros2Error as error:
            self.statistics.failed += 1
            self._failure = str(error)
            self._calls.keep(Delivery("failure", str(error).encode(), token, error.code))

    def look(self) -> None:
        self._client.look()

    def problems(self) -> list[str]:
        found = self._client.problems()
        return [*found, self._failure] if self._failure and self._failure not in found else found

    def close(self) -> None:
        self._client.close()
        super().close()


class ServiceServe(Handler):
    """A service the application serves: requests come as deliveries, `respond` answers them."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        codecs = bridge.node.codecs
        self._request = Encoding(codecs, f"{route.type}_Request", route.encoding)
        self._response = Encoding(codecs, f"{route.type}_Response", route.encoding)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        self._server = bridge.node.backend.create_service(route.target, route.type, route.qos, self._serve)

    async def _serve(self, data: bytes) -> bytes:
        self.statistics.received += 1
        if not self.served:
            self.statistics.dropped += 1
            raise NoReplyError(f"{self.route.name}: the application has not opened it")
        if len(self._waiting) >= MAX_OUTSTANDING:
            self.statistics.dropped += 1
            raise self._full(f"{MAX_OUTSTANDING} of them wait")
        try:
            request = self._request.outward(self._request.codec.loads(data))
        except CdrError:
            self.statistics.malformed += 1
            raise
        token, future = next(self._tokens), self._loop.create_future()
        self._waiting[token] = future
        try:
            if self.deliver(Delivery("request", request, token)):
                raise self._full("no room in queue or queueBytes")
            async with asyncio.timeout(self.route.timeout_s):
                reply: bytes | None = await future
        except TimeoutError:
            if self.queue.remove(lambda delivery: delivery.token == token):
                self.statistics.dropped += 1
                raise self._full("not taken in time") from None
            self.statistics.failed += 1
            raise CallError(f"{self.route.name}: the application did not answer") from None
        finally:
            del self._waiting[token]
        if reply is None:
            raise NoReplyError(f"{self.route.name}: the application gives no reply")
        return reply

    def _full(self, why: str) -> NoReplyError:
        text = f"the application is too slow for the requests, the newest get no reply: {why}"
        self.problem(text)
        return NoReplyError(f"{self.route.name}: {text}")

    def discard(self) -> None:
        """Drop and count what waits, and have nobody's place taken by it."""
        dropped = self.queue.clear()
        self.statistics.dropped += len(dropped)
        for delivery in dropped:
            self._loop.call_soon_threadsafe(self._answer, delivery.token, None)

    def respond(self, token: int, data: bytes, status: int = 0) -> None:
        """Answer a request, or leave it unanswered with a negative status; raises CdrError, ValidationError.

        An answer that comes too late is left out.
        """
        if status < 0:
            self._loop.call_soon_threadsafe(self._answer, token, None)
            return
        try:
            serialized = self._response.codec.dumps(self._response.inward(data))
        except (CdrError, ValidationError):
            self.statistics.malformed += 1
            raise
        self._loop.call_soon_threadsafe(self._answer, token, serialized)

    def _answer(self, token: int, data: bytes | None) -> None:
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_result(data)

    def look(self) -> None:
        self._server.look()

    def problems(self) -> list[str]:
        return [*self._problems, *self._server.problems()]

    def close(self) -> None:
        self._server.close()
        super().close()
