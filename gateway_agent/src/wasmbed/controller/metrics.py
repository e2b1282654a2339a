"""What the controller measures (Prometheus)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from wasmbed.controller.work import Work

if TYPE_CHECKING:
    from collections.abc import Hashable

    from wasmbed.kube import WorkQueue

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The controller's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "wasmbed_controller_reconciles", "Reconciles done", ["reconciler"], registry=self.registry
        )
        self.errors = Counter(
            "wasmbed_controller_reconcile_errors", "Reconciles that failed", ["reconciler"], registry=self.registry
        )
        self.seconds = Histogram(
            "wasmbed_controller_reconcile_seconds",
            "Duration of a reconcile",
            ["reconciler"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.writes = Counter("wasmbed_controller_writes", "Writes to the API", ["kind"], registry=self.registry)
        self.depth = Gauge("wasmbed_controller_queue_depth", "Keys that wait", ["queue"], registry=self.registry)
        self.leader = Gauge("wasmbed_controller_leader", "1 while this process leads", registry=self.registry)

    def done(self, key: Hashable, seconds: float, failure: Exception | None) -> None:
        """Observer of the work queues."""
        name = key.do.value if isinstance(key, Work) else "other"
        self.reconciles.labels(name).inc()
        self.seconds.labels(name).observe(seconds)
        if failure is not None:
            self.errors.labels(name).inc()

    def watch_queue(self, name: str, queue: WorkQueue[Work]) -> None:
        """Show a queue's depth."""
        self.depth.labels(name).set_function(lambda: len(queue))
