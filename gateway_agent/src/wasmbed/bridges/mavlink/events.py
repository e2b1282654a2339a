"""What a vehicle reports in words: STATUSTEXT in chunks, and the event interface with its gapless sequence."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids

SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_CHUNK_BYTES = 50
_CHUNK_TIMEOUT_S = 1.0
_MAX_CHUNKS = 32
_MAX_GAP = 64
_ASK_AGAIN_S = 0.5
_MAX_ASKED = 5


@dataclass(frozen=True, slots=True)
class StatusText:
    """A text of a vehicle's component; `[...]` stands for a part that got lost."""

    component: int
    severity: str
    text: str


class StatusTexts:
    """Puts texts together; a part that does not come is replaced by a mark after a second."""

    def __init__(self, system: int, on_text: Callable[[StatusText], None]) -> None:
        self.deadline: float | None = None
        self._system = system
        self._on_text = on_text
        self._parts: dict[tuple[int, int], dict[int, str]] = {}
        self._severity: dict[tuple[int, int], int] = {}
        self._since: dict[tuple[int, int], float] = {}
        self._done: dict[tuple[int, int], float] = {}

    def receive(self, item: Message, now: float) -> None:
        """Take a message."""
        if item.name != "STATUSTEXT" or item.system != self._system:
            return
        number, chunk, text = item["id"], item["chunk_seq"], item["text"]
        if number == 0:
            self._emit(item.component, item["severity"], text)
            return
        key = (item.component, number)
        if now - self._done.get(key, -1e9) < _CHUNK_TIMEOUT_S or chunk >= _MAX_CHUNKS:
            return
        parts = self._parts.setdefault(key, {})
        self._since.setdefault(key, now)
        self._severity[key] = item["severity"]
        parts[chunk] = text
        last = max(parts)
        # A chunk that is not full ends the text.
        if len(parts[last].encode()) < _CHUNK_BYTES and len(parts) == last + 1:
            self._flush(key, now)
        self._plan()

    def advance(self, now: float) -> None:
        """Give out what waited too long."""
        for key in [key for key, since in self._since.items() if now - since >= _CHUNK_TIMEOUT_S]:
            self._flush(key, now)
        self._done = {key: at for key, at in self._done.items() if now - at < _CHUNK_TIMEOUT_S}
        self._plan()

    def _flush(self, key: tuple[int, int], now: float) -> None:
        parts = self._parts.pop(key)
        self._since.pop(key)
        self._done[key] = now
        last = max(parts)
        text = "".join(parts.get(chunk, "[...]") for chunk in range(last + 1))
        if len(parts[last].encode()) >= _CHUNK_BYTES:
            text += "[...]"
        self._emit(key[0], self._severity.pop(key), text)

    def _emit(self, component: int, severity: int, text: str) -> None:
        name = SEVERITIES[severity] if severity < len(SEVERITIES) else str(severity)
        self._on_text(StatusText(component, name, "".join(c if c.isprintable() else " " for c in text)))

    def _plan(self) -> None:
        self.deadline = min(self._since.values()) + _CHUNK_TIMEOUT_S if self._since else None


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a component: its id (whose text is in the component's metadata), time, levels and raw arguments.

    `level` is the external log level, `SEVERITIES` by number; `lost_before` counts events that could not be had.
    """

    component: int
    id: int
    sequence: int
    time_boot_ms: int
    level: int
    internal_level: int
    arguments: bytes
    lost_before: int = 0


class EventReceiver:
    """Events of one component in order, each once: a gap is asked for, and passed over when nothing can be had."""

    def __init__(self, ids: Ids, on_event: Callable[[Event], None]) -> None:
        self.deadline: float | None = None
        self._ids = ids
        self._on_event = on_event
        self._last: int | None = None
        self._waiting: dict[int, Event] = {}
        self._newest: int | None = None
        self._asked = 0
        self._lost = 0
        self._outgoing: list[Message] = []

    def take(self) -> list[Message]:
        """The messages to send now."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def receive(self, item: Message, now: float) -> None:
        """Take a message."""
        if not self._ids.sent_by_target(item):
            return
        match item.name:
            case "EVENT":
                self._event(item, now)
            case "CURRENT_EVENT_SEQUENCE":
                self._current(item["sequence"], bool(item["flags"] & 1), now)
            case "RESPONSE_EVENT_ERROR" if self._ids.is_for_us(item) and self._last is not None:
                # What lies before the oldest one it has is gone.
                self._pass_over((item["sequence_oldest_available"] - self._last - 1) & 0xFFFF, now)

    def advance(self, now: float) -> None:
        """Ask again for a gap, or pass over it."""
        if self.deadline is None or now < self.deadline or self._last is None or self._newest is None:
            return
        if self._asked >= _MAX_ASKED:
            first = min(((sequence - self._last) & 0xFFFF for sequence in self._waiting), default=None)
            missing = first - 1 if first is not None else (self._newest - self._last) & 0xFFFF
            self._pass_over(missing, now)
        else:
            self._ask(now)

    def _event(self, item: Message, now: float) -> None:
        sequence = item["sequence"]
        if self._last is None:
            self._last = (sequence - 1) & 0xFFFF
        ahead = (sequence - self._last) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000 or sequence in self._waiting:
            return
        if ahead > _MAX_GAP:
            # Too far to catch up with: go on from here.
            self._lost += ahead - 1
            self._last = (sequence - 1) & 0xFFFF
            self._waiting.clear()
        levels = item["log_levels"]
        self._waiting[sequence] = Event(
            item.component,
            item["id"],
            sequence,
            item["event_time_boot_ms"],
            levels & 0x0F,
            levels >> 4,
            bytes(item["arguments"]),
        )
        self._note(sequence)
        self._deliver(now)

    def _current(self, sequence: int, reset: bool, now: float) -> None:
        if self._last is None or reset:
            self._last = sequence
            self._newest = sequence
            self._waiting.clear()
            self.deadline = None
            return
        ahead = (sequence - self._last) & 0xFFFF
        if ahead >= 0x8000:
            return
        if ahead > _MAX_GAP:
            self._lost += ahead
            self._last = sequence
            self._waiting.clear()
        self._note(sequence)
        self._deliver(now)

    def _note(self, sequence: int) -> None:
        if self._newest is None or 0 < (sequence - self._newest) & 0xFFFF < 0x8000:
            self._newest = sequence

    def _deliver(self, now: float) -> None:
        assert self._last is not None  # noqa: S101 - narrows the type
        while (found := self._waiting.pop((self._last + 1) & 0xFFFF, None)) is not None:
            self._last = found.sequence
            self._asked = 0
            event = replace(found, lost_before=self._lost)
            self._lost = 0
            self._on_event(event)
        if self._newest is None or not 0 < (self._newest - self._last) & 0xFFFF < 0x8000:
            self.deadline = None
        elif self.deadline is None or self._asked == 0:
            self._ask(now)

    def _ask(self, now: float) -> None:
        assert self._last is not None  # noqa: S101 - narrows the type
        first = (self._last + 1) & 0xFFFF
        ahead = min(((sequence - self._last) & 0xFFFF for sequence in self._waiting), default=None)
        last = self._newest if ahead is None else (self._last + ahead - 1) & 0xFFFF
        self._asked += 1
        self.deadline = now + _ASK_AGAIN_S
        self._outgoing.append(
            Message(
                "REQUEST_EVENT",
                {
                    "target_system": self._ids.system,
                    "target_component": self._ids.component,
                    "first_sequence": first,
                    "last_sequence": last,
                },
            )
        )

    def _pass_over(self, count: int, now: float) -> None:
        if self._last is None or not 0 < count <= _MAX_GAP:
            return
        self._lost += count
        self._last = (self._last + count) & 0xFFFF
        self._asked = 0
        self._waiting = {
            sequence: event
            for sequence, event in self._waiting.items()
            if 0 < (sequence - self._last) & 0xFFFF < 0x8000
        }
        self._deliver(now)
