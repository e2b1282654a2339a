"""Bounded queues and rate limits of routes; what does not fit is dropped and counted, never waited for.

The end of a call is not dropped but kept, and so is a cancel. The calls under way are bounded, so what is kept is too.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # What is queued, what the caller notes of it, and whether it is kept.
    _Item = tuple[bytes, Any, bool]


@dataclass
class RouteStatistics:
    """Counters of one route since it was opened."""

    received: int = 0  # from ROS, or from the application for a route to publish
    delivered: int = 0  # to the application, or to ROS
    delivered_bytes: int = 0
    rate_limited: int = 0
    dropped: int = 0
    malformed: int = 0
    failed: int = 0  # calls without an answer, messages that an endpoint which could not be made was to send

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


SHORT_BYTES: Final = 1024


class BoundedQueue:
    """A queue for one reader, bounded in messages and bytes; full, it drops its oldest or the newest message.

    What is kept is never dropped. It counts as bytes, but not as one of the messages of the limit: its number is for
    the caller to bound. What is of SHORT_BYTES at most is kept even above the limit of bytes.
    """

    def __init__(self, limit: int, byte_limit: int, *, drop_oldest: bool = True) -> None:
        self._items: deque[_Item] = deque()
        self._limit, self._byte_limit = limit, byte_limit
        self._drop_oldest = drop_oldest
        self._bytes = self._kept = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def buffered_bytes(self) -> int:
        return self._bytes

    def put(self, data: bytes, note: Any = None) -> tuple[int, bool]:
        """Add a message: how many were dropped for it, itself among them, and whether the queue was empty."""
        return self.put_all([(data, note)])

    def put_all(self, messages: Sequence[tuple[bytes, Any]]) -> tuple[int, bool]:
        """Add messages and their notes in this order: how many were dropped in all, and whether the queue was empty."""
        size = sum([len(data) for data, _ in messages])
        with self._lock:
            first = not self._items
            if self._kept or not self._drop_oldest or self._bytes + size > self._byte_limit:
                dropped = sum([self._put(data, note) for data, note in messages])
            else:
                # All are added and the oldest dropped at once: a topic may bring more than anybody takes.
                self._items.extend([(data, note, False) for data, note in messages])
                self._bytes += size
                dropped = max(0, len(self._items) - self._limit)
                for _ in range(dropped):
                    self._bytes -= len(self._items.popleft()[0])
            return dropped, first and bool(self._items)

    def _put(self, data: bytes, note: Any) -> int:
        if len(data) > self._byte_limit:
            return 1
        dropped = 0
        while len(self._items) - self._kept >= self._limit or self._bytes + len(data) > self._byte_limit:
            dropped += 1
            if not self._drop_oldest or not self._drop():
                return dropped
        self._items.append((data, note, False))
        self._bytes += len(data)
        return dropped

    def keep(self, data: bytes, note: Any = None) -> tuple[int, bool] | None:
        """Add what may not be lost, dropping others for its bytes; returns as `put`.

        None, and nothing is dropped, when it is not short and what is kept already leaves no room for its bytes.
        """
        dropped = 0
        with self._lock:
            kept_bytes = sum(len(data) for data, _, kept in self._items if kept)
            if len(data) > SHORT_BYTES and kept_bytes + len(data) > self._byte_limit:
                return None
            first = not self._items
            while self._bytes + len(data) > self._byte_limit and self._drop():
                dropped += 1
            self._items.append((data, note, True))
            self._bytes += len(data)
            self._kept += 1
        return dropped, first

    def room(self, messages: int, size: int) -> bool:
        """Whether so many more messages, of so many bytes in all, have room beside all that waits."""
        with self._lock:
            return len(self._items) - self._kept + messages <= self._limit and self._bytes + size <= self._byte_limit

    def remove(self, unwanted: Callable[[Any], bool]) -> list[Any]:
        """Take out what is not wanted any more, kept or not; the notes of it."""
        with self._lock:
            removed = [item for item in self._items if unwanted(item[1])]
            if removed:
                self._items = deque(item for item in self._items if not unwanted(item[1]))
                self._bytes -= sum(len(data) for data, _, _ in removed)
                self._kept -= sum(kept for _, _, kept in removed)
        return [note for _, note, _ in removed]

    def _drop(self) -> bool:
        """Drop the oldest that is not kept; whether there was one."""
        for place, (data, _, kept) in enumerate(self._items):
            if not kept:
                self._bytes -= len(data)
                del self._items[place]
                return True
        return False

    def get(self, capacity: int | None = None) -> tuple[bytes, Any] | int | None:
        """The oldest message, its size when it is larger than capacity (it stays), None when there is none."""
        with self._lock:
            if not self._items:
                return None
            size = len(self._items[0][0])
            if capacity is not None and size > capacity:
                return size
            return self._take()

    def get_all(self, count: int, size: int) -> list[tuple[bytes, Any]]:
        """The oldest messages, at most so many and, but for the last of them, of so many bytes."""
        found: list[tuple[bytes, Any]] = []
        with self._lock:
            while self._items and len(found) < count and size > 0:
                found.append(self._take())
                size -= len(found[-1][0])
        return found

    def _take(self) -> tuple[bytes, Any]:
        data, note, kept = self._items.popleft()
        self._bytes -= len(data)
        self._kept -= kept
        return data, note

    def clear(self) -> list[Any]:
        """Forget everything; the notes of it."""
        return self.remove(lambda _: True)
