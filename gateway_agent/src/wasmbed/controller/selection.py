"""Which devices an application asks for, and which gateway serves a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wasmbed.api import EdgeDevice, WasmApplication

# The gateway of devices that have none.
NO_GATEWAY = ""


def selects(application: WasmApplication, device: EdgeDevice) -> bool:
    """Whether an application asks for a device: same namespace, type and labels of one of its targets."""
    if device.metadata.namespace != application.metadata.namespace or device.metadata.deleting:
        return False
    return any(
        target.device_type == device.device_type and target.selector.matches(device.metadata.labels)
        for target in application.targets
    )


def gateway_of(device: EdgeDevice, names: Collection[str], by_endpoint: Mapping[str, Collection[str]]) -> str:
    """The gateway that serves a device, or `NO_GATEWAY`.

    `names` are those of the gateways that exist and `by_endpoint` those that have an endpoint; among several with the
    same one the first by name.
    """
    if device.gateway_name:
        return device.gateway_name if device.gateway_name in names else NO_GATEWAY
    if device.gateway_endpoint:
        return min(by_endpoint.get(device.gateway_endpoint, ()), default=NO_GATEWAY)
    return NO_GATEWAY
