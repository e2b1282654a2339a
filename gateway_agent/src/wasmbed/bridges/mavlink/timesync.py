"""Time synchronisation (TIMESYNC): the offset of a vehicle's clock, and answers to its own requests."""

from collections import deque
from dataclasses import dataclass

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids

INTERVAL_S = 1.0
_WINDOW = 10
_TIMEOUT_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The vehicle's clock minus ours, and the round trip it was measured with, in nanoseconds."""

    offset_ns: int
    round_trip_ns: int

    @property
    def error_ns(self) -> int:
        """How wrong the offset can be: half of the round trip."""
        return self.round_trip_ns // 2


class Timesync:
    """Sends a request each `INTERVAL_S`; the answer with the shortest round trip of the last ten counts."""

    def __init__(self, ids: Ids) -> None:
        self.deadline: float | None = 0.0
        self._ids = ids
        self._pending: deque[int] = deque(maxlen=4)
        self._samples: deque[ClockOffset] = deque(maxlen=_WINDOW)
        self._outgoing: list[Message] = []

    @property
    def offset(self) -> ClockOffset | None:
        """The best measurement; None before the first."""
        return min(self._samples, key=lambda sample: sample.round_trip_ns, default=None)

    def take(self) -> list[Message]:
        """The messages to send now."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def advance(self, now: float, now_ns: int) -> None:
        """Send a request when it is time; `now_ns` is our clock."""
        if self.deadline is not None and now < self.deadline:
            return
        self._pending.append(now_ns)
        self._send(0, now_ns)
        self.deadline = now + INTERVAL_S

    def receive(self, item: Message, now_ns: int) -> None:
        """Answer a request of the vehicle, or measure by its answer; an answer to somebody else is ignored."""
        if item.name != "TIMESYNC" or not self._ids.sent_by_target(item) or not self._ids.is_for_us(item):
            return
        sent, theirs = item["ts1"], item["tc1"]
        if theirs == 0:
            self._send(now_ns, sent)
            return
        # Old autopilots do not say whom they answer: the time we sent tells our answers.
        if sent not in self._pending:
            return
        self._pending.remove(sent)
        round_trip = now_ns - sent
        if 0 <= round_trip <= _TIMEOUT_NS:
            self._samples.append(ClockOffset(theirs - (sent + now_ns) // 2, round_trip))

    def reset(self) -> None:
        """Forget what was measured, as after a reboot of the vehicle."""
        self._samples.clear()
        self._pending.clear()

    def _send(self, tc1: int, ts1: int) -> None:
        targets = {"target_system": self._ids.system, "target_component": self._ids.component}
        self._outgoing.append(Message("TIMESYNC", {"tc1": tc1, "ts1": ts1, **targets}))
