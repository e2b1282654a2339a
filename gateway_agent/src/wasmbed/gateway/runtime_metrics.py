"""Counters that the runtime keeps, asked for now and then: host calls by function, events that were dropped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from wasmbed.runtime import RequestRefused, RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry, Metric

    from wasmbed.runtime import RuntimeClient

INTERVAL_S: Final = 10.0


class RuntimeCounters(Collector):
    """The counters as they were last told; they begin anew with each process of the runtime."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.client: RuntimeClient | None = None
        """The connected runtime, set by whoever connects."""
        self._values: dict[str, float] = {}
        registry.register(self)

    async def run(self) -> None:
        """Ask every INTERVAL_S until cancelled."""
        while True:
            if self.client is not None:
                try:
                    self._values = await self.client.metrics()
                except (RuntimeGone, RequestRefused):
                    self._values = {}
            await asyncio.sleep(INTERVAL_S)

    def collect(self) -> Iterator[Metric]:
        """Return what was told."""
        for kind, name, text, label in (
            ("calls", "wasmbed_runtime_host_calls", "Calls of host functions", "function"),
            ("refused", "wasmbed_runtime_host_calls_refused", "Calls of host functions over their rate", "function"),
            ("dropped", "wasmbed_runtime_events_dropped", "Events that were dropped, by type", "type"),
        ):
            family = CounterMetricFamily(name, text, labels=[label])
            for key, value in self._values.items():
                found, _, what = key.partition(" ")
                if found == kind:
                    family.add_metric([what.removeprefix("wasmbed:").lower()], value)
            yield family
