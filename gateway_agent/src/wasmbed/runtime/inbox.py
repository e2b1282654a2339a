"""The events of one instance: one bounded queue in order of arrival, with timers, and what is dropped when it is full.

The policy is that of docs/abi.md: timers coalesce, telemetry and samples keep the newest of a source, messages at most
32 of a source or 128 of a route, and results, ends of calls, link, ownership and sealed messages are never dropped.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NEWEST: Final = frozenset({EventType.TELEMETRY, EventType.SENSOR, EventType.LINK, EventType.OWNER})
_LANES: Final[dict[int, int]] = {EventType.MESSAGE: abi.SOURCE_EVENTS, EventType.ROS2: abi.ROS2_EVENTS}
_MS: Final = 1_000_000


@dataclass(slots=True)
class Event:
    """One event as the application gets it."""

    type: int
    source: int
    data: bytes


@dataclass(slots=True)
class _Timer:
    due_ns: int
    period_ns: int


def _key(kind: int, source: int) -> tuple[int, int]:
    """What a newer event replaces the older of; for the link both sources are one thing."""
    return (kind, 0) if kind == EventType.LINK else (kind, source)


class Inbox:
    """The queue; `put` from any thread, `next` on the instance's own."""

    def __init__(self, device_class: str, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._events_max, self._bytes_max = abi.queue_limits(device_class)
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._queue: OrderedDict[int, Event] = OrderedDict()
        self._number = 0
        self._bytes = 0
        # For sources that keep the newest: the number of the one that waits.
        self._newest: dict[tuple[int, int], int] = {}
        self._lanes: dict[tuple[int, int], deque[int]] = {}
        # By route: messages that are no longer here, taken or dropped, since it was last told.
        self._left: Counter[int] = Counter()
        self._waiting: Counter[int] = Counter()
        self._timers: dict[int, _Timer] = {}
        self._missed: dict[int, int] = {}
        self._interrupted = False
        self._dropped_untold = 0
        self.dropped: Counter[int] = Counter()

    def put(self, kind: int, source: int, data: bytes) -> bool:
        """Add an event; False when it is refused because it may neither be dropped nor wait."""
        with self._changed:
            key = _key(kind, source)
            if kind == EventType.SECURE and self._waiting[kind] >= abi.SECURE_EVENTS:
                return False
            if kind in _NEWEST and key in self._newest:
                event = self._queue[self._newest[key]]
                self._bytes += self._cost(data) - self._cost(event.data)
                event.source, event.data = source, data
                if abi.may_be_lost(kind, data):
                    self._drop(kind)
                return True
            if kind in _LANES:
                self._put_in_lane(kind, source, data)
            elif not self._make_room(self._cost(data)) and abi.may_be_lost(kind, data):
                self._drop(kind)
                return True
            else:
                self._append(Event(kind, source, data))
            self._changed.notify()
        return True

    def put_all(self, kind: int, source: int, items: Iterable[bytes]) -> None:
        """Add several messages of one source."""
        with self._changed:
            for data in items:
                self._put_in_lane(kind, source, data)
            self._changed.notify()

    def left(self, route: int) -> int:
        """How many messages of a route are no longer here since this last told; 0 below ROS2_TAKEN."""
        count = self._left[route]
        if count < abi.ROS2_TAKEN:
            return 0
        with self._changed:
            return self._left.pop(route, 0)

    def not_told(self, route: int, count: int) -> None:
        """Take back what `left` returned: nobody could be told."""
        with self._changed:
            self._left[route] += count

    def set_timer(self, timer: int, first_ms: int, period_ms: int) -> None:
        """Have a timer due in first_ms and then every period_ms (0: once); both 0 clear it."""
        with self._changed:
            self._timers.pop(timer, None)
            self._missed.pop(timer, None)
            waiting = self._newest.get((EventType.TIMER, timer))
            if waiting is not None:
                self._remove(waiting)
            if first_ms or period_ms:
                due_ns = self._clock_ns() + (first_ms or period_ms) * _MS
                self._timers[timer] = _Timer(due_ns, period_ms * _MS)

    def next(self, *, not_before_ns: int = 0, until_ns: int | None = None) -> Event | None:
        """Wait for the oldest event and take it; None at until_ns, or at once after `interrupt`.

        Nothing is taken before not_before_ns. Times are of the clock.
        """
        with self._changed:
            while not self._interrupted:
                now_ns = self._clock_ns()
                wake_ns = self._fire(now_ns)
                if self._queue and now_ns >= not_before_ns:
                    return self._take()
                if until_ns is not None and now_ns >= until_ns:
                    return None
                times = [] if until_ns is None else [until_ns]
                if self._queue:
                    times.append(not_before_ns)
                elif wake_ns is not None:
                    times.append(wake_ns)
                self._changed.wait((min(times) - now_ns) / 1e9 if times else None)
            self._interrupted = False
            return None

    def interrupt(self) -> None:
        """Have the `next` under way, or else the following one, return None."""
        with self._changed:
            self._interrupted = True
            self._changed.notify()

    def clear(self) -> None:
        """Forget timers and events, for an application that starts anew; those count as dropped."""
        with self._changed:
            for event in self._queue.values():
                if event.type != EventType.TIMER:
                    self._drop(event.type)
            self._queue.clear()
            self._newest.clear()
            self._lanes.clear()
            self._left.clear()
            self._waiting.clear()
            self._timers.clear()
            self._missed.clear()
            self._bytes = 0

    def take_dropped(self) -> int:
        """Return how many events were dropped since the last call."""
        with self._changed:
            count, self._dropped_untold = self._dropped_untold, 0
            return count

    def _fire(self, now_ns: int) -> int | None:
        """Queue the timers that are due; return when the next one is."""
        wake_ns: int | None = None
        for number, timer in list(self._timers.items()):
            if timer.due_ns <= now_ns:
                times = 1
                if timer.period_ns:
                    times += (now_ns - timer.due_ns) // timer.period_ns
                    timer.due_ns += times * timer.period_ns
                else:
                    del self._timers[number]
                if (EventType.TIMER, number) in self._newest:
                    self._missed[number] += times
                else:
                    self._missed[number] = times - 1
                    self._append(Event(EventType.TIMER, number, b""))
            if number in self._timers and (wake_ns is None or timer.due_ns < wake_ns):
                wake_ns = timer.due_ns
        return wake_ns

    def _put_in_lane(self, kind: int, source: int, data: bytes) -> None:
        if not abi.may_be_lost(kind, data):
            # Bounded by the calls under way: docs/abi.md.
            self._make_room(self._cost(data))
            self._append(Event(kind, source, data))
            return
        lane = self._lanes.get((kind, source))
        if lane is not None and len(lane) >= _LANES[kind]:
            self._remove(lane[0])
            self._drop(kind)
        if self._make_room(self._cost(data)):
            self._append(Event(kind, source, data))
        else:
            self._drop(kind)
            self._left[source] += kind == EventType.ROS2

    def _append(self, event: Event) -> None:
        self._number += 1
        self._queue[self._number] = event
        self._bytes += self._cost(event.data)
        self._waiting[event.type] += 1
        key = _key(event.type, event.source)
        if event.type in _NEWEST or event.type == EventType.TIMER:
            self._newest[key] = self._number
        elif event.type in _LANES and abi.may_be_lost(event.type, event.data):
            self._lanes.setdefault(key, deque()).append(self._number)

    def _take(self) -> Event:
        event = self._remove(next(iter(self._queue)))
        if event.type == EventType.TIMER:
            event.data = self._missed.pop(event.source, 0).to_bytes(4, "little")
        return event

    def _remove(self, number: int) -> Event:
        event = self._queue.pop(number)
        self._bytes -= self._cost(event.data)
        self._waiting[event.type] -= 1
        key = _key(event.type, event.source)
        self._newest.pop(key, None)
        lane = self._lanes.get(key)
        if lane is not None and lane[0] == number:
            lane.popleft()
            if not lane:
                del self._lanes[key]
        if event.type == EventType.ROS2:
            self._left[event.source] += 1
        return event

    def _make_room(self, cost: int) -> bool:
        """Drop the oldest that may be until there is room for one more; tell whether there is."""
        while len(self._queue) >= self._events_max or self._bytes + cost > self._bytes_max:
            oldest = next((n for n, event in self._queue.items() if abi.may_be_lost(event.type, event.data)), None)
            if oldest is None:
                return False
            self._drop(self._remove(oldest).type)
        return True

    def _drop(self, kind: int) -> None:
        self.dropped[kind] += 1
        self._dropped_untold += 1

    def _cost(self, data: bytes) -> int:
        # A single sample may be larger than the queue; it then fills it alone.
        return min(len(data), self._bytes_max)
