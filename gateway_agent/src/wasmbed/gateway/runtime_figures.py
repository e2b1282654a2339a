"""The runtime's own counters, asked for now and then, as figures of the agent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from wasmbed.runtime import RequestRefused, RuntimeGone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

_log = logging.getLogger(__name__)

ASK_S: Final = 5.0
# As the runtime names them, with a word for what is counted behind each.
_FAMILIES: Final = {
    "calls": ("wasmbed_runtime_host_calls", "Host calls of applications by function", "function"),
    "refused": ("wasmbed_runtime_host_calls_refused", "Host calls over the rate limit by function", "function"),
    "dropped": ("wasmbed_runtime_events_dropped", "Events that applications were too slow for by type", "type"),
}


class Counting(Protocol):
    """A runtime that counts."""

    async def metrics(self) -> dict[str, float]: ...


class RuntimeFigures(Collector):
    """The counters of the gateway's own runtime, as it told them last."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}

    async def follow(self, runtime: Counting) -> None:
        """Ask until the runtime is gone."""
        try:
            while True:
                self._counters = await runtime.metrics()
                await asyncio.sleep(ASK_S)
        except RuntimeGone:
            pass
        except RequestRefused as error:
            _log.error("the runtime does not tell its counters error=%s", error)

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before a runtime was asked."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One family a kind of counter."""
        for word, (name, text, label) in _FAMILIES.items():
            family = CounterMetricFamily(name, text, labels=[label])
            for key, value in self._counters.items():
                kind, _, what = key.partition(" ")
                if kind == word:
                    family.add_metric([what], value)
            yield family
