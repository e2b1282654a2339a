"""What is behind the routes of actions: goals sent and goals served by an application."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from wasmbed.bridges.ros2.actions import ABORTED, CANCELED, SUCCEEDED
from wasmbed.bridges.ros2.errors import CallError, CdrError, NotGrantedError, Ros2Error, ValidationError
from wasmbed.bridges.ros2.handlers import MAX_OUTSTANDING, Calls, Delivery, Encoding, Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.ros2.actions import Goal
    from wasmbed.bridges.ros2.bridge import Bridge
    from wasmbed.bridges.ros2.routes import Route


class _ActionHandler(Handler):
    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        codecs = bridge.node.codecs
        self.goal, self.result, self.progress = (
            Encoding(codecs, f"{route.type}_{part}", route.encoding) for part in ("Goal", "Result", "Feedback")
        )

    def decode(self, encoding: Encoding, data: bytes) -> Any:
        try:
            return encoding.inward(data)
        except (CdrError, ValidationError):
            self.statistics.malformed += 1
            raise


class ActionCall(_ActionHandler):
    """Goals the application sends; acceptance, feedback and result come as deliveries with the goal's token."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        self._client = bridge.node.action_client(route.target, route.type)
        self._goals: dict[int, bytes] = {}
        self._calls = Calls(self)
        self._running: set[int] = set()
        # Goals to cancel as soon as they are accepted.
        self._unwanted: set[int] = set()

    def call(self, data: bytes) -> int:
        """Send a goal; raises BusyError, CdrError, ValidationError."""
        self.admit()
        self._calls.check()
        goal = self.decode(self.goal, data)
        token = self._calls.begin()
        self._running.add(token)
        self.spawn(self._run(token, goal))
        return token

    def receive(self, capacity: int | None = None) -> Delivery | int | None:
        found = super().receive(capacity)
        self._calls.taken(found)
        return found

    async def _run(self, token: int, goal: Any) -> None:
        early: list[Delivery] = []

        def progress(feedback: Any) -> None:
            delivery = Delivery("feedback", self.progress.outward(feedback), token)
            if token in self._goals:
                self.deliver(delivery)
            elif len(early) < MAX_OUTSTANDING:
                early.append(delivery)  # it overtook the acceptance

        try:
            goal_id = await self._client.send(goal, progress)
            if goal_id is None:
                self._calls.keep(Delivery("rejected", b"", token))
                return
            self._goals[token] = goal_id
            self._calls.keep(Delivery("accepted", b"", token))
            if token in self._unwanted:
                self.spawn(self._cancel(goal_id))
            for delivery in early:
                self.deliver(delivery)
            status, result = await self._client.result(goal_id, self.route.timeout_s)
            self._calls.keep(Delivery("result", self.result.outward(result), token, status))
        except Ros2Error as error:
            self.statistics.failed += 1
            self._calls.keep(Delivery("failure", str(error).encode(), token, error.code))
        finally:
            self._running.discard(token)
            self._goals.pop(token, None)
            self._unwanted.discard(token)

    def cancel(self, token: int) -> None:
        """Ask the server to cancel a goal, as soon as it is accepted; the result tells whether it was."""
        if token not in self._running:
            raise NotGrantedError(f"{self.route.name}: goal {token} is not active")
        self._loop.call_soon_threadsafe(self._want_cancel, token)

    def _want_cancel(self, token: int) -> None:
        if token in self._goals:
            self.spawn(self._cancel(self._goals[token]))
        elif token in self._running:
            self._unwanted.add(token)

    async def _cancel(self, goal_id: bytes) -> None:
        try:
            await self._client.cancel(goal_id)
        except Ros2Error:
            self.statistics.failed += 1

    def look(self) -> None:
        self._client.look()

    def problems(self) -> list[str]:
        return self._client.problems()

    def close(self) -> None:
        self._client.close()
        super().close()


class ActionServe(_ActionHandler):
    """Goals the application serves: each comes as a delivery; `feedback` and `respond` tell how it goes."""

    def __init__(self, bridge: Bridge, route: Route, on_ready: Callable[[str], None]) -> None:
        super().__init__(bridge, route, on_ready)
        self._tokens = itertools.count(1)
        self._active: dict[int, tuple[Goal, asyncio.Future[tuple[Any, int]]]] = {}
        # As the application gets them, the goals that are accepted and not queued yet: their room is taken.
        self._accepted: dict[int, bytes] = {}
        self._server = bridge.node.action_server(route.target, route.type, self._execute, self._accept)

    def _accept(self, request: Any) -> bool:
        """Whether there is room for one more goal; those that were accepted before are not dropped for it."""
        self.statistics.received += 1
        data, accepted = self.goal.outward(request), self._accepted
        if self.served:
            if len(self._active) + len(accepted) >= MAX_OUTSTANDING:
                self._full(f"{MAX_OUTSTANDING} are under way")
            elif not self.queue.room(len(accepted) + 1, sum(map(len, accepted.values())) + len(data)):
                self._full("no room in queue or queueBytes")
            else:
                accepted[id(request)] = data
                return True
        self.statistics.dropped += 1
        return False

    def _full(self, why: str) -> None:
        self.problem(f"the application is too slow for the goals, the newest are not accepted: {why}")

    async def _execute(self, goal: Goal) -> Any:
        token, future = next(self._tokens), self._loop.create_future()
        self._active[token] = (goal, future)
        try:
            self.deliver(Delivery("goal", self._accepted.pop(id(goal.request)), token))
            deadline = self._loop.time() + self.route.timeout_s
            told = False
            while not future.done():
                if goal.cancel_requested and not told:
                    told = True
                    self.keep(Delivery("cancel", b"", token))
                if self._loop.time() > deadline:
                    self.statistics.failed += 1
                    raise CallError(f"{self.route.name}: the application did not finish the goal")
                await asyncio.wait((future,), timeout=0.05)
            result, status = future.result()
            if status == SUCCEEDED:
                goal.succeed()
            elif status == ABORTED or not goal.cancel_requested:
                goal.abort()
            return result
        finally:
            del self._active[token]
            self.statistics.dropped += len(self.queue.remove(lambda delivery: delivery.token == token))

    def discard(self) -> None:
        """Drop and count what waits, and abort its goals."""
        dropped = self.queue.clear()
        self.statistics.dropped += len(dropped)
        for delivery in dropped:
            if delivery.kind == "goal":
                self._loop.call_soon_threadsafe(self._abort, delivery.token)

    def _abort(self, token: int) -> None:
        self._finish(token, self.result.codec.cls(), ABORTED)

    def respond(self, token: int, data: bytes, status: int = SUCCEEDED) -> None:
        """Finish a goal: SUCCEEDED, even when a cancel was asked for, CANCELED where it was (else ABORTED), or ABORTED.

        A negative status aborts it without a result.
        """
        if status < 0:
            self._loop.call_soon_threadsafe(self._abort, token)
            return
        if status not in {SUCCEEDED, CANCELED, ABORTED}:
            raise ValidationError(
                f"status: {SUCCEEDED} succeeded, {CANCELED} canceled or {ABORTED} aborted is expected"
            )
        result = self.decode(self.result, data)
        self._loop.call_soon_threadsafe(self._finish, token, result, status)

    def _finish(self, token: int, result: Any, status: int) -> None:
        found = self._active.get(token)
        if found is not None and not found[1].done():
            found[1].set_result((result, status))

    def feedback(self, token: int, data: bytes) -> None:
        found = self._active.get(token)
        if found is None:
            raise NotGrantedError(f"{self.route.name}: goal {token} is not active")
        self.admit()
        found[0].publish_feedback(self.decode(self.progress, data))

    def look(self) -> None:
        self._server.look()

    def problems(self) -> list[str]:
        return [*self._problems, *self._server.problems()]

    def close(self) -> None:
        self._server.close()
        super().close()
