"""MAVLink to px4_msgs: units to SI, MAVLink's stand-ins for "unknown" to PX4's (NaN, -1, 0 or a flag)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.px4 import states
from wasmbed.bridges.mavlink.px4.messages import Px4Message, definitions
from wasmbed.bridges.mavlink.px4.rotations import from_euler, to_euler
from wasmbed.bridges.mavlink.px4.values import battery_values, gps_values, manual_values

NAN = math.nan
NAN3 = (NAN, NAN, NAN)
_ARMED_FLAG, _HIL_FLAG = 128, 32
_CRITICAL = 5
_PREARM_CHECK = 1 << 28
_QUATERNION_PREFERRED_US = 1_000_000
_DOWNWARD = 25
_INVALID_RELATIVE_TIME = 2**31 - 1
_ENUM_RESULTS_SINCE_1_18 = 7
_UNSUPPORTED = 3
_POSE_FRAMES = {1: 1, 20: 2}
_VELOCITY_FRAMES = {1: 1, 20: 2, 8: 3, 12: 3}

Values = dict[str, Any]


class ToPx4:
    """Converts one vehicle's messages for one PX4 release.

    `receive` takes a message and the time in microseconds, and gives what it makes known: some px4_msgs need several
    MAVLink messages, and are given with the one that carries their main values. `offset_us` is added to the times of
    samples, which are the vehicle's, to be on the same clock.
    """

    def __init__(self, release: str) -> None:
        self.offset_us = 0
        self._release = release
        self._types = definitions(release)
        self._extended: Mapping[str, Any] = {}
        self._prearm_ok = False
        self._nav: tuple[int, int] = (0, 0)
        self._armed_since = 0
        self._quaternion_at = -_QUATERNION_PREFERRED_US
        self._heading = NAN
        self._origin: tuple[int, float, float, float] | None = None
        self._accuracy: tuple[float, float] = (NAN, NAN)
        self._ellipsoid: float = NAN
        self._bottom: tuple[float, bool] = (NAN, False)
        self._imu_at: int | None = None
        self._home_updates = 0

    def receive(self, item: Message, time_us: int) -> list[Px4Message]:
        """The px4_msgs of a message; none for a message that only adds to a later one, or is not converted."""
        handler = self._HANDLERS.get(item.name)
        return handler(self, item.values, time_us, item) if handler is not None else []

    def _sample(self, vehicle_us: int) -> int:
        return max(0, vehicle_us + self.offset_us)

    def _one(self, name: str, time_us: int, values: Values) -> list[Px4Message]:
        values["timestamp"] = time_us
        return [self._types[name].make(values)]

    def _heartbeat(self, v: Mapping[str, Any], time_us: int, item: Message) -> list[Px4Message]:
        if v["autopilot"] == 8:
            return []
        armed = bool(v["base_mode"] & _ARMED_FLAG)
        self._armed_since = (self._armed_since or time_us) if armed else 0
        state = states.nav_state(v["custom_mode"], self._release)
        if state is None:
            # A mode that the release cannot name: its field has no value for that, so the last one stays.
            state = self._nav[0]
        if state != self._nav[0]:
            self._nav = (state, time_us)
        vtol = self._extended.get("vtol_state", 0)
        values = {
            "armed_time": self._armed_since,
            "arming_state": states.ARMED if armed else states.DISARMED,
            "nav_state_timestamp": self._nav[1],
            "nav_state_user_intention": state,
            "nav_state": state,
            "nav_state_display": state,
            "accepts_offboard_setpoints": state == states.OFFBOARD,
            "hil_state": int(bool(v["base_mode"] & _HIL_FLAG)),
            "vehicle_type": states.vehicle_type(v["type"], vtol),
            "failsafe": v["system_status"] in (_CRITICAL, _CRITICAL + 1),
            "is_vtol": states.is_vtol(v["type"]),
            "is_vtol_tailsitter": states.is_tailsitter(v["type"]),
            "in_transition_mode": vtol in (1, 2),
            "in_transition_to_fw": vtol == 1,
            "system_type": v["type"],
            "system_id": item.system,
            "component_id": item.component,
            "pre_flight_checks_pass": self._prearm_ok,
        }
        return self._one("VehicleStatus", time_us, values)

    def _sys_status(self, v: Mapping[str, Any], _time_us: int, _item: Message) -> list[Px4Message]:
        enabled, health = v["onboard_control_sensors_enabled"], v["onboard_control_sensors_health"]
        self._prearm_ok = bool(enabled & health & _PREARM_CHECK)
        return []

    def _extended_state(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        self._extended = v
        landed = v["landed_state"] == 1
        values = {
            "landed": landed,
            "maybe_landed": landed,
            "ground_contact": landed,
            "in_descend": v["landed_state"] == 4,
        }
        return self._one("VehicleLandDetected", time_us, values) if v["landed_state"] else []

    def _battery(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        return self._one("BatteryStatus", time_us, battery_values(v))

    def _local_position(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        at, latitude, longitude, altitude = self._origin or (0, NAN, NAN, NAN)
        distance, distance_valid = self._bottom
        values = {
            "timestamp_sample": self._sample(v["time_boot_ms"] * 1000),
            "xy_valid": True,
            "z_valid": True,
            "v_xy_valid": True,
            "v_z_valid": True,
            "x": v["x"],
            "y": v["y"],
            "z": v["z"],
            "vx": v["vx"],
            "vy": v["vy"],
            "vz": v["vz"],
            "z_deriv": v["vz"],
            "ax": NAN,
            "ay": NAN,
            "az": NAN,
            "heading": self._heading,
            "heading_var": NAN,
            "unaided_heading": NAN,
            "tilt_var": NAN,
            "heading_good_for_control": not math.isnan(self._heading),
            "xy_global": self._origin is not None,
            "z_global": self._origin is not None,
            "ref_timestamp": at,
            "ref_lat": latitude,
            "ref_lon": longitude,
            "ref_alt": altitude,
            "dist_bottom": distance,
            "dist_bottom_var": NAN,
            "dist_bottom_valid": distance_valid,
            "eph": self._accuracy[0],
            "epv": self._accuracy[1],
            "evh": NAN,
            "evv": NAN,
            # PX4's own value where no limit holds.
            "vxy_max": math.inf,
            "vz_max": math.inf,
            "hagl_min": math.inf,
            "hagl_max": math.inf,
            "hagl_max_z": math.inf,
            "hagl_max_xy": math.inf,
        }
        return self._one("VehicleLocalPosition", time_us, values)

    def _global_position(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        values = {
            "timestamp_sample": self._sample(v["time_boot_ms"] * 1000),
            "lat": v["lat"] / 1e7,
            "lon": v["lon"] / 1e7,
            "alt": v["alt"] / 1000,
            "alt_ellipsoid": self._ellipsoid,
            "lat_lon_valid": True,
            "alt_valid": True,
            "eph": self._accuracy[0],
            "epv": self._accuracy[1],
            "terrain_alt": NAN,
        }
        return self._one("VehicleGlobalPosition", time_us, values)

    def _attitude_quaternion(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        self._quaternion_at = time_us
        q = (v["q1"], v["q2"], v["q3"], v["q4"])
        self._heading = to_euler(q)[2]
        return self._one(
            "VehicleAttitude", time_us, {"timestamp_sample": self._sample(v["time_boot_ms"] * 1000), "q": q}
        )

    def _attitude(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        self._heading = v["yaw"]
        if time_us - self._quaternion_at < _QUATERNION_PREFERRED_US:
            return []
        q = from_euler(v["roll"], v["pitch"], v["yaw"])
        return self._one(
            "VehicleAttitude", time_us, {"timestamp_sample": self._sample(v["time_boot_ms"] * 1000), "q": q}
        )

    def _odometry(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        pose, velocity = _POSE_FRAMES.get(v["frame_id"], 0), _VELOCITY_FRAMES.get(v["child_frame_id"], 0)
        values = {
            "timestamp_sample": self._sample(v["time_usec"]),
            "pose_frame": pose,
            "position": (v["x"], v["y"], v["z"]) if pose else NAN3,
            "q": v["q"] if pose else (NAN,) * 4,
            "velocity_frame": velocity,
            "velocity": (v["vx"], v["vy"], v["vz"]) if velocity else NAN3,
            "angular_velocity": (v["rollspeed"], v["pitchspeed"], v["yawspeed"]),
            "position_variance": _diagonal(v["pose_covariance"], 0),
            "orientation_variance": _diagonal(v["pose_covariance"], 3),
            "velocity_variance": _diagonal(v["velocity_covariance"], 0),
            "reset_counter": v["reset_counter"],
            "quality": v["quality"],
        }
        return self._one("VehicleOdometry", time_us, values)

    def _imu(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        updated, at = v["fields_updated"], v["time_usec"]
        passed = 0 if self._imu_at is None else max(0, min(at - self._imu_at, 1_000_000))
        self._imu_at = at
        if updated & 0b111000 != 0b111000:
            return []
        accelerometer = updated & 0b111 == 0b111
        values = {
            "gyro_rad": (v["xgyro"], v["ygyro"], v["zgyro"]),
            "gyro_integral_dt": passed,
            "accelerometer_timestamp_relative": 0 if accelerometer else _INVALID_RELATIVE_TIME,
            "accelerometer_m_s2": (v["xacc"], v["yacc"], v["zacc"]),
            "accelerometer_integral_dt": passed,
        }
        return self._one("SensorCombined", time_us, values)

    def _gps(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        values = gps_values(v)
        values["timestamp_sample"] = self._sample(v["time_usec"])
        self._ellipsoid = values["altitude_ellipsoid_m"]
        return self._one("SensorGps", time_us, values)

    def _home(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        self._home_updates += 1
        roll, pitch, yaw = to_euler(v["q"])
        values = {
            "lat": v["latitude"] / 1e7,
            "lon": v["longitude"] / 1e7,
            "alt": v["altitude"] / 1000,
            "x": v["x"],
            "y": v["y"],
            "z": v["z"],
            "roll": roll,
            "pitch": pitch,
            "yaw": yaw,
            "valid_alt": True,
            "valid_hpos": True,
            "valid_lpos": all(math.isfinite(v[axis]) for axis in "xyz"),
            "update_count": self._home_updates,
        }
        return self._one("HomePosition", time_us, values)

    def _servos(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        if v["port"] != 0:
            return []
        outputs = [float(v[f"servo{number}_raw"]) for number in range(1, 17)]
        count = max((number for number, value in enumerate(outputs, 1) if value), default=0)
        return self._one("ActuatorOutputs", time_us, {"noutputs": count, "output": tuple(outputs)})

    def _outputs(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        count = min((v["active"] & 0xFFFF).bit_length(), 16)
        return self._one("ActuatorOutputs", time_us, {"noutputs": count, "output": tuple(v["actuator"][:16])})

    def _ack(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        result = v["result"]
        if result >= _ENUM_RESULTS_SINCE_1_18 and self._release != "1.18":
            result = _UNSUPPORTED
        values = {
            "command": v["command"],
            "result": result,
            "result_param1": v["progress"],
            "result_param2": v["result_param2"],
            "target_system": v["target_system"],
            "target_component": v["target_component"],
            "from_external": True,
        }
        return self._one("VehicleCommandAck", time_us, values)

    def _manual(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        values = {"timestamp_sample": time_us, **manual_values(v)}
        return self._one("ManualControlSetpoint", time_us, values)

    def _global_origin(self, v: Mapping[str, Any], time_us: int, _item: Message) -> list[Px4Message]:
        self._origin = (time_us, v["latitude"] / 1e7, v["longitude"] / 1e7, v["altitude"] / 1000)
        return []

    def _estimator(self, v: Mapping[str, Any], _time_us: int, _item: Message) -> list[Px4Message]:
        self._accuracy = (v["pos_horiz_accuracy"], v["pos_vert_accuracy"])
        return []

    def _distance(self, v: Mapping[str, Any], _time_us: int, _item: Message) -> list[Px4Message]:
        if v["orientation"] == _DOWNWARD:
            valid = v["min_distance"] <= v["current_distance"] <= v["max_distance"]
            self._bottom = (v["current_distance"] / 100, valid)
        return []

    _HANDLERS: ClassVar[dict[str, Callable[["ToPx4", Mapping[str, Any], int, Message], list[Px4Message]]]] = {
        "HEARTBEAT": _heartbeat,
        "SYS_STATUS": _sys_status,
        "EXTENDED_SYS_STATE": _extended_state,
        "BATTERY_STATUS": _battery,
        "LOCAL_POSITION_NED": _local_position,
        "GLOBAL_POSITION_INT": _global_position,
        "ATTITUDE_QUATERNION": _attitude_quaternion,
        "ATTITUDE": _attitude,
        "ODOMETRY": _odometry,
        "HIGHRES_IMU": _imu,
        "GPS_RAW_INT": _gps,
        "HOME_POSITION": _home,
        "SERVO_OUTPUT_RAW": _servos,
        "ACTUATOR_OUTPUT_STATUS": _outputs,
        "COMMAND_ACK": _ack,
        "MANUAL_CONTROL": _manual,
        "GPS_GLOBAL_ORIGIN": _global_origin,
        "ESTIMATOR_STATUS": _estimator,
        "DISTANCE_SENSOR": _distance,
    }


CONVERTED = frozenset(ToPx4._HANDLERS)


def _diagonal(upper: tuple[float, ...], start: int) -> tuple[float, float, float]:
    # The upper triangle of a 6x6 matrix, row by row: its diagonal is at 0, 6, 11, 15, 18, 20.
    if not math.isfinite(upper[0]):
        return NAN3
    at = (0, 6, 11, 15, 18, 20)[start : start + 3]
    return upper[at[0]], upper[at[1]], upper[at[2]]
