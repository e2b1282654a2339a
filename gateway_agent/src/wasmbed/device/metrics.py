"""Figures of the device's service."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Everything under wasmbed_device_."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.link_up = Gauge("wasmbed_device_link_up", "Whether there is a session with the gateway", registry=registry)
        self.runtime_up = Gauge("wasmbed_device_runtime_up", "Whether the runtime is connected", registry=registry)
        self.sessions = Counter("wasmbed_device_sessions", "Sessions opened", registry=registry)
        self.failures = Counter(
            "wasmbed_device_failures", "Sessions that failed or ended, by kind", ["kind"], registry=registry
        )
        self.requests = Counter(
            "wasmbed_device_requests", "Host requests of applications, by fate", ["fate"], registry=registry
        )
        self.spooled_bytes = Gauge(
            "wasmbed_device_spooled_bytes", "Bytes that wait for the gateway", ["spool"], registry=registry
        )
        self.dropped = Gauge("wasmbed_device_dropped", "Entries that gave way", ["spool"], registry=registry)
        self.instances = Gauge("wasmbed_device_instances", "Instances by state", ["state"], registry=registry)
        self.module_bytes = Gauge("wasmbed_device_module_bytes", "Bytes of modules on disk", registry=registry)
