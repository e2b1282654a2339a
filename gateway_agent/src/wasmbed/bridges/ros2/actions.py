"""Actions: goals, feedback, cancelling, results and statuses, made of three services and two topics (ROS 2 actions)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import CallError, CdrError, Ros2Error
from wasmbed.bridges.ros2.qos import ACTION_STATUS, DEFAULT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from wasmbed.bridges.ros2.backend import Received
    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.types import Value

log = logging.getLogger(__name__)

UNKNOWN, ACCEPTED, EXECUTING, CANCELING, SUCCEEDED, CANCELED, ABORTED = range(7)
_FINAL: Final = frozenset({SUCCEEDED, CANCELED, ABORTED})
_STATUS_ARRAY: Final = "action_msgs/msg/GoalStatusArray"
_CANCEL: Final = "action_msgs/srv/CancelGoal"
_ERROR_REJECTED, _ERROR_UNKNOWN_GOAL, _ERROR_TERMINATED = 1, 2, 3
MAX_GOALS: Final = 100
RESULT_KEEP_S: Final = 900.0


def _names(action: str) -> dict[str, str]:
    return {
        part: f"{action}/_action/{part}" for part in ("send_goal", "cancel_goal", "get_result", "feedback", "status")
    }


def _unique(problems: Iterable[Iterable[str]]) -> list[str]:
    """All problems, each once, in order."""
    return list(dict.fromkeys(text for part in problems for text in part))


class Goal:
    """A goal at the server: its request, and what its execution says of it."""

    def __init__(self, server: ActionServer, goal_id: bytes, request: Any, stamp: int) -> None:
        self.request = request
        self.id = goal_id
        self.stamp_ns = stamp
        self.status = ACCEPTED
        self.done_at = 0.0
        self.result: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._server = server

    @property
    def cancel_requested(self) -> bool:
        return self.status == CANCELING

    def publish_feedback(self, feedback: Value) -> None:
        self._server._publish_feedback(self.id, feedback)

    def succeed(self) -> None:
        """Make the result that `execute` returns one of a goal that succeeded, even when a cancel was asked for."""
        self._set(SUCCEEDED)

    def abort(self) -> None:
        """Make the result that `execute` returns one of an aborted goal."""
        self._set(ABORTED)

    def _set(self, status: int) -> None:
        if self.status not in _FINAL:
            self.status = status


class ActionServer:
    """Executes goals with an async function from `Goal` to a result.

    A goal whose cancel was asked for is canceled when the function returns, one whose function raises is aborted. A
    cancel request is always granted. More than MAX_GOALS at a time are rejected; the results of as many that
    have ended are kept.
    """

    def __init__(
        self,
        node: Node,
        action: str,
        type_name: str,
        execute: Callable[[Goal], Awaitable[Value]],
        accept: Callable[[Any], bool],
    ) -> None:
        self._execute, self._accept = execute, accept
        codecs = node.codecs
        self._codecs = codecs
        self._type = type_name
        self._goals: dict[bytes, Goal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        names = _names(node.resolve(action))
        self._feedback = node.publisher(names["feedback"], f"{type_name}_FeedbackMessage", DEFAULT)
        self._status = node.publisher(names["status"], _STATUS_ARRAY, ACTION_STATUS)
        self._services = [
            node.service(names["send_goal"], f"{type_name}_SendGoal", self._on_goal),
            node.service(names["cancel_goal"], _CANCEL, self._on_cancel),
            node.service(names["get_result"], f"{type_name}_GetResult", self._on_result),
        ]
        self._publish_status()

    async def _on_goal(self, request: Any) -> Value:
        response: Any = self._codecs.cls(f"{self._type}_SendGoal_Response")()
        goal_id = bytes(request.goal_id.uuid)
        self._expire()
        running = sum(not goal.done_at for goal in self._goals.values())
        if goal_id in self._goals or running >= MAX_GOALS or not self._accept(request.goal):
            return response  # type: ignore[no-any-return]
        goal = self._goals[goal_id] = Goal(self, goal_id, request.goal, time.time_ns())
        task = asyncio.get_running_loop().create_task(self._run(goal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        response.accepted = True
        response.stamp = self._time(goal.stamp_ns)
        return response  # type: ignore[no-any-return]

    async def _run(self, goal: Goal) -> None:
        await asyncio.sleep(0)  # the acceptance goes out first
        if goal.status == ACCEPTED:  # a cancel may have come already
            goal._set(EXECUTING)
        self._publish_status()
        try:
            result = await self._execute(goal)
            goal._set(CANCELED if goal.cancel_requested else SUCCEEDED)
        except Ros2Error as error:
            log.warning("a goal was aborted action=%s error=%s", self._type, error)
            result = self._codecs.cls(f"{self._type}_Result")()
            goal._set(ABORTED)
        except Exception:  # the executor is somebody else's code
            log.exception("a goal was aborted action=%s", self._type)
            result = self._codecs.cls(f"{self._type}_Result")()
            goal._set(ABORTED)
        goal.done_at = time.monotonic()
        if not goal.result.done():
            goal.result.set_result(result)
        self._publish_status()

    async def _on_cancel(self, request: Any) -> Value:
        """Cancel one goal, all of them, or all accepted up to a time (CancelGoal.srv)."""
        info = request.goal_info
        goal_id, stamp = bytes(info.goal_id.uuid), info.stamp.sec * 1_000_000_000 + info.stamp.nanosec
        response: Any = self._codecs.cls(f"{_CANCEL}_Response")()
        if any(goal_id):
            chosen = [self._goals[goal_id]] if goal_id in self._goals else []
            if not chosen:
                response.return_code = _ERROR_UNKNOWN_GOAL
            elif chosen[0].status in _FINAL:
                response.return_code = _ERROR_TERMINATED
        else:
            chosen = [goal for goal in self._goals.values() if not stamp or goal.stamp_ns <= stamp]
        chosen = [goal for goal in chosen if goal.status not in _FINAL]
        for goal in chosen:
            goal._set(CANCELING)
        response.goals_canceling = [self._info(goal) for goal in chosen]
        if not chosen and response.return_code == 0:
            response.return_code = _ERROR_REJECTED
        self._publish_status()
        return response  # type: ignore[no-any-return]

    async def _on_result(self, request: Any) -> Value:
        goal = self._goals.get(bytes(request.goal_id.uuid))
        response: Any = self._codecs.cls(f"{self._type}_GetResult_Response")()
        if goal is not None:
            response.result = await asyncio.shield(goal.result)
            response.status = goal.status
        return response  # type: ignore[no-any-return]

    def _publish_feedback(self, goal_id: bytes, feedback: Value) -> None:
        message: Any = self._codecs.cls(f"{self._type}_FeedbackMessage")()
        message.goal_id.uuid = goal_id
        message.feedback = feedback
        self._feedback.publish(message)

    def _publish_status(self) -> None:
        message: Any = self._codecs.cls(_STATUS_ARRAY)()
        status = self._codecs.cls("action_msgs/msg/GoalStatus")
        message.status_list = [status(goal_info=self._info(goal), status=goal.status) for goal in self._goals.values()]
        with contextlib.suppress(CallError):  # of a bridge that has ended
            self._status.publish(message)

    def _info(self, goal: Goal) -> Any:
        info: Any = self._codecs.cls("action_msgs/msg/GoalInfo")()
        info.goal_id.uuid = goal.id
        info.stamp = self._time(goal.stamp_ns)
        return info

    def _time(self, nanoseconds: int) -> Any:
        return self._codecs.cls("builtin_interfaces/msg/Time")(*divmod(nanoseconds, 1_000_000_000))

    def _expire(self) -> None:
        """Forget finished goals after RESULT_KEEP_S, as rcl does, and the oldest of too many."""
        limit = time.monotonic() - RESULT_KEEP_S
        done = sorted((goal.done_at, key) for key, goal in self._goals.items() if goal.done_at)
        for number, (done_at, goal_id) in enumerate(done, 1):
            if done_at < limit or len(done) - number >= MAX_GOALS:
                del self._goals[goal_id]

    def look(self) -> None:
        """Look for problems that come as no event."""
        for service in self._services:
            service.look()

    def problems(self) -> list[str]:
        """What is wrong with the endpoints or their peers, in words."""
        found = [service.problems() for service in self._services]
        return _unique([*found, self._feedback.statistics.problems, self._status.statistics.problems])

    def close(self) -> None:
        for service in self._services:
            service.close()
        self._feedback.close()
        self._status.close()
        for task in self._tasks:
            task.cancel()


class ActionClient:
    """Sends goals to an action server."""

    def __init__(self, node: Node, action: str, type_name: str) -> None:
        names = _names(node.resolve(action))
        self._loop = asyncio.get_running_loop()
        self._codecs = node.codecs
        self._type = type_name
        self._callbacks: dict[bytes, Callable[[Any], None]] = {}
        self._feedback_codec = node.codecs.codec(f"{type_name}_FeedbackMessage")
        self._status_codec = node.codecs.codec(_STATUS_ARRAY)
        self.statuses: dict[bytes, int] = {}
        self.malformed = 0
        backend = node.backend
        self._feedback = backend.create_subscription(
            names["feedback"], f"{type_name}_FeedbackMessage", DEFAULT, self._on_feedback
        )
        self._status = backend.create_subscription(names["status"], _STATUS_ARRAY, ACTION_STATUS, self._on_status)
        self._send_goal = node.client(names["send_goal"], f"{type_name}_SendGoal")
        self._cancel_goal = node.client(names["cancel_goal"], _CANCEL)
        self._get_result = node.client(names["get_result"], f"{type_name}_GetResult")

    def goal(self, **fields: Any) -> Any:
        """A goal to fill."""
        return self._codecs.cls(f"{self._type}_Goal")(**fields)

    async def send(
        self, goal: Value, feedback: Callable[[Any], None] | None = None, timeout_s: float = 5.0
    ) -> bytes | None:
        """Send a goal: its id, or None when the server rejects it.

        Raises:
            CallError: no server, or no answer.
            IncompatiblePeerError: a server this backend cannot call.
        """
        request = self._send_goal.request()
        goal_id = secrets.token_bytes(16)
        request.goal_id.uuid, request.goal = goal_id, goal
        await self._cancel_goal.ready(timeout_s)
        await self._get_result.ready(timeout_s)
        if feedback is not None:
            self._callbacks[goal_id] = feedback
        accepted = False
        try:
            accepted = (await self._send_goal.call(request, timeout_s)).accepted
        finally:
            if not accepted:
                self._callbacks.pop(goal_id, None)
        return goal_id if accepted else None

    async def cancel(self, goal_id: bytes, timeout_s: float = 5.0) -> bool:
        """Ask for cancelling; whether the server agreed."""
        request = self._cancel_goal.request()
        request.goal_info.goal_id.uuid = goal_id
        response = await self._cancel_goal.call(request, timeout_s)
        return any(bytes(info.goal_id.uuid) == goal_id for info in response.goals_canceling)

    async def result(self, goal_id: bytes, timeout_s: float = 60.0) -> tuple[int, Any]:
        """The final status and the result; raises CallError after the timeout."""
        request = self._get_result.request()
        request.goal_id.uuid = goal_id
        try:
            response = await self._get_result.call(request, timeout_s)
        finally:
            self._callbacks.pop(goal_id, None)
        if response.status == UNKNOWN:
            raise CallError("the server does not know this goal")
        return response.status, response.result

    def _on_feedback(self, data: bytes, _: Received) -> None:
        try:
            message = self._feedback_codec.loads(data)
        except CdrError:
            self.malformed += 1
            return
        callback = self._callbacks.get(bytes(message.goal_id.uuid))
        if callback is not None:
            self._loop.call_soon_threadsafe(callback, message.feedback)

    def _on_status(self, data: bytes, _: Received) -> None:
        try:
            message = self._status_codec.loads(data)
        except CdrError:
            self.malformed += 1
            return
        self.statuses = {
            bytes(item.goal_info.goal_id.uuid): item.status for item in message.status_list[: MAX_GOALS * 10]
        }

    def look(self) -> None:
        """Look for problems that come as no event."""
        for client in (self._send_goal, self._cancel_goal, self._get_result):
            client.raw.look()

    def problems(self) -> list[str]:
        """What is wrong with the endpoints or their peers, in words."""
        found = [client.raw.problems() for client in (self._send_goal, self._cancel_goal, self._get_result)]
        return _unique([*found, self._feedback.statistics.problems, self._status.statistics.problems])

    def close(self) -> None:
        for part in (self._feedback, self._status, self._send_goal, self._cancel_goal, self._get_result):
            part.close()
