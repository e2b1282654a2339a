"""What a Placement says for the host calls of an instance."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from wasmbed.api import DeviceClass
from wasmbed.hostcalls import HostInstance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.api import Placement, PlacementDevice
    from wasmbed.runtime import StartRequest

_KINDS = (("topics", "topic"), ("services", "service"), ("actions", "action"))


def route_handles(ros2: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Alias, direction and kind of every route in the order of their handles, as StartRequest has them."""
    return tuple(
        (str(entry.get("name", entry.get(kind, ""))), str(entry.get("direction", "")), kind)
        for key, kind in _KINDS
        for entry in ros2.get(key, [])
    )


def ros2_right(ros2: Mapping[str, Any]) -> tuple[str, ...]:
    """A right that names the content of the routes: another type or QoS makes another instance."""
    if not ros2:
        return ()
    content = json.dumps(ros2, sort_keys=True, separators=(",", ":")).encode()
    return (f"ros2-{hashlib.sha256(content).hexdigest()[:16]}",)


def host_instance(placement: Placement, device: PlacementDevice, request: StartRequest) -> HostInstance:
    """The instance that `request` starts, as backends of host calls see it."""
    return HostInstance(
        name=request.instance,
        application=request.application,
        application_uid=placement.application.uid,
        device=request.device,
        grants=frozenset(request.grants),
        rights=frozenset(request.rights),
        ros2=placement.ros2,
        px4_system_id=placement.px4.system_id if placement.px4 is not None else None,
        capabilities=frozenset(device.capabilities),
        remote=device.device_class != DeviceClass.GATEWAY,
    )
