"""What may pass an endpoint, and how much of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wasmbed.bridges.mavlink.definitions import Dialect, default_dialect
from wasmbed.bridges.mavlink.frames import Frame

_MAX_STREAMS = 65536


@dataclass(frozen=True, slots=True)
class Rules:
    """Filters and limits of one direction; an empty allow list allows everything, a block wins over an allow.

    Messages are names or numbers. `rates_hz` limits a message per sending component; `bytes_per_s` and `frames_per_s`
    limit the direction as a whole, with a burst of one second.
    """

    allow_messages: tuple[str, ...] = ()
    block_messages: tuple[str, ...] = ()
    allow_systems: tuple[int, ...] = ()
    block_systems: tuple[int, ...] = ()
    allow_components: tuple[int, ...] = ()
    block_components: tuple[int, ...] = ()
    rates_hz: Mapping[str, float] = field(default_factory=dict)
    bytes_per_s: float = 0.0
    frames_per_s: float = 0.0

    def __post_init__(self) -> None:
        if any(rate <= 0 for rate in self.rates_hz.values()):
            raise ValueError("rates_hz must be above 0; block a message with block_messages")
        for name in (*self.allow_messages, *self.block_messages, *self.rates_hz):
            message_id(default_dialect(), name)
        if self.bytes_per_s < 0 or self.frames_per_s < 0:
            raise ValueError("bytes_per_s and frames_per_s must not be negative; 0 is no limit")

    @property
    def empty(self) -> bool:
        """Whether everything passes."""
        return self == Rules()


class Gate:
    """Rules at work: says for each frame whether it passes, and counts those that do not."""

    def __init__(self, rules: Rules, dialect: Dialect | None = None) -> None:
        dialect = dialect or default_dialect()
        self.filtered = 0
        self.limited = 0
        self._allow_messages = frozenset(message_id(dialect, name) for name in rules.allow_messages)
        self._block_messages = frozenset(message_id(dialect, name) for name in rules.block_messages)
        self._allow_systems = frozenset(rules.allow_systems)
        self._block_systems = frozenset(rules.block_systems)
        self._allow_components = frozenset(rules.allow_components)
        self._block_components = frozenset(rules.block_components)
        self._intervals = {message_id(dialect, name): 1.0 / rate for name, rate in rules.rates_hz.items()}
        self._due: dict[tuple[int, int, int], float] = {}
        self._bytes = _Bucket(rules.bytes_per_s) if rules.bytes_per_s else None
        self._frames = _Bucket(rules.frames_per_s) if rules.frames_per_s else None

    def passes(self, frame: Frame, now: float) -> bool:
        """Whether a frame may pass at `now` (monotonic seconds)."""
        number, system, component = frame.id, frame.system, frame.component
        if (
            number in self._block_messages
            or system in self._block_systems
            or component in self._block_components
            or (self._allow_messages and number not in self._allow_messages)
            or (self._allow_systems and system not in self._allow_systems)
            or (self._allow_components and component not in self._allow_components)
        ):
            self.filtered += 1
            return False
        interval = self._intervals.get(number)
        if interval is not None and not self._in_time((system, component, number), interval, now):
            self.limited += 1
            return False
        if (self._frames is not None and not self._frames.take(1, now)) or (
            self._bytes is not None and not self._bytes.take(len(frame.raw), now)
        ):
            self.limited += 1
            return False
        return True

    def _in_time(self, stream: tuple[int, int, int], interval: float, now: float) -> bool:
        due = self._due.get(stream)
        if due is None:
            if len(self._due) >= _MAX_STREAMS:
                self._due.clear()
            self._due[stream] = now + interval
            return True
        if now < due:
            return False
        # From the due time, not from now: a source slightly too fast loses the excess only.
        self._due[stream] = max(due + interval, now)
        return True


class _Bucket:
    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._level = per_s
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        if self._at is not None:
            self._level = min(self._per_s, self._level + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._level:
            return False
        self._level -= amount
        return True


def message_id(dialect: Dialect, name: str) -> int:
    """The number of a message given by name or number; ValueError for one that nobody knows."""
    if name.isdigit():
        return int(name)
    if name not in dialect.by_name:
        raise ValueError(f"MAVLink has no message {name}; use its name as in the XML, or its number")
    return dialect.by_name[name].id
