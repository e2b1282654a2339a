"""Messages between the instances of one application in this runtime, by topic; the readers' queues bound them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType

if TYPE_CHECKING:
    from wasmbed.runtime.inbox import Inbox


class TooManyTopicsError(Exception):
    """A reader asked for one topic more than it may have."""


class Reader:
    """One instance and the handles of the topics it reads."""

    def __init__(self, application: str, inbox: Inbox) -> None:
        self.application = application
        self.inbox = inbox
        self.topics: dict[bytes, int] = {}


class Exchange:
    """All readers, by application; for use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, list[Reader]] = {}

    def join(self, application: str, inbox: Inbox) -> Reader:
        reader = Reader(application, inbox)
        with self._lock:
            self._readers.setdefault(application, []).append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        with self._lock:
            readers = self._readers.get(reader.application, [])
            if reader in readers:
                readers.remove(reader)
            if not readers:
                self._readers.pop(reader.application, None)

    def subscribe(self, reader: Reader, topic: bytes) -> int:
        """Have a reader get a topic's messages; return its handle, the same for the same topic.

        Raises TooManyTopicsError.
        """
        with self._lock:
            handle = reader.topics.get(topic)
            if handle is None:
                if len(reader.topics) >= abi.TOPICS:
                    raise TooManyTopicsError
                handle = reader.topics[topic] = len(reader.topics)
            return handle

    def forget(self, reader: Reader) -> None:
        """Forget a reader's topics, for an application that starts anew."""
        with self._lock:
            reader.topics.clear()

    def send(self, sender: Reader, topic: bytes, data: bytes) -> int:
        """Give a message to every other reader of the topic; return how many there are."""
        count = 0
        with self._lock:
            for reader in self._readers.get(sender.application, ()):
                handle = None if reader is sender else reader.topics.get(topic)
                if handle is not None:
                    reader.inbox.put(EventType.MESSAGE, handle, data)
                    count += 1
        return count
