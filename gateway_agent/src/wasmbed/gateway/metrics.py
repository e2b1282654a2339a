"""Figures of the agent."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)


class Metrics:
    """Everything under wasmbed_agent_."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.placements = Gauge("wasmbed_agent_placements", "Placements of this gateway", registry=registry)
        self.instances = Gauge("wasmbed_agent_instances", "Instances by state", ["state"], registry=registry)
        self.runtime_up = Gauge("wasmbed_agent_runtime_up", "Whether the runtime is connected", registry=registry)
        self.api_up = Gauge("wasmbed_agent_api_up", "Whether the Kubernetes API is watched", registry=registry)
        self.runtime_connections = Counter(
            "wasmbed_agent_runtime_connections", "Connections made to the runtime", registry=registry
        )
        self.pulls = Counter("wasmbed_agent_pulls", "Pulls by result", ["result"], registry=registry)
        self.pull_seconds = Histogram(
            "wasmbed_agent_pull_seconds", "Time of a pull", buckets=_SECONDS, registry=registry
        )
        self.signature_checks = Counter(
            "wasmbed_agent_signature_checks", "Looks at an image's signatures by result", ["result"], registry=registry
        )
        self.artifact_bytes = Gauge("wasmbed_agent_artifact_bytes", "Bytes of modules on disk", registry=registry)
        self.status_writes = Counter(
            "wasmbed_agent_status_writes", "Status writes by kind and result", ["kind", "result"], registry=registry
        )
        self.lease_renewals = Counter(
            "wasmbed_agent_lease_renewals", "Lease renewals by result", ["result"], registry=registry
        )
        self.start_seconds = Histogram(
            "wasmbed_agent_start_seconds",
            "From an instance being wanted to its being Running",
            buckets=_SECONDS,
            registry=registry,
        )
        self.log_lines = Counter(
            "wasmbed_agent_log_lines", "Application log lines by fate", ["fate"], registry=registry
        )
        self.link_sessions = Counter("wasmbed_agent_link_sessions", "Sessions opened by devices", registry=registry)
        self.link_replaced = Counter(
            "wasmbed_agent_link_replaced", "Sessions replaced by another one of the same device", registry=registry
        )
        self.link_refusals = Counter(
            "wasmbed_agent_link_refusals", "Sessions refused or ended, by reason", ["reason"], registry=registry
        )
        self.link_entries = Counter(
            "wasmbed_agent_link_entries", "Entries taken from devices' spools", ["spool"], registry=registry
        )
        self.link_lost = Counter(
            "wasmbed_agent_link_lost", "Sealed messages that cannot be kept and are lost", registry=registry
        )
