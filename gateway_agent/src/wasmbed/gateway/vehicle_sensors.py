"""What autopilots measure, as sensors of their devices: the newest reading of each kind that somebody asked for."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from wasmbed.runtime.abi import SensorKind
from wasmbed.sensors import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wasmbed.bridges.mavlink import Fleet, Message
    from wasmbed.gateway.flight import Flight
    from wasmbed.gateway.flight_model import Ids

# A reading that is older says nothing of now.
MAX_AGE_S = 5.0
_GRAVITY = 9.80665


def _highres(item: Message) -> tuple[float, ...]:
    return tuple(float(item[name]) for name in ("xacc", "yacc", "zacc", "xgyro", "ygyro", "zgyro"))


def _scaled_imu(item: Message) -> tuple[float, ...]:
    acceleration = (item[name] / 1000 * _GRAVITY for name in ("xacc", "yacc", "zacc"))
    return (*acceleration, *(item[name] / 1000 for name in ("xgyro", "ygyro", "zgyro")))


def _pressure(item: Message) -> tuple[float, ...]:
    return (item["press_abs"] * 100, item["temperature"] / 100)


def _place(item: Message) -> tuple[float, ...]:
    return (item["lat"] / 1e7, item["lon"] / 1e7, item["alt"] / 1000)


def _battery(item: Message) -> tuple[float, ...]:
    millivolts, current, remaining = item["voltage_battery"], item["current_battery"], item["battery_remaining"]
    return (
        millivolts / 1000 if millivolts != 0xFFFF else math.nan,
        current / 100 if current >= 0 else math.nan,
        float(remaining) if remaining >= 0 else math.nan,
    )


# By kind the messages that tell it, the better one first.
_SOURCES: Mapping[SensorKind, tuple[tuple[str, Callable[[Message], tuple[float, ...]]], ...]] = {
    SensorKind.IMU: (("HIGHRES_IMU", _highres), ("SCALED_IMU", _scaled_imu)),
    SensorKind.BAROMETER: (("SCALED_PRESSURE", _pressure),),
    SensorKind.GPS: (("GLOBAL_POSITION_INT", _place),),
    SensorKind.BATTERY: (("SYS_STATUS", _battery),),
}


class VehicleSensors:
    """Readings of the vehicles of devices; messages are decoded from the first question about their kind on."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._fleet: Fleet | None = None
        self._watching: set[SensorKind] = set()
        self._newest: dict[tuple[Ids, str], tuple[float, Reading]] = {}

    def connect(self, fleet: Fleet | None) -> None:
        """Take the fleet that runs from now on, None when it has ended."""
        self._fleet = fleet
        self._newest.clear()
        kinds, self._watching = self._watching, set()
        for kind in kinds:
            self._watch(kind)

    def reading(self, device: str, kind: SensorKind) -> Reading | None:
        """The newest reading of a device's autopilot in the units of the kind, None when there is none of now."""
        if kind not in self._watching:
            self._watch(kind)
        vehicle = self._flight.vehicle_of(device)
        if vehicle is None:
            return None
        ids = (vehicle.ids.system, vehicle.ids.component)
        for name, _ in _SOURCES.get(kind, ()):
            at, found = self._newest.get((ids, name), (-math.inf, None))
            if found is not None and time.monotonic() - at < MAX_AGE_S:
                return found
        return None

    def _watch(self, kind: SensorKind) -> None:
        self._watching.add(kind)
        if self._fleet is not None:
            for name, values in _SOURCES.get(kind, ()):
                self._fleet.watch(name, lambda item, values=values: self._take(item, values))  # type: ignore[misc]

    def _take(self, item: Message, values: Callable[[Message], tuple[float, ...]]) -> None:
        reading = Reading(values(item), time.time_ns())
        self._newest[(item.system, item.component), item.name] = (time.monotonic(), reading)
