"""Kubernetes API client: calls with limits, informers, a keyed work queue, events."""

from wasmbed.kube.kind import EVENT, LEASE, NAMESPACE, SECRET, Kind

__all__ = ["EVENT", "LEASE", "NAMESPACE", "SECRET", "Kind"]
