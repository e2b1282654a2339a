"""Bounded queues and rate limits of routes; what does not fit is dropped and counted, never waited for."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class RouteStatistics:
    """Counters of one route since it was opened."""

    received: int = 0  # from ROS, or from the application for a route to publish
    delivered: int = 0  # to the application, or to ROS
    delivered_bytes: int = 0
    rate_limited: int = 0
    dropped: int = 0
    malformed: int = 0
    failed: int = 0  # calls without an answer

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class RateLimit:
    """Lets at most so many messages a second through, evenly: one is due an interval after the last."""

    def __init__(self, rate_hz: float | None) -> None:
        self._interval = 1.0 / rate_hz if rate_hz else 0.0
        self._due = 0.0

    def admit(self, now: float) -> bool:
        """Whether a message at this time (seconds of a monotonic clock) may pass."""
        if not self._interval:
            return True
        # A message less than a tenth early is let through and the debt kept, so that jitter loses none.
        slack = self._interval * 0.1
        if now < self._due - slack:
            return False
        self._due = max(self._due, now - slack) + self._interval
        return True


class BoundedQueue:
    """A queue for one reader, bounded in messages and bytes; full, it drops its oldest or the newest message."""

    def __init__(self, limit: int, byte_limit: int, *, drop_oldest: bool = True) -> None:
        self._items: deque[tuple[bytes, Any]] = deque()
        self._limit, self._byte_limit = limit, byte_limit
        self._drop_oldest = drop_oldest
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def buffered_bytes(self) -> int:
        return self._bytes

    def put(self, data: bytes, note: Any = None) -> tuple[int, bool]:
        """Add a message: how many were dropped for it, itself among them, and whether the queue was empty."""
        dropped = 0
        with self._lock:
            if len(data) > self._byte_limit:
                return 1, False
            first = not self._items
            while self._items and (len(self._items) >= self._limit or self._bytes + len(data) > self._byte_limit):
                if not self._drop_oldest:
                    return 1, False
                self._bytes -= len(self._items.popleft()[0])
                dropped += 1
            self._items.append((data, note))
            self._bytes += len(data)
        return dropped, first

    def get(self, capacity: int | None = None) -> tuple[bytes, Any] | int | None:
        """The oldest message, its size when it is larger than capacity (it stays), None when there is none."""
        with self._lock:
            if not self._items:
                return None
            size = len(self._items[0][0])
            if capacity is not None and size > capacity:
                return size
            self._bytes -= size
            return self._items.popleft()

    def clear(self) -> None:
        with self._lock:
            self._items.clear()
            self._bytes = 0
