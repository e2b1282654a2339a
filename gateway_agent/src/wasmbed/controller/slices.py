"""The DeviceSlices of one gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.api import DeviceSlice, Metadata, SliceDevice, gateway_namespace
from wasmbed.controller.chunks import assign, by_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasmbed.api import EdgeDevice

PREFIX = "devices-"


@dataclass(frozen=True)
class SlicePlan:
    """What must be written so that the DeviceSlices are as they should be."""

    apply: tuple[DeviceSlice, ...] = ()
    delete: tuple[DeviceSlice, ...] = ()


def plan_slices(gateway: str, devices: Iterable[EdgeDevice], existing: Iterable[DeviceSlice]) -> SlicePlan:
    """What must be written for one gateway, given the devices it serves."""
    by_key = {device.metadata.key: device for device in devices}
    numbered, foreign = by_number(existing, PREFIX)
    taken = {number: [device.key for device in item.devices] for number, item in numbered.items()}
    chunks = assign(by_key, taken)
    apply = []
    for number, keys in chunks.items():
        wanted = DeviceSlice(
            metadata=Metadata(name=f"{PREFIX}{number}", namespace=gateway_namespace(gateway)),
            gateway=gateway,
            devices=tuple(_entry(by_key[key]) for key in keys),
        )
        present = numbered.get(number)
        if present is None or present.metadata.deleting or present.devices != wanted.devices:
            apply.append(wanted)
    gone = [item for number, item in sorted(numbered.items()) if number not in chunks]
    return SlicePlan(tuple(apply), (*gone, *foreign))


def _entry(device: EdgeDevice) -> SliceDevice:
    return SliceDevice(
        name=device.metadata.name,
        namespace=device.metadata.namespace,
        uid=device.metadata.uid,
        device_class=device.device_class.value,
        public_key=device.public_key,
        suspended=device.suspend,
        system_id=device.px4_system_id,
    )
