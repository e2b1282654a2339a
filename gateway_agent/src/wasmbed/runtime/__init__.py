"""The WebAssembly runtime of a gateway: a process of its own, and the client by which the agent reaches it."""

from wasmbed.runtime.client import RequestRefused, RuntimeClient, RuntimeGone
from wasmbed.runtime.protocol import (
    MAX_MODULE_BYTES,
    Event,
    Hello,
    InstanceStatus,
    Limits,
    LogEvent,
    ProtocolError,
    StartRequest,
    StateEvent,
)

__all__ = [
    "MAX_MODULE_BYTES",
    "Event",
    "Hello",
    "InstanceStatus",
    "Limits",
    "LogEvent",
    "ProtocolError",
    "RequestRefused",
    "RuntimeClient",
    "RuntimeGone",
    "StartRequest",
    "StateEvent",
]
