"""Host calls of applications that something outside their runtime carries out: autopilot, ROS 2, sensors, uplink."""

from wasmbed.hostcalls.codes import Status
from wasmbed.hostcalls.dispatcher import Dispatcher
from wasmbed.hostcalls.metrics import HostCallMetrics
from wasmbed.hostcalls.model import (
    Backend,
    BadCallError,
    Ended,
    HostCall,
    HostInstance,
    Instance,
    Outcome,
    Outlet,
    Peer,
    PeerGoneError,
    RefusedError,
)

__all__ = [
    "Backend",
    "BadCallError",
    "Dispatcher",
    "Ended",
    "HostCall",
    "HostCallMetrics",
    "HostInstance",
    "Instance",
    "Outcome",
    "Outlet",
    "Peer",
    "PeerGoneError",
    "RefusedError",
    "Status",
]
