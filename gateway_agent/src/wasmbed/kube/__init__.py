"""Kubernetes API client: calls with limits, informers, a keyed work queue, events."""

from wasmbed.kube.client import Kube
from wasmbed.kube.errors import ApiError, ApiUnreachableError
from wasmbed.kube.informer import Informer
from wasmbed.kube.kind import EVENT, LEASE, NAMESPACE, SECRET, Kind
from wasmbed.kube.recorder import Recorder
from wasmbed.kube.workqueue import WorkQueue

__all__ = [
    "EVENT",
    "LEASE",
    "NAMESPACE",
    "SECRET",
    "ApiError",
    "ApiUnreachableError",
    "Informer",
    "Kind",
    "Kube",
    "Recorder",
    "WorkQueue",
]
