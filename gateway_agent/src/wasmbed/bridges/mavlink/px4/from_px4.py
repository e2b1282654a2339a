"""px4_msgs to MAVLink: what is published for a vehicle on `/fmu/in/*`."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.offboard import LOCAL_NED
from wasmbed.bridges.mavlink.operations import Ids
from wasmbed.bridges.mavlink.px4.messages import Px4Message, definitions

CONTROL_MODE_TIMEOUT_US = 500_000
_I16 = 0x7FFF
_GLOBAL = 0
_MAX_COMMAND = 0xFFFF
_MAX_FLOAT = 3.4e38
_POSITIONAL = frozenset({16, 17, 19, 20, 21, 22, 34, 84, 85, 179, 192, 195, 201})
"""Commands whose parameters 5 and 6 are a place, which a 32-bit float holds to half a metre only."""

_NOTHING = (math.nan,) * 3
_AXES = ("x", "y", "z", "vx", "vy", "vz", "afx", "afy", "afz", "yaw", "yaw_rate")
_BITS = (*range(9), 10, 11)
_POSE_FRAMES = {1: 1, 2: 20}
_VELOCITY_FRAMES = {1: 1, 2: 20, 3: 12}


class FromPx4:
    """Converts what is meant for one vehicle.

    Setpoints are passed on only while OffboardControlMode says so: it is the proof of life, and must not be older than
    half a second (`time_us` is one clock for all messages).
    """

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._mode: Px4Message | None = None
        self._mode_at = 0

    def receive(self, item: Px4Message, time_us: int) -> list[Message]:
        """The messages to send; none for one that is not converted, or a setpoint without a control mode."""
        handler = self._HANDLERS.get(item.name)
        return handler(self, item, time_us) if handler is not None else []

    def command_of(self, item: Message, release: str, time_us: int) -> Px4Message:
        """COMMAND_LONG or COMMAND_INT as VehicleCommand."""
        v = item.values
        if item.name == "COMMAND_INT":
            scale = 1e7 if v["frame"] in (0, 3, 5, 6, 10, 11) else 1e4
            places = {"param5": v["x"] / scale, "param6": v["y"] / scale, "param7": v["z"]}
        else:
            places = {f"param{number}": v[f"param{number}"] for number in (5, 6, 7)}
        values = {
            "timestamp": time_us,
            **{f"param{number}": v[f"param{number}"] for number in (1, 2, 3, 4)},
            **places,
            "command": v["command"],
            "target_system": v["target_system"],
            "target_component": v["target_component"],
            "source_system": item.system,
            "source_component": item.component,
            "confirmation": v.get("confirmation", 0),
            "from_external": True,
        }
        return definitions(release)["VehicleCommand"].make(values)

    def _message(self, name: str, **values: Any) -> list[Message]:
        targets = {"target_system": self._ids.system, "target_component": self._ids.component}
        return [Message(name, {**targets, **values})]

    def _command(self, item: Px4Message, _time_us: int) -> list[Message]:
        v = item.values
        if v["target_system"] not in (0, self._ids.system) or v["command"] > _MAX_COMMAND:
            # Numbers above 16 bits are PX4's own, between its modules.
            return []
        common = {"command": v["command"], **{f"param{number}": v[f"param{number}"] for number in (1, 2, 3, 4)}}
        x, y = v["param5"], v["param6"]
        place = math.isfinite(x) and math.isfinite(y) and abs(x) <= 90 and abs(y) <= 180
        if v["command"] in _POSITIONAL and place and (x or y):
            return self._message(
                "COMMAND_INT", frame=_GLOBAL, x=round(x * 1e7), y=round(y * 1e7), z=v["param7"], **common
            )
        if abs(x) > _MAX_FLOAT or abs(y) > _MAX_FLOAT:
            return []
        places = {"param5": x, "param6": y, "param7": v["param7"]}
        return self._message("COMMAND_LONG", confirmation=v["confirmation"], **places, **common)

    def _control_mode(self, item: Px4Message, time_us: int) -> list[Message]:
        self._mode, self._mode_at = item, time_us
        return []

    def _controls(self, time_us: int, *names: str) -> bool:
        mode = self._mode
        if mode is None or not 0 <= time_us - self._mode_at <= CONTROL_MODE_TIMEOUT_US:
            return False
        return any(mode[name] for name in names)

    def _trajectory(self, item: Px4Message, time_us: int) -> list[Message]:
        if not self._controls(time_us, "position", "velocity", "acceleration"):
            return []
        v = item.values
        position = v["position"] if self._controls(time_us, "position") else _NOTHING
        velocity = v["velocity"] if self._controls(time_us, "position", "velocity") else _NOTHING
        axes = (*position, *velocity, *v["acceleration"])
        if not any(map(math.isfinite, axes)):
            return []
        numbers = (*axes, v["yaw"], v["yawspeed"])
        # Each axis has its bit, so NaN in one is passed on as that axis not being controlled.
        mask = sum(1 << bit for bit, number in zip(_BITS, numbers, strict=True) if not math.isfinite(number))
        sent = (number if math.isfinite(number) else 0.0 for number in numbers)
        return self._message(
            "SET_POSITION_TARGET_LOCAL_NED",
            time_boot_ms=time_us // 1000 & 0xFFFFFFFF,
            coordinate_frame=LOCAL_NED,
            type_mask=mask,
            **dict(zip(_AXES, sent, strict=True)),
        )

    def _attitude(self, item: Px4Message, time_us: int) -> list[Message]:
        q = item["q_d"]
        if not self._controls(time_us, "attitude") or not all(map(math.isfinite, q)):
            return []
        rate = _finite(item["yaw_sp_move_rate"])
        return self._message(
            "SET_ATTITUDE_TARGET",
            time_boot_ms=time_us // 1000 & 0xFFFFFFFF,
            type_mask=0b011 if rate is not None else 0b111,
            q=q,
            body_yaw_rate=rate or 0.0,
            **_thrust(item["thrust_body"]),
        )

    def _rates(self, item: Px4Message, time_us: int) -> list[Message]:
        rates = (item["roll"], item["pitch"], item["yaw"])
        if not self._controls(time_us, "body_rate") or not all(map(math.isfinite, rates)):
            return []
        return self._message(
            "SET_ATTITUDE_TARGET",
            time_boot_ms=time_us // 1000 & 0xFFFFFFFF,
            type_mask=1 << 7,
            q=(1.0, 0.0, 0.0, 0.0),
            body_roll_rate=rates[0],
            body_pitch_rate=rates[1],
            body_yaw_rate=rates[2],
            **_thrust(item["thrust_body"]),
        )

    def _manual(self, item: Px4Message, _time_us: int) -> list[Message]:
        if not item["valid"]:
            return []
        extensions, auxiliary = 0, {}
        for number in range(1, 7):
            value = _finite(item[f"aux{number}"])
            if value is not None:
                extensions |= 1 << (number + 1)
                auxiliary[f"aux{number}"] = _stick(value)
        throttle = item["throttle"]
        values = {
            "target": self._ids.system,
            "x": _stick(item["pitch"]),
            "y": _stick(item["roll"]),
            "z": round((max(-1.0, min(1.0, throttle)) + 1.0) * 500) if math.isfinite(throttle) else _I16,
            "r": _stick(item["yaw"]),
            "buttons": item.values.get("buttons", 0),
            "enabled_extensions": extensions,
            **auxiliary,
        }
        return [Message("MANUAL_CONTROL", values)]

    def _odometry(self, item: Px4Message, _time_us: int) -> list[Message]:
        pose, velocity = _POSE_FRAMES.get(item["pose_frame"]), _VELOCITY_FRAMES.get(item["velocity_frame"])
        if pose is None:
            return []
        x, y, z = item["position"]
        vx, vy, vz = item["velocity"] if velocity is not None else (math.nan,) * 3
        roll, pitch, yaw = item["angular_velocity"]
        values = {
            "time_usec": item["timestamp_sample"],
            "frame_id": pose,
            "child_frame_id": velocity if velocity is not None else 12,
            "x": x,
            "y": y,
            "z": z,
            "vx": vx,
            "vy": vy,
            "vz": vz,
            "q": item["q"],
            "rollspeed": roll,
            "pitchspeed": pitch,
            "yawspeed": yaw,
            "pose_covariance": _covariance((*item["position_variance"], *item["orientation_variance"])),
            "velocity_covariance": _covariance((*item["velocity_variance"], math.nan, math.nan, math.nan)),
            "reset_counter": item["reset_counter"],
            "quality": item["quality"],
        }
        return [Message("ODOMETRY", values)]

    _HANDLERS: ClassVar[dict[str, Callable[["FromPx4", Px4Message, int], list[Message]]]] = {
        "VehicleCommand": _command,
        "OffboardControlMode": _control_mode,
        "TrajectorySetpoint": _trajectory,
        "VehicleAttitudeSetpoint": _attitude,
        "VehicleRatesSetpoint": _rates,
        "ManualControlSetpoint": _manual,
        "VehicleOdometry": _odometry,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stick(value: float) -> int:
    return round(max(-1.0, min(1.0, value)) * 1000) if math.isfinite(value) else _I16


def _thrust(body: tuple[float, ...]) -> dict[str, Any]:
    # Down is positive, so a multicopter's thrust is the negative of z; a fixed wing's is x.
    forward, _, down = (value if math.isfinite(value) else 0.0 for value in body)
    return {"thrust": -down if down else forward, "thrust_body": (forward, 0.0, down)}


def _covariance(diagonal: tuple[float, ...]) -> tuple[float, ...]:
    # The upper triangle of a 6x6 matrix with a known diagonal only; NaN first when not even that is known.
    upper = [0.0] * 21
    for at, value in zip((0, 6, 11, 15, 18, 20), diagonal, strict=True):
        upper[at] = value
    return tuple(upper)
