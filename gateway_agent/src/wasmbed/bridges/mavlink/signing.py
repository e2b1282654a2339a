"""Message signing: the MAVLink 2 rules for signatures, timestamps and replay.

A signature is link id, 48-bit time in 10 us since 2015-01-01 and the first 48 bits of SHA-256 over key, frame and those
two. A frame is accepted once: its time must be above the last one of its stream (system, component, link id), and a
stream seen for the first time must not be more than a minute behind. A frame with a wrong signature changes nothing.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from wasmbed.bridges.mavlink.frames import SIGNATURE_BYTES, Frame

KEY_BYTES = 32
EPOCH_S = 1_420_070_400
TICKS_PER_S = 100_000
NEW_STREAM_TICKS = 60 * TICKS_PER_S
MAX_TIMESTAMP = (1 << 48) - 1
MAX_STREAMS = 4096
UNSIGNED_ALLOWED = frozenset({109})
"""RADIO_STATUS comes from the radio itself, which has no key."""

Stream = tuple[int, int, int]


def timestamp_of(unix_s: float) -> int:
    """The signing time of a UNIX time; 0 before 2015."""
    return max(0, int((unix_s - EPOCH_S) * TICKS_PER_S))


def signature(key: bytes, frame_and_stamp: bytes) -> bytes:
    """The six bytes over a frame with its link id and timestamp appended."""
    return hashlib.sha256(key + frame_and_stamp).digest()[:6]


class Verdict(StrEnum):
    """What became of an incoming frame's signature."""

    ACCEPTED = "accepted"
    UNSIGNED_ACCEPTED = "unsigned, accepted"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad signature"
    REPLAYED = "replayed"
    TOO_OLD = "too old"
    TOO_MANY_STREAMS = "too many streams"


@dataclass(frozen=True, slots=True)
class SigningState:
    """What survives a restart: a time above every one used, and the last time of each stream."""

    timestamp: int = 0
    streams: dict[Stream, int] = field(default_factory=dict)


class Signer:
    """One key's signatures, outgoing and incoming; shared by the links that use the key.

    `clock` gives UNIX seconds. The time never goes back, also when the clock does: it continues from the largest value
    that was used, received or restored.
    """

    def __init__(self, key: bytes, clock: Callable[[], float], state: SigningState | None = None) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a signing key has {KEY_BYTES} bytes, not {len(key)}; create one with new_key()")
        state = state or SigningState()
        self._key = key
        self._clock = clock
        self._timestamp = max(state.timestamp, timestamp_of(clock()))
        self._streams = dict(state.streams)

    def __repr__(self) -> str:
        # The key must not reach a log by way of a traceback.
        return f"<Signer of {len(self._streams)} streams>"

    @property
    def timestamp(self) -> int:
        """The time of now: the clock's, or the largest one known when that is ahead."""
        self._timestamp = max(self._timestamp, timestamp_of(self._clock()))
        return self._timestamp

    def state(self, lead_s: float = 0.0) -> SigningState:
        """What to persist; with `lead_s` the stored time stays above all that is used until the next save."""
        stored = min(self.timestamp + int(lead_s * TICKS_PER_S), MAX_TIMESTAMP)
        return SigningState(stored, dict(self._streams))

    def sign(self, frame: bytes, link_id: int) -> bytes:
        """`frame`, made with its signed flag set, with the signature behind it."""
        self._timestamp = min(max(self._timestamp + 1, timestamp_of(self._clock())), MAX_TIMESTAMP)
        stamped = frame + bytes((link_id,)) + self._timestamp.to_bytes(6, "little")
        return stamped + signature(self._key, stamped)

    def check(self, frame: Frame, *, accept_unsigned: bool = False) -> Verdict:
        """Judge an incoming frame and, when it is accepted, remember its time."""
        if not frame.signed:
            free = accept_unsigned or frame.id in UNSIGNED_ALLOWED
            return Verdict.UNSIGNED_ACCEPTED if free else Verdict.UNSIGNED
        raw = frame.raw
        if not hmac.compare_digest(signature(self._key, raw[:-6]), raw[-6:]):
            return Verdict.BAD_SIGNATURE
        stream = (frame.system, frame.component, raw[-SIGNATURE_BYTES])
        verdict = self._judge_time(stream, frame.timestamp)
        if verdict is Verdict.ACCEPTED:
            self._streams[stream] = frame.timestamp
            self._timestamp = max(self._timestamp, frame.timestamp)
        return verdict

    def _judge_time(self, stream: Stream, stamp: int) -> Verdict:
        last = self._streams.get(stream)
        if last is not None:
            return Verdict.ACCEPTED if stamp > last else Verdict.REPLAYED
        if stamp + NEW_STREAM_TICKS < self.timestamp:
            return Verdict.TOO_OLD
        return Verdict.ACCEPTED if len(self._streams) < MAX_STREAMS else Verdict.TOO_MANY_STREAMS
