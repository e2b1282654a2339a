"""The Placements of one application on one gateway."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wasmbed.api import (
    LABEL_APPLICATION,
    LABEL_APPLICATION_NAMESPACE,
    LABEL_APPLICATION_UID,
    ApplicationRef,
    Grant,
    Metadata,
    Placement,
    PlacementDevice,
    PlacementLimits,
    PlacementPx4,
    gateway_namespace,
    senses,
)
from wasmbed.controller.chunks import assign, by_number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from wasmbed.api import EdgeDevice, WasmApplication

MEMORY_BYTES = 64 * 1024 * 1024
STACK_BYTES = 8 * 1024 * 1024
CPU_MILLIS_PER_CALL = 60_000


@dataclass(frozen=True)
class Image:
    """A reference and the digest of the manifest it was resolved to."""

    reference: str
    digest: str


@dataclass(frozen=True)
class Plan:
    """What must be written so that the Placements are as they should be."""

    apply: tuple[Placement, ...] = ()
    delete: tuple[Placement, ...] = ()


def placement_prefix(application: Metadata) -> str:
    """The names of an application's Placements up to the chunk number (at most 56 characters)."""
    identity = f"{application.namespace}/{application.name}/{application.uid}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    readable = re.sub(r"[^a-z0-9-]", "-", f"{application.namespace}-{application.name}")[:44].strip("-")
    return f"{readable}-{digest}-"


def limits_of(application: WasmApplication) -> PlacementLimits:
    """The limits of one instance: the profile's, lowered by the application."""
    memory = [value for value in (application.memory_limit, application.max_memory) if value is not None]
    return PlacementLimits(
        memory_bytes=min(memory, default=MEMORY_BYTES),
        stack_bytes=min(STACK_BYTES, application.max_stack or STACK_BYTES),
        cpu_millis_per_call=min(CPU_MILLIS_PER_CALL, application.max_cpu_millis_per_call or CPU_MILLIS_PER_CALL),
    )


def grants_of(application: WasmApplication, devices: Iterable[EdgeDevice]) -> tuple[str, ...]:
    """Import modules granted to a Placement: the union over its devices; the gateway holds each to its capabilities."""
    return grants_for(application, {capability for device in devices for capability in device.capabilities})


def grants_for(application: WasmApplication, capabilities: Collection[str]) -> tuple[str, ...]:
    """Import modules granted to an application where a device has these capabilities."""
    grants = {Grant.SYS, Grant.SECURE}
    if application.px4.enabled and "px4" in capabilities:
        grants.add(Grant.PX4)
    if application.ros2.enabled:
        grants.add(Grant.ROS2)
    if senses(capabilities):
        grants.add(Grant.SENSOR)
    return tuple(sorted(grants))


def ros2_of(application: WasmApplication) -> dict[str, Any]:
    """Routes and domain of a Placement; nothing where ROS 2 is not granted."""
    ros2 = application.ros2
    if not ros2.enabled:
        return {}
    return dict(ros2.routes) | ({} if ros2.domain_id is None else {"domainId": ros2.domain_id})


def plan_placements(
    application: WasmApplication,
    gateway: str,
    devices: Iterable[EdgeDevice],
    existing: Iterable[Placement],
    image: Image,
) -> Plan:
    """What must be written for one application on one gateway, given the devices it selects there."""
    by_key = {device.metadata.key: device for device in devices}
    prefix = placement_prefix(application.metadata)
    numbered, foreign = by_number(existing, prefix)
    taken = {number: [device.key for device in placement.devices] for number, placement in numbered.items()}
    chunks = assign(by_key, taken)
    apply = []
    for number, keys in chunks.items():
        wanted = _placement(application, gateway, f"{prefix}{number}", [by_key[key] for key in keys], image)
        if not _same(numbered.get(number), wanted):
            apply.append(wanted)
    gone = [placement for number, placement in sorted(numbered.items()) if number not in chunks]
    return Plan(tuple(apply), (*gone, *foreign))


def shrink_placements(existing: Iterable[Placement], wanted: Collection[tuple[str, str]]) -> Plan:
    """What must be written while the image is not known: devices that are not wanted go, all else stays as it is."""
    apply, delete = [], []
    for placement in existing:
        kept = tuple(device for device in placement.devices if device.key in wanted)
        if not kept:
            delete.append(placement)
        elif len(kept) < len(placement.devices):
            apply.append(replace(placement, devices=kept))
    return Plan(tuple(apply), tuple(delete))


def _placement(
    application: WasmApplication, gateway: str, name: str, devices: list[EdgeDevice], image: Image
) -> Placement:
    metadata = application.metadata
    grants = grants_of(application, devices)
    return Placement(
        metadata=Metadata(
            name=name,
            namespace=gateway_namespace(gateway),
            labels={
                LABEL_APPLICATION: metadata.name,
                LABEL_APPLICATION_NAMESPACE: metadata.namespace,
                LABEL_APPLICATION_UID: metadata.uid,
            },
        ),
        gateway=gateway,
        application=ApplicationRef(metadata.namespace, metadata.name, metadata.uid, metadata.generation),
        image=image.reference.partition("@")[0],
        digest=image.digest,
        devices=tuple(
            PlacementDevice(
                device.metadata.name,
                device.metadata.namespace,
                device.metadata.uid,
                device.device_class.value,
                tuple(sorted(device.capabilities)),
            )
            for device in devices
        ),
        limits=limits_of(application),
        grants=grants,
        isolation=application.isolation,
        cpu_millis=application.cpu_limit,
        allow_in_flight=application.allow_in_flight,
        px4=_px4(application) if Grant.PX4 in grants else None,
        env=dict(sorted(application.env.items())),
        ros2=ros2_of(application),
    )


def _px4(application: WasmApplication) -> PlacementPx4:
    px4 = application.px4
    return PlacementPx4(tuple(sorted(px4.rights)), px4.system_id, px4.component_id)


def _same(placement: Placement | None, wanted: Placement) -> bool:
    if placement is None or placement.metadata.deleting:
        return False
    labels = placement.metadata.labels
    return placement.spec_to_dict() == wanted.spec_to_dict() and all(
        labels.get(name) == value for name, value in wanted.metadata.labels.items()
    )
