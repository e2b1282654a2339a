"""Events on their way from the instances to the peer; one that does not read costs lines, not time."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.reports import HostRequest, LogEvent, StateEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.reports import Event

MAX_LOGS: Final = 8192
# So that one application's storm leaves room for the others' lines.
MAX_LOGS_PER_INSTANCE: Final = 256


class EventQueue:
    """Bounded: logs over a bound are dropped and counted, of an instance's states only the last is kept.

    States and requests come in the order they were made, before logs. Requests are bounded where they are made, by what
    each instance may have under way.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """wake is called from any thread when the queue was empty and is not any more."""
        self._wake = wake
        self._lock = threading.Lock()
        self._logs: deque[LogEvent] = deque()
        self._waiting: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._number = 0
        self._others: OrderedDict[int, StateEvent | HostRequest] = OrderedDict()
        self._states: dict[str, int] = {}

    def put(self, event: Event) -> None:
        """Add an event; never blocks."""
        with self._lock:
            was_empty = not self._logs and not self._others
            if isinstance(event, LogEvent):
                self._put_log(event)
            else:
                self._number += 1
                if isinstance(event, StateEvent):
                    event = self._in_place_of_the_last(event)
                    self._states[event.instance] = self._number
                self._others[self._number] = event
        if was_empty:
            self._wake()

    def _in_place_of_the_last(self, event: StateEvent) -> StateEvent:
        """Drop the state that waits, but not its word that an update was taken back."""
        number = self._states.pop(event.instance, None)
        before = None if number is None else self._others.pop(number)
        if isinstance(before, StateEvent) and before.rolled_back and not event.rolled_back:
            return replace(event, rolled_back=before.rolled_back)
        return event

    def _put_log(self, event: LogEvent) -> None:
        if len(self._logs) >= MAX_LOGS or self._waiting[event.instance] >= MAX_LOGS_PER_INSTANCE:
            self._dropped[event.instance] += 1 + event.dropped
            return
        dropped = self._dropped.pop(event.instance, 0)
        self._logs.append(replace(event, dropped=event.dropped + dropped) if dropped else event)
        self._waiting[event.instance] += 1

    def take(self, limit: int = 256) -> list[Event]:
        """Return the oldest events; an empty list when there are none."""
        with self._lock:
            events: list[Event] = []
            while self._others and len(events) < limit:
                _, event = self._others.popitem(last=False)
                if isinstance(event, StateEvent):
                    del self._states[event.instance]
                events.append(event)
            while self._logs and len(events) < limit:
                log = self._logs.popleft()
                self._waiting[log.instance] -= 1
                if not self._waiting[log.instance]:
                    del self._waiting[log.instance]
                events.append(log)
            return events

    def drop_requests(self) -> None:
        """Drop every request: nobody is there to take it."""
        with self._lock:
            for number in [number for number, event in self._others.items() if isinstance(event, HostRequest)]:
                del self._others[number]

    def forget(self, instance: str) -> None:
        """Drop what an instance that is gone still had to say about its state, and its counts."""
        with self._lock:
            number = self._states.pop(instance, None)
            if number is not None:
                del self._others[number]
            self._dropped.pop(instance, None)
