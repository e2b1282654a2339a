"""What a link carries: frames, bytes, losses by sequence number, rates."""

from dataclasses import dataclass, field

from wasmbed.bridges.mavlink.frames import Frame

_MAX_SOURCES = 4096
_RATE_WINDOW_S = 1.0


@dataclass(slots=True)
class LinkStatistics:
    """Counts of one port. `lost` counts the gaps of each sender's sequence; a late frame takes its gap back."""

    received_frames: int = 0
    received_bytes: int = 0
    sent_frames: int = 0
    sent_bytes: int = 0
    lost: int = 0
    late: int = 0
    repeated: int = 0
    send_dropped: int = 0
    signature_rejected: int = 0
    last_received_s: float | None = None
    received_per_s: float = 0.0
    _expected: dict[int, int] = field(default_factory=dict, repr=False)
    _window_at: float = field(default=0.0, repr=False)
    _window_frames: int = field(default=0, repr=False)

    def received(self, frame: Frame, now: float) -> None:
        """Count an incoming frame at `now` (monotonic seconds)."""
        self.received_frames += 1
        self.received_bytes += len(frame.raw)
        self.last_received_s = now
        self._window_frames += 1
        if now - self._window_at >= _RATE_WINDOW_S:
            elapsed = now - self._window_at
            self.received_per_s = self._window_frames / elapsed if self._window_at else float(self._window_frames)
            self._window_at, self._window_frames = now, 0
        source = frame.system << 8 | frame.component
        sequence = frame.sequence
        expected = self._expected.get(source)
        if expected != sequence and expected is not None:
            gap = (sequence - expected) & 0xFF
            if gap == 255:
                self.repeated += 1
                return
            if gap >= 128:
                self.late += 1
                self.lost = max(0, self.lost - 1)
                return
            self.lost += gap
        elif expected is None and len(self._expected) >= _MAX_SOURCES:
            self._expected.clear()
        self._expected[source] = (sequence + 1) & 0xFF

    def sent(self, raw: bytes) -> None:
        """Count an outgoing frame."""
        self.sent_frames += 1
        self.sent_bytes += len(raw)

    @property
    def loss(self) -> float:
        """The share of frames lost on the way here, 0 to 1."""
        total = self.received_frames + self.lost
        return self.lost / total if total else 0.0
