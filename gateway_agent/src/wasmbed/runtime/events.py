"""Events on their way from the instances to the peer; one that does not read costs lines, not time."""

from __future__ import annotations

import threading
from collections import Counter, deque
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

    Requests are bounded where they are made, by what each instance may have under way.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """wake is called from any thread when the queue was empty and is not any more."""
        self._wake = wake
        self._lock = threading.Lock()
        self._logs: deque[LogEvent] = deque()
        self._waiting: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._states: dict[str, StateEvent] = {}
        self._requests: deque[HostRequest] = deque()

    def put(self, event: Event) -> None:
        """Add an event; never blocks."""
        with self._lock:
            was_empty = not self._logs and not self._states and not self._requests
            match event:
                case StateEvent():
                    # Moved to the end: the order of states between instances is the order they were reached.
                    self._states.pop(event.instance, None)
                    self._states[event.instance] = event
                case HostRequest():
                    self._requests.append(event)
                case LogEvent() if (
                    len(self._logs) >= MAX_LOGS or self._waiting[event.instance] >= MAX_LOGS_PER_INSTANCE
                ):
                    self._dropped[event.instance] += 1 + event.dropped
                case LogEvent():
                    dropped = self._dropped.pop(event.instance, 0)
                    self._logs.append(replace(event, dropped=event.dropped + dropped) if dropped else event)
                    self._waiting[event.instance] += 1
        if was_empty:
            self._wake()

    def take(self, limit: int = 256) -> list[Event]:
        """Return the oldest events: states first, then requests, then logs; an empty list when there are none."""
        with self._lock:
            states = list(self._states)[:limit]
            events: list[Event] = [self._states.pop(instance) for instance in states]
            while self._requests and len(events) < limit:
                events.append(self._requests.popleft())
            while self._logs and len(events) < limit:
                log = self._logs.popleft()
                self._waiting[log.instance] -= 1
                if not self._waiting[log.instance]:
                    del self._waiting[log.instance]
                events.append(log)
            return events

    def forget(self, instance: str) -> None:
        """Drop what an instance that is gone still had to say about its state, and its counts."""
        with self._lock:
            self._states.pop(instance, None)
            self._dropped.pop(instance, None)
