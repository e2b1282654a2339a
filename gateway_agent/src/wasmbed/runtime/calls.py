"""What one instance has asked of the peer and not heard of yet, and the newest values it was given."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType
from wasmbed.runtime.reports import HostRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wasmbed.runtime.inbox import Inbox
    from wasmbed.runtime.protocol import StartRequest

_STATUS_BYTES: Final = 4
_ROS2_TOKEN: Final = slice(8, 16)
# Details of a RESULT and messages from the cloud are short; what is longer does not come from our peers.
MAX_RESULT_BYTES: Final = 64 * 1024


class Calls:
    """Requests of one instance; made on its thread, answered from any."""

    def __init__(
        self,
        request: StartRequest,
        inbox: Inbox,
        post: Callable[[HostRequest, bool], bool],
        tokens: Iterator[int] | None = None,
    ) -> None:
        """Post hands a request over; False when the instance's queue is full (never when its flag is set).

        tokens are those of the version before, so that no number is used twice.
        """
        self._request = request
        self._inbox = inbox
        self._post = post
        self.tokens = itertools.count(1) if tokens is None else tokens
        self._tokens_max = abi.tokens_max(request.device_class)
        self._lock = threading.Lock()
        self._open: dict[int, str] = {}
        # Calls of ROS 2 whose end waits in the inbox: still to be counted, since it is never dropped there.
        self._ended: set[int] = set()
        # What a peer that comes back has to be told again, by what it is about.
        self._standing: dict[tuple[str, str, int], HostRequest] = {}

    def ask(self, module: str, op: str, *args: str | int | float, data: bytes | None = None) -> int:
        """Ask for something with an outcome; return its token, or AGAIN."""
        with self._lock:
            if len(self._open) + len(self._ended) >= self._tokens_max:
                return Code.AGAIN
            token = next(self.tokens)
            self._open[token] = module
        if self._post(self._make(module, op, token, args, data), False):
            return token
        with self._lock:
            self._open.pop(token, None)
        return Code.AGAIN

    def tell(self, module: str, op: str, *args: str | int | float, data: bytes | None = None) -> int:
        """Tell something that has no outcome; return 0, or AGAIN."""
        return 0 if self._post(self._make(module, op, 0, args, data), False) else Code.AGAIN

    def must_tell(self, module: str, op: str, *args: str | int | float) -> None:
        """Tell something that may not be lost."""
        self._post(self._make(module, op, 0, args, None), True)

    def stand(self, module: str, op: str, about: int, *args: str | int | float) -> int:
        """Tell something that holds until `drop_standing`, also for the next peer; return 0, or AGAIN."""
        request = self._make(module, op, 0, args, None)
        if not self._post(request, False):
            return Code.AGAIN
        with self._lock:
            self._standing[module, op, about] = request
        return 0

    def drop_standing(self, module: str, op: str, about: int) -> None:
        with self._lock:
            self._standing.pop((module, op, about), None)

    def stands(self, module: str, op: str, about: int) -> bool:
        return (module, op, about) in self._standing

    def repeat(self, module: str) -> None:
        """Tell a peer whose module has come back what stands."""
        with self._lock:
            requests = [request for (name, _, _), request in self._standing.items() if name == module]
        for request in requests:
            self._post(request, True)

    def result(self, token: int, data: bytes) -> None:
        """Take a RESULT; one that nobody waits for is ignored."""
        with self._lock:
            known = self._open.pop(token, None) is not None
        if known and _STATUS_BYTES <= len(data) <= MAX_RESULT_BYTES:
            self._inbox.put(EventType.RESULT, token, data)

    def answered(self, data: bytes) -> bool:
        """Note that an event ends the call of ROS 2 whose token it carries; False for one that nobody waits for."""
        token = int.from_bytes(data[_ROS2_TOKEN], "little", signed=True)
        with self._lock:
            known = self._open.pop(token, None) is not None
            if known:
                self._ended.add(token)
        return known

    def taken(self, data: bytes) -> None:
        """Note that the application has taken a ROS2 event that ends a call, or that it will never get it."""
        with self._lock:
            self._ended.discard(int.from_bytes(data[_ROS2_TOKEN], "little", signed=True))

    def lost(self, module: str | None = None) -> None:
        """End what waits for a peer, or for one of its modules, that is gone."""
        with self._lock:
            tokens = [token for token, name in self._open.items() if module in (None, name)]
        status = int(Code.UNAVAILABLE).to_bytes(_STATUS_BYTES, "little", signed=True)
        for token in tokens:
            self.result(token, status)

    def clear(self) -> None:
        """Forget everything, for an application that starts anew."""
        with self._lock:
            self._open.clear()
            self._ended.clear()
            self._standing.clear()

    def _make(
        self, module: str, op: str, token: int, args: tuple[str | int | float, ...], data: bytes | None
    ) -> HostRequest:
        request = self._request
        return HostRequest(request.instance, request.application, request.device, module, op, token, args, data)


class Feeds:
    """The newest telemetry and samples of one instance, and which of them become events."""

    def __init__(self, inbox: Inbox, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._inbox = inbox
        self._clock_ns = clock_ns
        self._newest: dict[tuple[int, int], bytes] = {}
        self._intervals: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], int] = {}

    def newest(self, kind: EventType, source: int) -> bytes | None:
        return self._newest.get((kind, source))

    def subscribe(self, kind: EventType, source: int, interval_ms: int) -> None:
        """Make events of a source at most every interval_ms; below 0 none."""
        if interval_ms < 0:
            self._intervals.pop((kind, source), None)
        else:
            self._intervals[kind, source] = interval_ms * 1_000_000
            self._last.pop((kind, source), None)

    def take(self, kind: EventType, source: int, data: bytes) -> None:
        """Take a value from the peer, from any thread."""
        key = (kind, source)
        self._newest[key] = data
        interval = self._intervals.get(key)
        if interval is None:
            return
        now = self._clock_ns()
        last = self._last.get(key)
        # A twentieth early is in time: otherwise values at just that rate would miss every other turn.
        if last is None or now - last >= interval - interval // 20:
            self._last[key] = now
            self._inbox.put(kind, source, data)

    def forget(self, kind: EventType) -> None:
        """Forget the values of a kind whose source is gone; what is subscribed stays so."""
        for key in [key for key in list(self._newest) if key[0] == kind]:
            self._newest.pop(key, None)

    def clear(self) -> None:
        self._newest.clear()
        self._intervals.clear()
        self._last.clear()
