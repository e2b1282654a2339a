"""What vehicles say themselves, status texts and events: the serious ones in the journal, all of them counted."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from wasmbed.bridges.mavlink.events import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wasmbed.bridges.mavlink.events import Event, StatusText
    from wasmbed.gateway.flight_model import Ids

_log = logging.getLogger(__name__)

# A vehicle that fails its checks repeats itself: so many lines at once, and one a second from then on.
BURST: Final = 10
LINES_PER_S: Final = 1.0
MAX_CHARACTERS: Final = 400
_SERIOUS: Final = frozenset(SEVERITIES[: SEVERITIES.index("warning") + 1])
_OTHER: Final = "other"


class VehicleWords:
    """Counts and logs. `counts` is by kind (`text`, `event`) and severity, `left_out` the lines above the rate."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.left_out = 0
        self._clock = clock
        # By vehicle: the lines it may still have, as of when, and how many were left out since the last one.
        self._budgets: dict[Ids, tuple[float, float, int]] = {}

    def text(self, ids: Ids, devices: Sequence[str], item: StatusText) -> None:
        """Take a status text of the vehicle of these devices."""
        self._take("text", ids, devices, item.component, item.severity, item.text)

    def event(self, ids: Ids, devices: Sequence[str], item: Event) -> None:
        """Take an event; its words are in the vehicle's own metadata, so here it is its number."""
        severity = SEVERITIES[item.level] if item.level < len(SEVERITIES) else _OTHER
        lost = f", {item.lost_before} before it lost" if item.lost_before else ""
        self._take("event", ids, devices, item.component, severity, f"event {item.id}{lost}")

    def _take(self, kind: str, ids: Ids, devices: Sequence[str], component: int, severity: str, words: str) -> None:
        # Vehicles choose the number: an unknown one makes no label of its own.
        self.counts[kind, severity if severity in SEVERITIES else _OTHER] += 1
        if severity not in _SERIOUS:
            return
        now = self._clock()
        lines, at, missed = self._budgets.get(ids, (float(BURST), now, 0))
        lines = min(float(BURST), lines + (now - at) * LINES_PER_S)
        if lines < 1.0:
            self.left_out += 1
            self._budgets[ids] = (lines, now, missed + 1)
            return
        self._budgets[ids] = (lines - 1.0, now, 0)
        _log.warning(
            "vehicle says device=%s system=%d component=%d severity=%s left_out=%d text=%r",
            ",".join(devices) or "-",
            ids[0],
            component,
            severity,
            missed,
            words[:MAX_CHARACTERS],
        )
