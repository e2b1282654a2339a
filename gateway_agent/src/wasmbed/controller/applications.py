"""The status of a WasmApplication, made of summaries of its devices by gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.api import (
    CONDITION_IMAGE_RESOLVED,
    CONDITION_READY,
    STATUS_DEVICES,
    ApplicationDevice,
    ApplicationPhase,
    ApplicationStatus,
    Condition,
    Counts,
    DeviceClass,
    InstanceState,
    Reason,
    settle_condition,
)
from wasmbed.controller.liveness import Liveness
from wasmbed.controller.selection import NO_GATEWAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasmbed.api import EdgeDevice, InstanceStatus, Placement, WasmApplication
    from wasmbed.controller.placements import Image


# Reasons for which a device is not running that its user should read: they pass by themselves or by a user's act.
_HELD = frozenset({Reason.SUSPENDED.value, Reason.IN_FLIGHT.value})


@dataclass(frozen=True)
class Summary:
    """One application on one gateway: numbers, and the first devices of each sort by name."""

    selected: int = 0
    running: int = 0
    failed: int = 0
    failing: tuple[ApplicationDevice, ...] = ()
    waiting: tuple[ApplicationDevice, ...] = ()
    healthy: tuple[ApplicationDevice, ...] = ()


@dataclass(frozen=True)
class Resolution:
    """What is known of an application's image: the digest it was resolved to, or why it was not."""

    image: Image | None = None
    error: str = ""


def summarize(
    application: WasmApplication,
    gateway: str,
    devices: Iterable[EdgeDevice],
    placements: Iterable[Placement],
    image: Image | None,
    liveness: Liveness,
) -> Summary:
    """Count the devices that an application selects on one gateway.

    An instance counts as running only when its Placement is that of the present generation and digest and its gateway
    has observed it, so that Running is never said of something older.
    """
    reported: dict[tuple[str, str], tuple[InstanceStatus, bool]] = {}
    for placement in placements:
        current = (
            image is not None
            and placement.digest == image.digest
            and placement.application.generation == application.metadata.generation
            and placement.status.observed_generation >= placement.metadata.generation
        )
        for instance in placement.status.devices:
            reported[instance.key] = (instance, current and instance.digest == placement.digest)
    unreachable = liveness is Liveness.EXPIRED or (
        liveness is Liveness.SUSPECT and application.status.reason == Reason.GATEWAY_UNREACHABLE
    )
    sorts: tuple[list[ApplicationDevice], ...] = ([], [], [])
    for device in sorted(devices, key=lambda device: device.metadata.name):
        entry = _entry(device, gateway, reported.get(device.metadata.key), unreachable=unreachable)
        state = entry.state
        sorts[0 if state == InstanceState.FAILED else 2 if state == InstanceState.RUNNING else 1].append(entry)
    failing, waiting, healthy = sorts
    return Summary(
        selected=sum(map(len, sorts)),
        running=len(healthy),
        failed=len(failing),
        failing=tuple(failing[:STATUS_DEVICES]),
        waiting=tuple(waiting[:STATUS_DEVICES]),
        healthy=tuple(healthy[:STATUS_DEVICES]),
    )


def _entry(
    device: EdgeDevice, gateway: str, reported: tuple[InstanceStatus, bool] | None, *, unreachable: bool
) -> ApplicationDevice:
    name = device.metadata.name
    pending = InstanceState.PENDING.value
    if gateway == NO_GATEWAY:
        return ApplicationDevice(name, pending, reason=Reason.NO_GATEWAY.value, message="the device has no gateway")
    if device.device_class is DeviceClass.GATEWAY and unreachable:
        message = f"gateway {gateway} does not renew its lease"
        return ApplicationDevice(name, InstanceState.FAILED.value, gateway, Reason.GATEWAY_UNREACHABLE.value, message)
    if reported is None:
        waits_for = f"gateway {gateway}" if device.device_class is DeviceClass.GATEWAY else "the device"
        return ApplicationDevice(name, pending, gateway, message=f"waiting for {waits_for}")
    instance, current = reported
    if not current and instance.state in {InstanceState.RUNNING, InstanceState.FAILED}:
        return ApplicationDevice(
            name, pending, gateway, message=f"waiting for gateway {gateway} to take the change over"
        )
    return ApplicationDevice(name, instance.state, gateway, instance.reason, instance.message)


def application_status(
    application: WasmApplication, resolution: Resolution, summaries: Iterable[Summary], *, now: str
) -> ApplicationStatus:
    """The status an application should have."""
    summaries = list(summaries)
    selected = sum(summary.selected for summary in summaries)
    running = sum(summary.running for summary in summaries)
    failed = sum(summary.failed for summary in summaries)
    counts = Counts(selected, running, failed, selected - running - failed)
    failing = _first(entry for summary in summaries for entry in summary.failing)
    waiting = _first(entry for summary in summaries for entry in summary.waiting)
    healthy = _first(entry for summary in summaries for entry in summary.healthy)
    devices = (*failing, *waiting, *healthy)[:STATUS_DEVICES]
    phase, reason, message = _phase(application, resolution, counts, failing, waiting)
    generation = application.metadata.generation
    previous = application.status
    image = resolution.image
    ready = Condition(
        type=CONDITION_READY,
        status="True" if phase is ApplicationPhase.RUNNING else "False",
        reason=reason or (Reason.RUNNING if phase is ApplicationPhase.RUNNING else Reason.DEPLOYING).value,
        message=message,
        observed_generation=generation,
    )
    conditions = (_image_resolved(application, resolution), ready)
    return ApplicationStatus(
        observed_generation=generation,
        phase=phase.value,
        reason=reason,
        message=message,
        resolved_image=image.reference if image else "",
        resolved_digest=image.digest if image else "",
        counts=counts,
        devices=devices,
        conditions=tuple(settle_condition(previous.conditions, condition, now=now) for condition in conditions),
    )


def _first(entries: Iterable[ApplicationDevice]) -> list[ApplicationDevice]:
    return sorted(entries, key=lambda entry: entry.name)[:STATUS_DEVICES]


def _phase(
    application: WasmApplication,
    resolution: Resolution,
    counts: Counts,
    failing: list[ApplicationDevice],
    waiting: list[ApplicationDevice],
) -> tuple[ApplicationPhase, str, str]:
    if counts.selected == 0:
        message = f"no EdgeDevice in namespace {application.metadata.namespace} matches spec.targetDevices"
        return (ApplicationPhase.PENDING, Reason.NO_MATCHING_DEVICE.value, f"{message}; check types and labels")
    if resolution.error:
        message = resolution.error
        if resolution.image is not None:
            message = f"{message}; the image before it stays where it runs"
        return (ApplicationPhase.FAILED, Reason.IMAGE_PULL_FAILED.value, message[:1024])
    if counts.running == counts.selected:
        return (ApplicationPhase.RUNNING, "", f"runs on {_devices(counts.running)}")
    if counts.failed == counts.selected or (counts.failed and counts.running):
        first = failing[0]
        phase = ApplicationPhase.DEGRADED if counts.running else ApplicationPhase.FAILED
        message = f"failed on {counts.failed} of {_devices(counts.selected)}; {first.name}: {first.message}"
        return (phase, first.reason or Reason.DEVICE_ERROR.value, message[:1024])
    message = f"runs on {counts.running} of {_devices(counts.selected)}"
    held = next((entry for entry in waiting if entry.reason in _HELD), None)
    if held is not None:
        return (ApplicationPhase.DEPLOYING, held.reason, f"{message}; {held.name}: {held.message}"[:1024])
    return (ApplicationPhase.DEPLOYING, "", message)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _image_resolved(application: WasmApplication, resolution: Resolution) -> Condition:
    generation = application.metadata.generation
    if resolution.error:
        failed = Reason.IMAGE_PULL_FAILED.value
        return Condition(CONDITION_IMAGE_RESOLVED, "False", failed, resolution.error[:1024], generation)
    if resolution.image is None or resolution.image.reference != application.wasm_image:
        return Condition(CONDITION_IMAGE_RESOLVED, "Unknown", Reason.RESOLVING.value, "", generation)
    message = f"{resolution.image.reference} is {resolution.image.digest}"
    return Condition(CONDITION_IMAGE_RESOLVED, "True", Reason.RESOLVED.value, message, generation)
