"""The WebAssembly runtime: a process of its own, and the client by which a gateway agent or a device reaches it."""

from wasmbed.runtime.client import RequestRefused, RuntimeClient, RuntimeGone
from wasmbed.runtime.protocol import MAX_MODULE_BYTES, Delivery, Limits, Provision, Secret, Sensor, StartRequest
from wasmbed.runtime.reports import Event, Hello, HostRequest, InstanceStatus, LogEvent, StateEvent
from wasmbed.runtime.wire import ProtocolError

__all__ = [
    "MAX_MODULE_BYTES",
    "Delivery",
    "Event",
    "Hello",
    "HostRequest",
    "InstanceStatus",
    "Limits",
    "LogEvent",
    "ProtocolError",
    "Provision",
    "RequestRefused",
    "RuntimeClient",
    "RuntimeGone",
    "Secret",
    "Sensor",
    "StartRequest",
    "StateEvent",
]
