"""Host calls of applications that something outside their runtime carries out: autopilot, ROS 2, sensors, uplink."""

from wasmbed.hostcalls.codes import EventType, Status
from wasmbed.hostcalls.dispatcher import Dispatcher
from wasmbed.hostcalls.metrics import HostCallMetrics
from wasmbed.hostcalls.model import (
    Backend,
    BadCallError,
    Ended,
    HostCall,
    HostEvent,
    HostInstance,
    HostRequest,
    Instance,
    Offer,
    Outcome,
    Outlet,
    Peer,
    PeerGoneError,
    RefusedError,
    SensorOffer,
)

__all__ = [
    "Backend",
    "BadCallError",
    "Dispatcher",
    "Ended",
    "EventType",
    "HostCall",
    "HostCallMetrics",
    "HostEvent",
    "HostInstance",
    "HostRequest",
    "Instance",
    "Offer",
    "Outcome",
    "Outlet",
    "Peer",
    "PeerGoneError",
    "RefusedError",
    "SensorOffer",
    "Status",
]
