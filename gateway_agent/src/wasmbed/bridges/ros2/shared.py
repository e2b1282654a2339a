"""One subscription for all routes of equal topic, type and QoS: each message is checked and converted once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from wasmbed.bridges.ros2.errors import CdrError
from wasmbed.bridges.ros2.types import Plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.bridges.ros2.node import Node
    from wasmbed.bridges.ros2.qos import QosProfile

    # Each with its source timestamp.
    Messages = Sequence[tuple[bytes, int]]


class Sink(Protocol):
    """Takes messages of a topic, on the backend's thread."""

    encoding: str
    fields: tuple[str, ...]

    def wanted(self, messages: Messages, now: float) -> Messages:
        """Those that pass the rate limit; counts the others."""
        ...

    def accept(self, messages: Messages) -> bool:
        """Take messages, and say if some were dropped for them; those in CDR that are not longer than
        CHECKED_LATER_BYTES are to be checked when they are asked for."""
        ...

    def malformed(self) -> None: ...


# A message in CDR is checked when it is asked for, so that one that is dropped before costs nothing; but not a longer
# one, whose check would hold up who asks.
CHECKED_LATER_BYTES: Final = 16 << 10


class SharedSubscription:
    """Converts each message at most once per encoding and choice of fields, and only when somebody wants it."""

    def __init__(self, node: Node, topic: str, type_name: str, qos: QosProfile, first: Sink) -> None:
        self._codec = node.codecs.codec(type_name)
        self._factory = node.codecs
        self._type = type_name
        # Who takes messages, and whether all of them in CDR: one value, since two threads use it.
        self._sinks: tuple[tuple[Sink, ...], bool] = (), True
        self._plains: dict[tuple[str, ...], Plain] = {}
        self._lock = threading.Lock()
        # Before the subscription: what is latched comes at once.
        self.add(first)
        self.subscription = node.backend.create_batch_subscription(topic, type_name, qos, self._on_messages)

    def add(self, sink: Sink) -> None:
        with self._lock:
            if sink.encoding != "cdr" and sink.fields not in self._plains:
                self._plains[sink.fields] = Plain(self._factory, self._type, sink.fields)
            self._set((*self._sinks[0], sink))

    def remove(self, sink: Sink) -> bool:
        """Whether it was the last."""
        with self._lock:
            self._set(tuple(item for item in self._sinks[0] if item is not sink))
            return not self._sinks[0]

    def _set(self, sinks: tuple[Sink, ...]) -> None:
        self._sinks = sinks, all(sink.encoding == "cdr" for sink in sinks)

    def _on_messages(self, messages: Messages) -> bool:
        """Whether nobody had room for the last."""
        now = time.monotonic()
        sinks, plain = self._sinks
        if plain and max([len(data) for data, _ in messages]) <= CHECKED_LATER_BYTES:
            return _pass_on(messages, sinks, now)
        full = False
        for message in messages:
            unchecked = plain and len(message[0]) <= CHECKED_LATER_BYTES
            full = _pass_on((message,), sinks, now) if unchecked else self._check(message, sinks, now)
        return full

    def _check(self, message: tuple[bytes, int], sinks: tuple[Sink, ...], now: float) -> bool:
        """Pass one on that is sound, in the encoding of each."""
        wanting = [sink for sink in sinks if sink.wanted((message,), now)]
        if not wanting:
            return False
        full = True
        data, stamp = message
        try:
            decoded = self._codec.loads(data)
        except CdrError as error:
            self.subscription.statistics.problem(str(error))
            for sink in wanting:
                sink.malformed()
            return False
        converted: dict[tuple[str, tuple[str, ...]], bytes] = {}
        for sink in wanting:
            key = (sink.encoding, sink.fields)
            if key not in converted:
                converted[key] = data if sink.encoding == "cdr" else self._convert(decoded, *key)
            full &= sink.accept(((converted[key], stamp),))
        return full

    def _convert(self, message: Any, encoding: str, fields: tuple[str, ...]) -> bytes:
        plain = self._plains[fields]
        return plain.to_json(message) if encoding == "json" else plain.to_cbor(message)

    def close(self) -> None:
        self.subscription.close()


def _pass_on(messages: Messages, sinks: tuple[Sink, ...], now: float) -> bool:
    """Give messages to who wants them; whether all of those had no room."""
    taken = [sink.accept(wanted) for sink in sinks if (wanted := sink.wanted(messages, now))]
    return bool(taken) and all(taken)
