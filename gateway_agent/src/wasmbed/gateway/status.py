"""What statuses say: those of a Placement, a DeviceSlice and the Gateway. No input or output."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wasmbed.api import (
    CONDITION_READY,
    MESSAGE_BYTES,
    Condition,
    DeviceClass,
    GatewayStatus,
    InstanceState,
    InstanceStatus,
    Link,
    LinkState,
    PlacementStatus,
    Reason,
    settle_condition,
    shorten,
)
from wasmbed.gateway.model import Shown, instance_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.api import DeviceSlice, Gateway, Placement, PlacementDevice

_SETTLED = (InstanceState.RUNNING, InstanceState.FAILED, InstanceState.SUSPENDED)
_NOT_SEEN = Shown(InstanceState.PENDING, "", message="waiting for the runtime")


def placement_status(
    placement: Placement, shown: Mapping[str, Shown], previous: PlacementStatus, *, now: str
) -> PlacementStatus:
    """The status of `placement`; times stay those of `previous` where nothing changed, so that equal means equal."""
    before = {item.key: item for item in previous.devices}
    devices = tuple(_instance(placement, device, shown, before, now) for device in placement.devices)
    return PlacementStatus(
        observed_generation=placement.metadata.generation,
        devices=devices,
        conditions=(settle_condition(previous.conditions, _ready(devices, placement.metadata.generation), now=now),),
    )


def _instance(
    placement: Placement,
    device: PlacementDevice,
    shown: Mapping[str, Shown],
    before: Mapping[tuple[str, str], InstanceStatus],
    now: str,
) -> InstanceStatus:
    if device.device_class == DeviceClass.GATEWAY:
        state = shown.get(instance_id(placement, device), _NOT_SEEN)
    else:
        # These run their modules themselves, over a link.
        state = Shown(InstanceState.PENDING, "", message="waiting for the device")
    old = before.get(device.key)
    return InstanceStatus(
        name=device.name,
        namespace=device.namespace,
        state=state.state,
        digest=state.digest,
        reason=state.reason,
        message=shorten(state.message, MESSAGE_BYTES),
        restarts=state.restarts,
        since=old.since if old is not None and old.state == state.state and old.since else now,
    )


def _ready(devices: tuple[InstanceStatus, ...], generation: int) -> Condition:
    running = sum(device.state == InstanceState.RUNNING for device in devices)
    failed = [device for device in devices if device.state == InstanceState.FAILED]
    message = f"{running} of {len(devices)} running"
    if running == len(devices):
        return Condition(CONDITION_READY, "True", Reason.RUNNING, message, generation)
    reason = failed[0].reason or Reason.DEVICE_ERROR if failed else Reason.DEPLOYING
    if failed:
        message += f", {len(failed)} failed"
    return Condition(CONDITION_READY, "False", reason, message, generation)


def settled(status: PlacementStatus) -> bool:
    """Whether every instance has come to Running or Failed, so that somebody waits for this status."""
    return all(device.state in _SETTLED for device in status.devices)


def slice_status(devices: DeviceSlice, *, now: str) -> DeviceSlice:
    """The slice with the links of this gateway: it is itself the link of its devices of class gateway."""
    before = {link.key: link for link in devices.links}
    links = []
    for device in devices.devices:
        if device.device_class == DeviceClass.GATEWAY:
            state = LinkState.DISCONNECTED if device.revoked else LinkState.CONNECTED
            old = before.get(device.key)
            since = old.since if old is not None and old.state == state and old.since else now
            links.append(Link(device.name, device.namespace, state, since))
    return replace(devices, observed_generation=devices.metadata.generation, links=tuple(links))


def gateway_status(
    gateway: Gateway,
    previous: GatewayStatus,
    *,
    agent_version: str,
    wasmtime_version: str,
    modules: int,
    runtime_problem: str,
    now: str,
) -> GatewayStatus:
    """The status of the Gateway; `runtime_problem` says why its runtime is away, empty when it is not."""
    generation = gateway.metadata.generation
    ready = (
        Condition(CONDITION_READY, "False", "RuntimeUnavailable", shorten(runtime_problem, 1024), generation)
        if runtime_problem
        else Condition(CONDITION_READY, "True", "Ready", "the agent and the runtime work", generation)
    )
    return GatewayStatus(
        observed_generation=generation,
        agent_version=agent_version,
        wasmtime_version=wasmtime_version,
        modules=modules,
        conditions=(settle_condition(previous.conditions, ready, now=now),),
    )
