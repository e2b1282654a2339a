"""What flight safety decides about: devices, what applications claim of them, vehicles. No input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.api import MODE_LOST, Incident, Vehicle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wasmbed.api import Placement
    from wasmbed.bridges.mavlink import VehicleState

Ids = tuple[int, int]
"""MAVLink system and component."""

AUTOPILOT_COMPONENT = 1
BATTERY_STEP = 5
BATTERY_SLACK = 2
# Modes in which a pilot flies.
PILOT_MODES = frozenset({"manual", "altitude", "position", "position_slow", "acro", "stabilized", "altitude_cruise"})
_FIX_2D = 2


@dataclass(frozen=True)
class DeviceRecord:
    """What the DeviceSlice says of a device: the kill switch, and the system id of its autopilot if it states one."""

    suspended: bool = False
    system_id: int | None = None


@dataclass(frozen=True)
class Claim:
    """What a Placement says of one application on one device; both are namespace/name."""

    application: str
    device: str
    rights: frozenset[str] = frozenset()
    system_id: int | None = None
    component_id: int | None = None


@dataclass(frozen=True)
class Gate:
    """What holds starts and updates on a device up: the kill switch, or that its vehicle flies (in words)."""

    suspended: bool = False
    flying: str = ""


def claims_of(placement: Placement) -> dict[tuple[str, str], Claim]:
    """The claims of a Placement, by application and device."""
    if placement.px4 is None:
        return {}
    application = f"{placement.application.namespace}/{placement.application.name}"
    px4 = placement.px4
    claims = (
        Claim(application, f"{device.namespace}/{device.name}", frozenset(px4.rights), px4.system_id, px4.component_id)
        for device in placement.devices
        if "px4" in device.capabilities
    )
    return {(claim.application, claim.device): claim for claim in claims}


def bind(devices: Mapping[str, DeviceRecord], claims: Iterable[Claim]) -> dict[str, Ids]:
    """Which vehicle is whose: by device.

    A device's own system id counts; where it states none, the smallest that an application names for it, unless that is
    another device's own: an application must not reach a vehicle that was not given to its device.
    """
    stated = {record.system_id for record in devices.values()}
    systems = {name: record.system_id for name, record in devices.items() if record.system_id is not None}
    named: dict[str, int] = {}
    components: dict[str, int] = {}
    for claim in claims:
        if claim.system_id is not None and claim.system_id not in stated and claim.device not in systems:
            named[claim.device] = min(claim.system_id, named.get(claim.device, 255))
        if claim.component_id is not None:
            components[claim.device] = min(claim.component_id, components.get(claim.device, 255))
    return {
        device: (system, components.get(device, AUTOPILOT_COMPONENT)) for device, system in (systems | named).items()
    }


def view(state: VehicleState, shown: Vehicle | None, *, was_flying: bool) -> Vehicle | None:
    """A vehicle as statuses show it, None while none was ever heard.

    `was_flying` says so of one that was lost; `shown` is what they show now, which a battery at a step does not change
    to and fro.
    """
    if not state.connected:
        if not state.mode:
            return None
        return Vehicle(was_flying and state.armed, was_flying, MODE_LOST)
    battery = state.battery_percent
    if battery is not None:
        # To the step below: rounding up would show what is not there.
        step = battery - battery % BATTERY_STEP
        before = shown.battery if shown is not None else None
        keeps = before is not None and before - BATTERY_SLACK <= battery < before + BATTERY_STEP + BATTERY_SLACK
        battery = before if keeps else step
    fix = "3D" if state.fix > _FIX_2D else "2D" if state.fix == _FIX_2D else "none"
    return Vehicle(state.armed, state.in_air, state.mode[:32], battery, fix)


def flying_words(state: VehicleState) -> str:
    """Why a vehicle that is heard holds changes up; empty when it is disarmed and on the ground."""
    if state.in_air:
        return "is in the air"
    return "is armed" if state.armed else ""


def restored(value: object) -> dict[str, list[Incident]]:
    """The incidents of devices as they were saved; what is none is left out."""
    rows = value if isinstance(value, dict) else {}
    found = {name: [_incident(item) for item in items] for name, items in rows.items() if isinstance(items, list)}
    return {name: [item for item in items if item is not None] for name, items in found.items()}


def _incident(value: object) -> Incident | None:
    if not isinstance(value, dict):
        return None
    texts = [value.get(name, "") for name in ("time", "reason", "message", "application")]
    return Incident(*texts) if all(isinstance(text, str) for text in texts) and texts[0] and texts[1] else None
