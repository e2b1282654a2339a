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
    from wasmbed.api import EdgeDevice, Vehicle

Outcome = tuple[DevicePhase, str, str]


def device_status(
    device: EdgeDevice,
    gateway: str,
    liveness: Liveness,
    link: str | None,
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


def _outcome(device: EdgeDevice, gateway: str, liveness: Liveness, link: str | None) -> Outcome | None:
    if gateway == NO_GATEWAY:
        return (DevicePhase.PENDING, Reason.NO_GATEWAY.value, _no_gateway(device))
    if liveness is Liveness.FRESH and link == LinkState.CONNECTED:
        if device.suspend:
            return (DevicePhase.CONNECTED, Reason.SUSPENDED.value, "spec.suspend is true: no application runs on it")
        return (DevicePhase.CONNECTED, "", "")
    if device.device_class is not DeviceClass.GATEWAY:
        return (DevicePhase.PENDING, Reason.NOT_ENROLLED.value, "the device has not been enrolled yet")
    return _served(device, gateway, liveness, link)


def _served(device: EdgeDevice, gateway: str, liveness: Liveness, link: str | None) -> Outcome | None:
    """Of a device whose gateway does everything for it and that is not connected."""
    if liveness is Liveness.EXPIRED:
        message = f"gateway {gateway} does not renew its lease; check its wasmbed-agent and its network"
        return (DevicePhase.UNREACHABLE, Reason.GATEWAY_UNREACHABLE.value, message)
    if liveness is Liveness.SUSPECT and device.status.phase and device.status.gateway == gateway:
        return None
    if liveness is Liveness.FRESH and link is not None:
        return (DevicePhase.DISCONNECTED, Reason.DISCONNECTED.value, f"gateway {gateway} has no link to the device")
    return (DevicePhase.PENDING, Reason.NOT_REPORTED.value, f"waiting for gateway {gateway}")


def _no_gateway(device: EdgeDevice) -> str:
    if device.gateway_name:
        return f"there is no Gateway {device.gateway_name}; create it or change spec.gatewayRef.name"
    if device.gateway_endpoint:
        endpoint = device.gateway_endpoint
        return f"no Gateway has the endpoint {endpoint}; create it or change spec.network.gatewayEndpoint"
    return "the device names no gateway; set spec.gatewayRef.name or spec.network.gatewayEndpoint"
