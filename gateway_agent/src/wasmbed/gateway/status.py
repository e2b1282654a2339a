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
    from collections.abc import Callable, Mapping

    from wasmbed.api import DeviceSlice, Gateway, Incident, Placement, PlacementDevice, Vehicle

_SETTLED = (InstanceState.RUNNING, InstanceState.FAILED, InstanceState.SUSPENDED)
_LAST_KNOWN = "last known state, the device is "
_NOT_SEEN = Shown(InstanceState.PENDING, "", message="waiting for the runtime")


def placement_status(
    placement: Placement,
    shown: Mapping[str, Shown],
    previous: PlacementStatus,
    *,
    now: str,
    away: Callable[[tuple[str, str]], str] = lambda _: "",
) -> PlacementStatus:
    """The status of `placement`; times stay those of `previous` where nothing changed, so that equal means equal.

    `away` says since when a device is away, empty when it is not.
    """
    before = {item.key: item for item in previous.devices}
    devices = tuple(_instance(placement, device, shown, before, now, away(device.key)) for device in placement.devices)
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
    away: str,
) -> InstanceStatus:
    old = before.get(device.key)
    state = shown.get(instance_id(placement, device))
    if state is None:
        state = _NOT_SEEN if device.device_class == DeviceClass.GATEWAY else _unheard(old, away)
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


def _unheard(old: InstanceStatus | None, away: str) -> Shown:
    """The state on a device that says nothing now: the last one that is known of it."""
    if old is None or old.state == InstanceState.PENDING:
        return Shown(InstanceState.PENDING, "", message=f"waiting for the device{', ' + away if away else ''}")
    last = old.message.partition("; ")[2] if old.message.startswith(_LAST_KNOWN) else old.message
    message = f"{_LAST_KNOWN}{away}; {last}" if away else last
    return Shown(old.state, old.digest, old.reason, message, old.restarts)


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


def slice_status(
    devices: DeviceSlice,
    linked: Callable[[tuple[str, str]], tuple[LinkState, str] | None] = lambda _: None,
    seen: Callable[[tuple[str, str]], tuple[Vehicle | None, tuple[Incident, ...]]] = lambda _: (None, ()),
    *,
    now: str,
) -> DeviceSlice:
    """The slice with the links of this gateway: it is itself the link of its devices of class gateway.

    `linked` gives the link of any other device and since when it is so, None when it was never seen; `seen`
    gives its vehicle, and what was done for flight safety.
    """
    before = {link.key: link for link in devices.links}
    links = []
    for device in devices.devices:
        if device.device_class == DeviceClass.GATEWAY:
            state = LinkState.DISCONNECTED if device.revoked else LinkState.CONNECTED
            old = before.get(device.key)
            since = old.since if old is not None and old.state == state and old.since else now
        elif (found := linked(device.key)) is not None:
            state, since = found
        else:
            continue
        links.append(Link(device.name, device.namespace, state, since, *seen(device.key)))
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
