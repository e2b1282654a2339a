"""Host calls of applications that something outside their runtime carries out: autopilot, ROS 2, sensors, uplink."""

from wasmbed.hostcalls.codes import ROS2_HEADER, EventType, Ros2Kind, Status
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
    "ROS2_HEADER",
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
    "Ros2Kind",
    "SensorOffer",
    "Status",
]
