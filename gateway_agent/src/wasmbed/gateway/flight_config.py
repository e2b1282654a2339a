"""The section `mavlink` of agent.yaml: how vehicles are reached, and what applications may do with them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from wasmbed.bridges.mavlink import Geofence, MavlinkConfig, Rates
from wasmbed.bridges.mavlink.px4 import INPUTS, OUTPUTS

MAX_DOMAIN = 232
_STEERING = frozenset({"ManualControlSetpoint", "VehicleOdometry"})
"""Inputs that move a vehicle in ways that no geofence can judge."""


@dataclass(frozen=True)
class Px4TopicsConfig:
    """Vehicles of the gateway's devices as PX4's ROS 2 topics: `<namespace>/fmu/out/...` and `<namespace>/fmu/in/...`.

    `namespace` holds `{system}` (the MAVLink system id) or `{device}` (its name), unless `vehicles`, system ids, names
    a single one; none are all. Of px4_msgs, `publish` go out and `accept` are taken: none by default. `dangerous` gives
    the grant of that name, and is needed for what steers past a geofence. `domain` is that of the section ros2 without
    one; its `px4_release` is the release.
    """

    namespace: str = "px4_{system}"
    vehicles: tuple[int, ...] = ()
    publish: tuple[str, ...] = tuple(OUTPUTS)
    accept: tuple[str, ...] = ()
    dangerous: bool = False
    domain: int | None = None

    def __post_init__(self) -> None:
        for field_name, given, known in (("publish", self.publish, OUTPUTS), ("accept", self.accept, INPUTS)):
            if unknown := sorted(set(given) - known.keys()):
                raise ValueError(f"{field_name}: {', '.join(unknown)} is not one of {', '.join(known)}")
        if (steering := sorted(_STEERING.intersection(self.accept))) and not self.dangerous:
            raise ValueError(f"accept: {', '.join(steering)} cannot be held inside of a geofence; set dangerous: true")
        if any(not 1 <= system <= 255 for system in self.vehicles):
            raise ValueError("vehicles are MAVLink system ids, 1 to 255")
        if self.domain is not None and not 0 <= self.domain <= MAX_DOMAIN:
            raise ValueError(f"domain must be 0 to {MAX_DOMAIN}, not {self.domain}")
        plain = self.namespace.replace("{system}", "1").replace("{device}", "a")
        if plain and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", plain):
            raise ValueError(f"namespace: {self.namespace!r} is no ROS namespace, such as px4_{{system}}")
        if plain == self.namespace and len(self.vehicles) != 1:
            raise ValueError("namespace needs {system} or {device}, unless vehicles names a single one")

    def namespace_of(self, system: int, device: str) -> str:
        """The namespace of a vehicle whose device has a name of ROS."""
        return self.namespace.replace("{system}", str(system)).replace("{device}", device)


@dataclass(frozen=True)
class FlightConfig(MavlinkConfig):
    """The endpoints of the bridge, and flight safety.

    `geofence` holds for every vehicle, one of `geofences` (by MAVLink system id) in its place. An owner that is lost in
    offboard has its vehicle told to hold for at most `hold_s`. A vehicle of which nothing is heard any more, and that
    was armed then, counts as in flight for `lost_in_flight_s`. All times are seconds.
    """

    geofence: Geofence | None = None
    geofences: Mapping[int, Geofence] = field(default_factory=dict)
    rates: Rates = field(default_factory=lambda: Rates(commands_hz=20.0, setpoints_hz=200.0, writes_hz=20.0))
    hold_s: float = 30.0
    lost_in_flight_s: float = 1800.0
    topics: Px4TopicsConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.hold_s <= 600.0:
            raise ValueError("hold_s must be 1 to 600 seconds")
        if not 10.0 <= self.lost_in_flight_s <= 86_400.0:
            raise ValueError("lost_in_flight_s must be 10 to 86400 seconds")
        if any(not 1 <= system <= 255 for system in self.geofences):
            raise ValueError("geofences are by MAVLink system id, 1 to 255")

    def fence_of(self, system: int) -> Geofence | None:
        """The geofence of a vehicle, None when there is none."""
        return self.geofences.get(system, self.geofence)
