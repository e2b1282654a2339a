"""Application logs on their way from the runtime to the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.service import journal_send

if TYPE_CHECKING:
    from wasmbed.gateway.metrics import Metrics
    from wasmbed.runtime import LogEvent

LINES_PER_S = 100.0
BURST = 200.0
FLUSH_S = 5.0
# A journal that takes nothing for so long costs the line.
JOURNAL_S = 10.0
JOURNAL_RETRY_S = 0.05
# Levels of the host ABI (error, warn, info, debug, trace) as syslog(3) severities.
_PRIORITIES = (3, 4, 6, 7, 7)


@dataclass
class _Source:
    fields: dict[str, str]
    tokens: float
    counted_at: float
    dropped: int = 0


class LogForwarder:
    """Sends lines with WASMBED_ fields; an instance that says too much loses lines and tells how many."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sources: dict[str, _Source] = {}

    def forward(self, event: LogEvent) -> None:
        """Send one line, or count it as dropped."""
        now = asyncio.get_running_loop().time()
        source = self._sources.get(event.instance)
        if source is None:
            fields = {
                "WASMBED_APPLICATION": event.application,
                "WASMBED_DEVICE": event.device,
                "WASMBED_INSTANCE": event.instance,
            }
            source = self._sources[event.instance] = _Source(fields, BURST, now)
        source.tokens = min(BURST, source.tokens + (now - source.counted_at) * LINES_PER_S)
        source.counted_at = now
        source.dropped += event.dropped
        if source.tokens < 1.0:
            source.dropped += 1
            return
        source.tokens -= 1.0
        self._tell_dropped(source)
        if journal_send(event.text, _PRIORITIES[event.level], **source.fields):
            self._metrics.log_lines.labels("sent").inc()
        else:
            source.dropped += 1

    async def deliver(self, event: LogEvent, number: str) -> None:
        """Send a line that a device kept, waiting while the journal is busy; `number` is its own, the same if it comes
        again. The device's runtime has bounded its rate already.
        """
        fields = {
            "WASMBED_APPLICATION": event.application,
            "WASMBED_DEVICE": event.device,
            "WASMBED_INSTANCE": event.instance,
            "WASMBED_SEQUENCE": number,
        }
        if event.dropped:
            fields["WASMBED_DROPPED"] = str(event.dropped)
        deadline = asyncio.get_running_loop().time() + JOURNAL_S
        while not journal_send(event.text, _PRIORITIES[event.level], **fields):
            if asyncio.get_running_loop().time() > deadline:
                self._metrics.log_lines.labels("dropped").inc()
                return
            await asyncio.sleep(JOURNAL_RETRY_S)
        self._metrics.log_lines.labels("sent").inc()

    async def run(self) -> None:
        """Tell every few seconds of lines that were dropped, and forget instances that have gone quiet."""
        while True:
            await asyncio.sleep(FLUSH_S)
            now = asyncio.get_running_loop().time()
            for name, source in list(self._sources.items()):
                self._tell_dropped(source)
                if not source.dropped and now - source.counted_at > BURST / LINES_PER_S:
                    del self._sources[name]

    def _tell_dropped(self, source: _Source) -> None:
        if not source.dropped:
            return
        count = source.dropped
        if journal_send(f"{count} lines dropped", 4, WASMBED_DROPPED=str(count), **source.fields):
            self._metrics.log_lines.labels("dropped").inc(count)
            source.dropped = 0
