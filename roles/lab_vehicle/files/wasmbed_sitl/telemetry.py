"""What a vehicle sends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wasmbed_sitl.constants import COPTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wasmbed_sitl.vehicle import SimulatedVehicle


def messages_of(vehicle: SimulatedVehicle, now: float) -> Iterator[tuple[str, float, tuple[str, dict[str, Any]]]]:
    """Name, times a second, and fields of every message it sends by itself."""
    since = int((now - vehicle.boot) * 1000)
    latitude, longitude = (round(value * 1e7) for value in vehicle.place)
    altitude = round((vehicle.home[2] + vehicle.height) * 1000)
    custom = vehicle.mode[0] << 16 | vehicle.mode[1] << 24 if vehicle.autopilot == "px4" else COPTER[vehicle.mode]
    battery = {
        "voltage_battery": 16000,
        "current_battery": 100,
        "battery_remaining": round(vehicle.battery),
        "load": 200,
    }
    fields: list[tuple[str, float, dict[str, Any]]] = [
        (
            "HEARTBEAT",
            1.0,
            {
                "type": 2,
                "autopilot": 12 if vehicle.autopilot == "px4" else 3,
                "base_mode": 1 | (128 if vehicle.armed else 0),
                "custom_mode": custom,
                "system_status": 4 if vehicle.armed else 3,
                "mavlink_version": 3,
            },
        ),
        ("SYS_STATUS", 1.0, battery),
        ("SYSTEM_TIME", 1.0, {"time_unix_usec": int(now * 1e6), "time_boot_ms": since}),
        ("EXTENDED_SYS_STATE", 5.0, {"vtol_state": 0, "landed_state": vehicle.landed}),
        (
            "GPS_RAW_INT",
            2.0,
            {
                "time_usec": since * 1000,
                "fix_type": vehicle.fix,
                "lat": latitude,
                "lon": longitude,
                "alt": altitude,
                "satellites_visible": 12,
            },
        ),
        (
            "GLOBAL_POSITION_INT",
            vehicle.rate_hz,
            {
                "time_boot_ms": since,
                "lat": latitude,
                "lon": longitude,
                "alt": altitude,
                "relative_alt": round(vehicle.height * 1000),
                **{name: round(speed * 100) for name, speed in zip(("vx", "vy", "vz"), vehicle.velocity, strict=True)},
                "hdg": 0,
            },
        ),
        (
            "LOCAL_POSITION_NED",
            vehicle.rate_hz,
            {
                "time_boot_ms": since,
                "x": vehicle.north,
                "y": vehicle.east,
                "z": -vehicle.height,
                **dict(zip(("vx", "vy", "vz"), vehicle.velocity, strict=True)),
            },
        ),
        ("ATTITUDE", vehicle.rate_hz, {"time_boot_ms": since, "roll": 0.01, "pitch": -0.02, "yaw": 0.3}),
        (
            "HOME_POSITION",
            0.5,
            {
                "latitude": round(vehicle.home[0] * 1e7),
                "longitude": round(vehicle.home[1] * 1e7),
                "altitude": round(vehicle.home[2] * 1000),
                "q": [1.0, 0.0, 0.0, 0.0],
            },
        ),
        # Where the local frame is: always home, here.
        (
            "GPS_GLOBAL_ORIGIN",
            1.0,
            {
                "latitude": round(vehicle.home[0] * 1e7),
                "longitude": round(vehicle.home[1] * 1e7),
                "altitude": round(vehicle.home[2] * 1000),
                "time_usec": since * 1000,
            },
        ),
        (
            "MISSION_CURRENT",
            1.0,
            {"seq": vehicle.item, "total": len(vehicle.plans[0].items), "mission_state": vehicle.mission_state},
        ),
        ("AUTOPILOT_VERSION", 0.0, {"capabilities": 0b10_0000_0000_1110, "uid": vehicle.system}),
    ]
    for name, rate, values in fields:
        yield name, rate, (name, values)
