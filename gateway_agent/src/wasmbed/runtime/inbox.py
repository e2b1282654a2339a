"""The events of one instance: one bounded queue in order of arrival, with timers, and what is dropped when it is full.

The policy is that of docs/abi.md: timers coalesce, telemetry and samples keep the newest of a source, messages at most
32 of a source or 128 of a route, and results, ends of calls, link, ownership and sealed messages are never dropped.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Of the enumeration a member takes longer to look up than a message to queue.
_TIMER, _ROS2, _SECURE, _LINK = map(int, (EventType.TIMER, EventType.ROS2, EventType.SECURE, EventType.LINK))
_NEWEST: Final = frozenset({EventType.TELEMETRY, EventType.SENSOR, EventType.LINK, EventType.OWNER})
_LANES: Final[dict[int, int]] = {EventType.MESSAGE: abi.SOURCE_EVENTS, EventType.ROS2: abi.ROS2_EVENTS}
_LOST_WITHOUT_LANE: Final = frozenset({EventType.TELEMETRY, EventType.SENSOR})
# Messages laid out at once: so many may be taken back when there is no more room.
AHEAD: Final = 16
_MS: Final = 1_000_000
_NEVER: Final = 1 << 63


class Event:
    """One event as the application gets it; with lane it may be dropped for want of room among those of its lane."""

    __slots__ = ("data", "lane", "source", "type")

    def __init__(self, kind: int, source: int, data: bytes, lane: deque[Event] | None = None) -> None:
        self.type = kind
        self.source = source
        self.data = data
        self.lane = lane

    @property
    def may_be_lost(self) -> bool:
        return self.lane is not None or self.type in _LOST_WITHOUT_LANE


@dataclass(slots=True)
class _Timer:
    due_ns: int
    period_ns: int


def _key(kind: int, source: int) -> tuple[int, int]:
    """What a newer event replaces the older of; for the link both sources are one thing."""
    return (kind, 0) if kind == _LINK else (kind, source)


class Inbox:
    """The queue; `put`, `interrupt` and `take_dropped` from any thread, all else on the instance's own.

    `next` takes messages that stand first in the queue without the lock. With the first of them those behind it are
    laid out in `ahead`, which each leaves once, to `next` or back to the queue: ends of a deque are taken atomically.
    Those taken count as waiting until somebody who needs to know, as for a limit, puts the account right (`_settle`).
    """

    def __init__(self, device_class: str, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._events_max, self._bytes_max = abi.queue_limits(device_class)
        self._clock_ns = clock_ns
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[Event] = deque()
        self._bytes = 0
        # The first of the queue, as long as nobody took them; and how many they were.
        self.ahead: deque[Event] = deque()
        self._laid_out = 0
        # For sources that keep the newest: the one that waits.
        self._newest: dict[tuple[int, int], Event] = {}
        self._lanes: defaultdict[tuple[int, int], deque[Event]] = defaultdict(deque)
        # By route: messages that are no longer here since it was last told, taken (of `next`, without lock) or dropped.
        self._taken: Counter[int] = Counter()
        self._lost: Counter[int] = Counter()
        self._timers: dict[int, _Timer] = {}
        self._due_ns = _NEVER
        self._missed: dict[int, int] = {}
        self._interrupted = False
        self._dropped_untold = 0
        self.dropped: Counter[int] = Counter()

    def put(self, kind: int, source: int, data: bytes) -> bool:
        """Add an event; False when it is refused because it may neither be dropped nor wait."""
        if kind in _LANES:
            self.put_all(kind, source, (data,))
            return True
        with self._lock:
            if kind == _SECURE and sum(event.type == kind for event in self._queue) >= abi.SECURE_EVENTS:
                return False
            if kind in _NEWEST and (waiting := self._newest.get(_key(kind, source))) is not None:
                self._bytes += self._cost(data) - self._cost(waiting.data)
                waiting.source, waiting.data = source, data
                if waiting.may_be_lost:
                    self._drop(kind)
                return True
            event, idle = Event(kind, source, data), not self._queue
            if self._make_room(self._cost(data)) or not event.may_be_lost:
                self._append(event)
                self._tell(idle)
            else:
                self._drop(kind)
        return True

    def put_all(self, kind: int, source: int, items: Iterable[bytes]) -> None:
        """Add several messages of one source."""
        is_ros2 = kind == _ROS2
        with self._lock:
            most, queue, lane = _LANES[kind], self._queue, self._lanes[kind, source]
            idle = not queue
            for data in items:
                if is_ros2 and not abi.may_be_lost(kind, data):
                    # Bounded by the calls under way: docs/abi.md.
                    self._make_room(self._cost(data))
                    self._append(Event(kind, source, data))
                    continue
                if len(lane) >= most:
                    self._settle()
                    if len(lane) >= most:
                        self._drop_waiting(lane[0])
                cost = self._cost(data)
                if not self._is_full(cost) or self._make_room(cost):
                    event = Event(kind, source, data, lane)
                    queue.append(event)
                    lane.append(event)
                    self._bytes += cost
                else:
                    self._drop(kind)
                    if is_ros2:
                        self._lost[source] += 1
            self._tell(idle)

    def left(self, route: int) -> int:
        """How many messages of a route are no longer here since this last told; 0 below ROS2_TAKEN."""
        if self._taken.get(route, 0) + self._lost.get(route, 0) < abi.ROS2_TAKEN:
            return 0
        with self._lock:
            return self._taken.pop(route, 0) + self._lost.pop(route, 0)

    def not_told(self, route: int, count: int) -> None:
        """Take back what `left` returned: nobody could be told."""
        self._taken[route] += count

    def set_timer(self, timer: int, first_ms: int, period_ms: int) -> None:
        """Have a timer due in first_ms and then every period_ms (0: once); both 0 clear it."""
        with self._lock:
            self._timers.pop(timer, None)
            self._missed.pop(timer, None)
            waiting = self._newest.get((_TIMER, timer))
            if waiting is not None:
                self._remove(waiting)
            if first_ms or period_ms:
                due_ns = self._clock_ns() + (first_ms or period_ms) * _MS
                self._timers[timer] = _Timer(due_ns, period_ms * _MS)
            self._due_ns = min((each.due_ns for each in self._timers.values()), default=_NEVER)

    def next(self, *, not_before_ns: int = 0, until_ns: int | None = None) -> Event | None:
        """Wait for the oldest event and take it; None at until_ns, or at once after `interrupt`.

        Nothing is taken before not_before_ns. Times are of the clock.
        """
        if (
            self.ahead
            and not self._interrupted
            and not not_before_ns
            and (self._due_ns == _NEVER or self._clock_ns() < self._due_ns)
        ):
            try:
                event = self.ahead.popleft()
            except IndexError:
                pass  # a `put` that needed room was quicker and took them back
            else:
                if event.type == _ROS2:
                    self._taken[event.source] += 1
                return event
        with self._lock:
            while not self._interrupted:
                now_ns = self._clock_ns()
                if self._due_ns <= now_ns:
                    self._fire(now_ns)
                self._settle()
                if self._queue and now_ns >= not_before_ns:
                    return self._take()
                if until_ns is not None and now_ns >= until_ns:
                    return None
                wake_ns = not_before_ns if self._queue else self._due_ns
                if until_ns is not None and until_ns < wake_ns:
                    wake_ns = until_ns
                self._changed.wait(None if wake_ns == _NEVER else (wake_ns - now_ns) / 1e9)
            self._interrupted = False
            return None

    def interrupt(self) -> None:
        """Have the `next` under way, or else the following one, return None."""
        with self._lock:
            self._interrupted = True
            self._changed.notify()

    def clear(self) -> None:
        """Forget timers and events, for an application that starts anew; those count as dropped."""
        with self._lock:
            self._settle()
            for event in self._queue:
                if event.type != _TIMER:
                    self._drop(event.type)
            self._queue.clear()
            self._newest.clear()
            self._lanes.clear()
            self._taken.clear()
            self._lost.clear()
            self._timers.clear()
            self._due_ns = _NEVER
            self._missed.clear()
            self._bytes = 0

    def take_dropped(self) -> int:
        """Return how many events were dropped since the last call."""
        with self._lock:
            count, self._dropped_untold = self._dropped_untold, 0
            return count

    def _fire(self, now_ns: int) -> None:
        """Queue the timers that are due."""
        for number, timer in list(self._timers.items()):
            if timer.due_ns <= now_ns:
                times = 1
                if timer.period_ns:
                    times += (now_ns - timer.due_ns) // timer.period_ns
                    timer.due_ns += times * timer.period_ns
                else:
                    del self._timers[number]
                if (_TIMER, number) in self._newest:
                    self._missed[number] += times
                else:
                    self._missed[number] = times - 1
                    self._append(Event(_TIMER, number, b""))
        self._due_ns = min((timer.due_ns for timer in self._timers.values()), default=_NEVER)

    def _tell(self, idle: bool) -> None:
        """Wake the instance's thread if nothing waited before: otherwise it waits for a time, or not at all."""
        if idle:
            self._changed.notify()

    def _append(self, event: Event) -> None:
        self._queue.append(event)
        self._bytes += self._cost(event.data)
        if event.type in _NEWEST or event.type == _TIMER:
            self._newest[_key(event.type, event.source)] = event

    def _take(self) -> Event:
        """Take the first event, whatever it is; lay out the messages behind it."""
        event = self._queue.popleft()
        self._account(event)
        if event.type == _TIMER:
            event.data = self._missed.pop(event.source, 0).to_bytes(4, "little")
        elif event.type in _LANES:
            if event.type == _ROS2:
                self._taken[event.source] += 1
            self.ahead.extend(
                itertools.takewhile(lambda each: each.type in _LANES, itertools.islice(self._queue, AHEAD))
            )
            self._laid_out = len(self.ahead)
        return event

    def _settle(self) -> None:
        """Account for the events that were taken from those laid out, and lay out none: all the others wait again."""
        taken = self._laid_out
        while self.ahead:
            try:
                self.ahead.pop()
            except IndexError:
                break
            taken -= 1
        for _ in range(taken):
            self._account(self._queue.popleft())
        self._laid_out = 0

    def _remove(self, event: Event) -> None:
        """Remove an event that waits; none may be laid out when it can be one of those."""
        self._queue.remove(event)
        self._account(event)

    def _account(self, event: Event) -> None:
        """Count an event no more that has left the queue."""
        self._bytes -= self._cost(event.data)
        if event.lane is not None:
            # It is its oldest: a lane is dropped from and taken from in order.
            event.lane.popleft()
        elif event.type not in _LANES:
            self._newest.pop(_key(event.type, event.source), None)

    def _make_room(self, cost: int) -> bool:
        """Drop the oldest that may be until there is room for one more; tell whether there is."""
        if self._is_full(cost):
            self._settle()
        while self._is_full(cost):
            oldest = next((event for event in self._queue if event.may_be_lost), None)
            if oldest is None:
                return False
            self._drop_waiting(oldest)
        return True

    def _is_full(self, cost: int) -> bool:
        return len(self._queue) >= self._events_max or self._bytes + cost > self._bytes_max

    def _drop_waiting(self, event: Event) -> None:
        self._remove(event)
        self._drop(event.type)
        if event.type == _ROS2:
            self._lost[event.source] += 1

    def _drop(self, kind: int) -> None:
        self.dropped[kind] += 1
        self._dropped_untold += 1

    def _cost(self, data: bytes) -> int:
        # A single sample may be larger than the queue; it then fills it alone.
        return min(len(data), self._bytes_max)
