"""MAVLink: links, router, the vehicle protocols and their conversion to px4_msgs.

A `Hub` runs the endpoints of a `MavlinkConfig` around a `Switch`; a `Fleet` speaks as the gateway's own component with
each `Vehicle`; `Actions` are what a vehicle is told to do; a `Guard` holds an application to its grants.
"""

from wasmbed.bridges.mavlink.actions import ActionResult, Actions, Limits
from wasmbed.bridges.mavlink.codec import Message, PayloadError, message
from wasmbed.bridges.mavlink.commands import Command, CommandResult, Outcome
from wasmbed.bridges.mavlink.endpoints import Endpoint, LogEndpoint, MavlinkConfig
from wasmbed.bridges.mavlink.filters import Rules
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.geofence import Geofence
from wasmbed.bridges.mavlink.guard import Cause, Grant, Guard, Rates, Refusal
from wasmbed.bridges.mavlink.hub import Hub
from wasmbed.bridges.mavlink.keystore import KeyStore, KeyStoreError, new_key
from wasmbed.bridges.mavlink.mission_items import PlanItem, PlanType
from wasmbed.bridges.mavlink.offboard import AttitudeSetpoint, GlobalSetpoint, LocalSetpoint
from wasmbed.bridges.mavlink.switch import Switch
from wasmbed.bridges.mavlink.vehicle import Vehicle
from wasmbed.bridges.mavlink.vehicle_state import Change, VehicleState

__all__ = [
    "ActionResult",
    "Actions",
    "AttitudeSetpoint",
    "Cause",
    "Change",
    "Command",
    "CommandResult",
    "Endpoint",
    "Fleet",
    "Geofence",
    "GlobalSetpoint",
    "Grant",
    "Guard",
    "Hub",
    "KeyStore",
    "KeyStoreError",
    "Limits",
    "LocalSetpoint",
    "LogEndpoint",
    "MavlinkConfig",
    "Message",
    "Outcome",
    "PayloadError",
    "PlanItem",
    "PlanType",
    "Rates",
    "Refusal",
    "Rules",
    "Switch",
    "Vehicle",
    "VehicleState",
    "message",
    "new_key",
]
