"""The section `mavlink` of agent.yaml: how vehicles are reached, and what applications may do with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wasmbed.bridges.mavlink import Geofence, MavlinkConfig, Rates


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
