"""Messages between the instances of one application in this runtime: by topic, copied, bounded.

An instance reads a topic from its first `receive` on. A message that a reader has no room for is lost for that reader
alone, and the sender is told.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

QUEUE_MESSAGES: Final = 32
TOPICS_PER_READER: Final = 16


class TooManyTopicsError(Exception):
    """A reader asked for one topic more than it may have."""


class Reader:
    """One instance's queues; at most TOPICS_PER_READER * QUEUE_MESSAGES messages."""

    def __init__(self, application: str) -> None:
        self.application = application
        self.queues: dict[bytes, deque[bytes]] = {}


class Exchange:
    """All readers of a runtime, by application; for use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, list[Reader]] = {}

    def join(self, application: str) -> Reader:
        reader = Reader(application)
        with self._lock:
            self._readers.setdefault(application, []).append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader and what it did not read."""
        with self._lock:
            readers = self._readers.get(reader.application, [])
            if reader in readers:
                readers.remove(reader)
            if not readers:
                self._readers.pop(reader.application, None)

    def send(self, sender: Reader, topic: bytes, data: bytes) -> tuple[int, int]:
        """Give a message to every other reader of the topic; return how many got it and how many had no room."""
        delivered = full = 0
        with self._lock:
            for reader in self._readers.get(sender.application, ()):
                queue = None if reader is sender else reader.queues.get(topic)
                if queue is None:
                    continue
                if len(queue) >= QUEUE_MESSAGES:
                    full += 1
                else:
                    queue.append(data)
                    delivered += 1
        return delivered, full

    def receive(self, reader: Reader, topic: bytes, capacity: int) -> bytes | int | None:
        """Take the oldest message; None when there is none, its length when it is longer than capacity and stays.

        Raises TooManyTopicsError.
        """
        with self._lock:
            queue = reader.queues.get(topic)
            if queue is None:
                if len(reader.queues) >= TOPICS_PER_READER:
                    raise TooManyTopicsError
                reader.queues[topic] = deque()
                return None
            if not queue:
                return None
            if len(queue[0]) > capacity:
                return len(queue[0])
            return queue.popleft()
