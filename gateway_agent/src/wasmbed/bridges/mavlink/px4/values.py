"""The values of single MAVLink messages in px4_msgs' fields: battery, satellite positioning, sticks."""

import math
from collections.abc import Mapping
from typing import Any

from wasmbed.bridges.mavlink.px4.messages import known

NAN = math.nan
U16 = 0xFFFF
I16 = 0x7FFF
_WARNINGS = {2: 1, 3: 2, 4: 3, 5: 4, 6: 6, 7: 7}


def battery_values(v: Mapping[str, Any]) -> dict[str, Any]:
    """BATTERY_STATUS as BatteryStatus: volts, amperes, shares of 1."""
    cells = [millivolts / 1000 for millivolts in v["voltages"] if millivolts != U16]
    cells += [millivolts / 1000 for millivolts in v["voltages_ext"] if millivolts]
    # One value alone is the whole battery's voltage.
    single = len(cells) == 1
    voltage = sum(cells)
    return {
        "connected": voltage > 0.0,
        "voltage_v": voltage,
        "voltage_filtered_v": voltage,
        "current_a": v["current_battery"] / 100 if v["current_battery"] != -1 else -1.0,
        "current_filtered_a": v["current_battery"] / 100 if v["current_battery"] != -1 else -1.0,
        "current_average_a": -1.0,
        "discharged_mah": float(v["current_consumed"]),
        "remaining": v["battery_remaining"] / 100 if v["battery_remaining"] >= 0 else -1.0,
        "scale": -1.0,
        "time_remaining_s": float(v["time_remaining"]) if v["time_remaining"] > 0 else NAN,
        "temperature": known(v["temperature"], 100, I16),
        "cell_count": 0 if single else len(cells),
        # px4_msgs count batteries from 1.
        "id": v["id"] + 1,
        "voltage_cell_v": (0.0,) * 14 if single else (*cells, *(0.0,) * (14 - len(cells))),
        "max_cell_voltage_delta": 0.0 if single or not cells else max(cells) - min(cells),
        "faults": v["fault_bitmask"] & 0xFFFF,
        "warning": _WARNINGS.get(v["charge_state"], 0),
        "mode": v["mode"] & 0xFF,
    }


def gps_values(v: Mapping[str, Any]) -> dict[str, Any]:
    """GPS_RAW_INT as SensorGps, both in the integers of 1.14 and in the degrees and metres of later releases."""
    ellipsoid = v["alt_ellipsoid"]
    speed, course = known(v["vel"], 100, U16), known(v["cog"], 100, 36000 if v["cog"] == 36000 else U16)
    course = math.radians(course)
    return {
        "lat": v["lat"],
        "lon": v["lon"],
        "alt": v["alt"],
        "alt_ellipsoid": ellipsoid,
        "latitude_deg": v["lat"] / 1e7,
        "longitude_deg": v["lon"] / 1e7,
        "altitude_msl_m": v["alt"] / 1000,
        "altitude_ellipsoid_m": ellipsoid / 1000 if ellipsoid else NAN,
        "s_variance_m_s": v["vel_acc"] / 1000 if v["vel_acc"] else NAN,
        "c_variance_rad": math.radians(v["hdg_acc"] / 1e5) if v["hdg_acc"] else NAN,
        "fix_type": v["fix_type"],
        "eph": v["h_acc"] / 1000 if v["h_acc"] else NAN,
        "epv": v["v_acc"] / 1000 if v["v_acc"] else NAN,
        "hdop": known(v["eph"], 100, U16),
        "vdop": known(v["epv"], 100, U16),
        "vel_m_s": speed,
        "vel_n_m_s": speed * math.cos(course),
        "vel_e_m_s": speed * math.sin(course),
        # GPS_RAW_INT has no vertical speed, so the vector is not complete.
        "vel_d_m_s": NAN,
        "cog_rad": course,
        "satellites_used": 0 if v["satellites_visible"] == 255 else v["satellites_visible"],
        # 0: the receiver has no heading; 36000 is north, as 0 is taken.
        "heading": math.radians(v["yaw"] / 100) if v["yaw"] not in (0, U16) else NAN,
        "heading_offset": NAN,
        "heading_accuracy": NAN,
    }


def manual_values(v: Mapping[str, Any]) -> dict[str, Any]:
    """MANUAL_CONTROL as ManualControlSetpoint: sticks from -1 to 1."""
    auxiliary = {
        f"aux{number}": v[f"aux{number}"] / 1000 if v["enabled_extensions"] >> (number + 1) & 1 else NAN
        for number in range(1, 7)
    }
    return {
        "valid": True,
        "data_source": 2,
        "pitch": known(v["x"], 1000, I16),
        "roll": known(v["y"], 1000, I16),
        # MAVLink's 0 to 1000 is -1 to 1 here.
        "throttle": known(v["z"], 500, I16) - 1.0,
        "yaw": known(v["r"], 1000, I16),
        "flaps": NAN,
        **auxiliary,
        "sticks_moving": False,
        "buttons": v["buttons"],
    }
