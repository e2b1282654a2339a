"""The status of an EdgeDevice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wasmbed.api import (
    CONDITION_READY,
    MODE_LOST,
    Condition,
    DeviceClass,
    DevicePhase,
    DeviceStatus,
    LinkState,
    Reason,
    settle_condition,
)
from wasmbed.controller.liveness import Liveness
from wasmbed.controller.selection import NO_GATEWAY

if TYPE_CHECKING:
    from wasmbed.api import EdgeDevice, Link, Vehicle

Outcome = tuple[DevicePhase, str, str]


def device_status(
    device: EdgeDevice,
    gateway: str,
    liveness: Liveness,
    link: Link | None,
    *,
    now: str,
    vehicle: Vehicle | None = None,
) -> DeviceStatus:
    """The status a device should have; `link` and `vehicle` are as its gateway reports them, None if it does not.

    While its gateway is suspect a device keeps its phase, so that a restart of the controller changes nothing.
    """
    outcome = _outcome(device, gateway, liveness, link)
    previous = device.status
    if outcome is None:
        phase, reason, message = DevicePhase(previous.phase), previous.reason, previous.message
    else:
        phase, reason, message = outcome
    if liveness is Liveness.EXPIRED and vehicle is not None:
        vehicle = replace(vehicle, mode=MODE_LOST)
    condition = Condition(
        type=CONDITION_READY,
        status="True" if phase is DevicePhase.CONNECTED else "False",
        reason=reason or phase.value,
        message=message,
        observed_generation=device.metadata.generation,
    )
    return DeviceStatus(
        observed_generation=device.metadata.generation,
        phase=phase.value,
        reason=reason,
        message=message,
        gateway=gateway,
        device_class=device.device_class.value,
        vehicle=vehicle,
        conditions=(settle_condition(previous.conditions, condition, now=now),),
    )


def _outcome(device: EdgeDevice, gateway: str, liveness: Liveness, link: Link | None) -> Outcome | None:
    served = device.device_class is DeviceClass.GATEWAY
    if gateway == NO_GATEWAY:
        outcome = (DevicePhase.PENDING, Reason.NO_GATEWAY.value, _no_gateway(device))
    elif liveness is Liveness.FRESH and link is not None and link.state == LinkState.CONNECTED:
        outcome = (DevicePhase.CONNECTED, "", "")
        if device.suspend:
            message = "spec.suspend is true: no application runs on it"
            outcome = (DevicePhase.CONNECTED, Reason.SUSPENDED.value, message)
    elif not served and not device.public_key:
        message = "the device has no key; set spec.publicKey to its public key, 32 bytes in base64"
        outcome = (DevicePhase.PENDING, Reason.NOT_ENROLLED.value, message)
    elif liveness is Liveness.EXPIRED:
        message = f"gateway {gateway} does not renew its lease; check its wasmbed-agent and its network"
        outcome = (DevicePhase.UNREACHABLE, Reason.GATEWAY_UNREACHABLE.value, message)
    elif liveness is Liveness.SUSPECT and device.status.phase and device.status.gateway == gateway:
        return None
    elif liveness is Liveness.SUSPECT or (served and link is None):
        outcome = (DevicePhase.PENDING, Reason.NOT_REPORTED.value, f"waiting for gateway {gateway}")
    elif link is None:
        outcome = (DevicePhase.ENROLLED, "", f"the device has not connected to gateway {gateway} yet")
    else:
        since = f" since {link.since}" if link.since else ""
        message = f"gateway {gateway} has no link to the device{since}"
        outcome = (DevicePhase.DISCONNECTED, Reason.DISCONNECTED.value, message)
    return outcome


def _no_gateway(device: EdgeDevice) -> str:
    if device.gateway_name:
        return f"there is no Gateway {device.gateway_name}; create it or change spec.gatewayRef.name"
    if device.gateway_endpoint:
        endpoint = device.gateway_endpoint
        return f"no Gateway has the endpoint {endpoint}; create it or change spec.network.gatewayEndpoint"
    return "the device names no gateway; set spec.gatewayRef.name or spec.network.gatewayEndpoint"
