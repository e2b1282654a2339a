"""Figures of host calls."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class HostCallMetrics:
    """Everything under wasmbed_host_."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.calls = Counter(
            "wasmbed_host_calls",
            "Host calls of applications by module, operation and result",
            ["module", "op", "result"],
            registry=registry,
        )
        self.seconds = Histogram(
            "wasmbed_host_call_seconds", "Time of a host call", ["module"], buckets=_SECONDS, registry=registry
        )
        # Looking a child up by its labels takes longer than counting, and there are few of them.
        self.call = cache(self.calls.labels)
        self.call_seconds = cache(self.seconds.labels)
        self.events = Counter("wasmbed_host_events", "Events sent to applications by type", ["type"], registry=registry)
        self.dropped = Counter(
            "wasmbed_host_events_dropped",
            "Events that applications did not get because somebody did not keep up, by module",
            ["module"],
            registry=registry,
        )
        self.instances = Gauge("wasmbed_host_instances", "Instances open for host calls", registry=registry)
