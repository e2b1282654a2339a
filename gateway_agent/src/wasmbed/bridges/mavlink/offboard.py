"""Offboard control: setpoints with proof of life.

The vehicle wants setpoints above 2 Hz for a second before it takes the mode, and goes into its failsafe when they stop.
Whoever commands must renew the setpoint; when that stops, so does the stream: an application that hangs must not fly.
A pilot who leaves the mode ends it, and it is never entered again by itself.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.operations import Ids

RATE_HZ = 20.0
PRIMING_S = 1.2
PROOF_OF_LIFE_S = 0.5
MODE_TIMEOUT_S = 5.0
LOCAL_NED = 1
GLOBAL_RELATIVE_ALT_INT = 6
BODY_FRD = 12

_MAX_NUMBER = 1e7
_NO_POSITION = 0b111
_NO_VELOCITY = 0b111 << 3
_NO_ACCELERATION = 0b111 << 6
_NO_YAW = 1 << 10
_NO_YAW_RATE = 1 << 11


@dataclass(frozen=True, slots=True)
class LocalSetpoint:
    """Metres, metres a second, metres a second squared (north, east, down), radians; None: not controlled."""

    position: tuple[float, float, float] | None = None
    velocity: tuple[float, float, float] | None = None
    acceleration: tuple[float, float, float] | None = None
    yaw: float | None = None
    yaw_rate: float | None = None
    frame: int = LOCAL_NED

    def message(self, time_ms: int) -> Message:
        """SET_POSITION_TARGET_LOCAL_NED."""
        position, velocity, acceleration = (part or (0.0,) * 3 for part in self._vectors())
        return Message(
            "SET_POSITION_TARGET_LOCAL_NED",
            {
                "time_boot_ms": time_ms,
                "coordinate_frame": self.frame,
                "type_mask": _mask(*self._vectors(), self.yaw, self.yaw_rate),
                **dict(zip(("x", "y", "z"), position, strict=True)),
                **dict(zip(("vx", "vy", "vz"), velocity, strict=True)),
                **dict(zip(("afx", "afy", "afz"), acceleration, strict=True)),
                "yaw": self.yaw or 0.0,
                "yaw_rate": self.yaw_rate or 0.0,
            },
        )

    def numbers(self) -> tuple[float, ...]:
        """All numbers that are set."""
        vectors = [value for part in self._vectors() if part is not None for value in part]
        return (*vectors, *(value for value in (self.yaw, self.yaw_rate) if value is not None))

    def _vectors(self) -> tuple[tuple[float, float, float] | None, ...]:
        return self.position, self.velocity, self.acceleration


@dataclass(frozen=True, slots=True)
class GlobalSetpoint:
    """Degrees, metres above home, radians."""

    latitude: float
    longitude: float
    height_m: float
    yaw: float | None = None

    def message(self, time_ms: int) -> Message:
        """SET_POSITION_TARGET_GLOBAL_INT."""
        return Message(
            "SET_POSITION_TARGET_GLOBAL_INT",
            {
                "time_boot_ms": time_ms,
                "coordinate_frame": GLOBAL_RELATIVE_ALT_INT,
                "type_mask": _mask((0.0,) * 3, None, None, self.yaw, None),
                "lat_int": round(self.latitude * 1e7),
                "lon_int": round(self.longitude * 1e7),
                "alt": self.height_m,
                "yaw": self.yaw or 0.0,
            },
        )

    def numbers(self) -> tuple[float, ...]:
        """All numbers that are set."""
        place = (self.latitude, self.longitude, self.height_m)
        return place if self.yaw is None else (*place, self.yaw)


@dataclass(frozen=True, slots=True)
class AttitudeSetpoint:
    """A rotation from body (forward, right, down) to north, east, down, or body rates, and thrust 0 to 1."""

    thrust: float
    quaternion: tuple[float, float, float, float] | None = None
    rates: tuple[float, float, float] | None = None

    def message(self, time_ms: int) -> Message:
        """SET_ATTITUDE_TARGET."""
        roll, pitch, yaw = self.rates or (0.0, 0.0, 0.0)
        mask = (0 if self.rates is not None else 0b111) | (0 if self.quaternion is not None else 1 << 7)
        return Message(
            "SET_ATTITUDE_TARGET",
            {
                "time_boot_ms": time_ms,
                "type_mask": mask,
                "q": self.quaternion or (1.0, 0.0, 0.0, 0.0),
                "body_roll_rate": roll,
                "body_pitch_rate": pitch,
                "body_yaw_rate": yaw,
                "thrust": self.thrust,
            },
        )

    def numbers(self) -> tuple[float, ...]:
        """All numbers that are set."""
        return (self.thrust, *(self.quaternion or ()), *(self.rates or ()))


Setpoint = LocalSetpoint | GlobalSetpoint | AttitudeSetpoint


def _mask(*parts: object) -> int:
    bits = (_NO_POSITION, _NO_VELOCITY, _NO_ACCELERATION, _NO_YAW, _NO_YAW_RATE)
    return sum(bit for part, bit in zip(parts, bits, strict=True) if part is None)


def check_setpoint(setpoint: Setpoint) -> None:
    """Refuse a setpoint that no vehicle should get: ValueError for NaN, infinity, nothing to control, no rotation."""
    numbers = setpoint.numbers()
    # NaN fails the comparison too.
    if not numbers or not all(abs(value) <= _MAX_NUMBER for value in numbers):
        raise ValueError("a setpoint needs finite numbers up to 10 million; leave out what is not controlled")
    if isinstance(setpoint, AttitudeSetpoint):
        if not -1.0 <= setpoint.thrust <= 1.0:
            raise ValueError("thrust must be -1 to 1")
        if setpoint.quaternion is not None and abs(math.hypot(*setpoint.quaternion) - 1.0) > 1e-3:
            raise ValueError("the quaternion must have length 1")
    if isinstance(setpoint, GlobalSetpoint) and not (abs(setpoint.latitude) <= 90 and abs(setpoint.longitude) <= 180):
        raise ValueError(f"{setpoint.latitude}, {setpoint.longitude} is not a place on Earth")


class Phase(StrEnum):
    """Where an offboard control is."""

    IDLE = "idle"
    PRIMING = "priming"
    ENTERING = "entering"
    ACTIVE = "active"
    ENDED = "ended"


class Offboard:
    """The stream of setpoints to one vehicle. `wants_mode` says when the mode is to be asked for, once."""

    def __init__(self, ids: Ids, *, rate_hz: float = RATE_HZ, proof_of_life_s: float = PROOF_OF_LIFE_S) -> None:
        if not 2.0 < rate_hz <= 250.0:
            raise ValueError("rate_hz must be above 2, which the vehicle needs, and 250 at most")
        self.phase = Phase.IDLE
        self.reason = ""
        self.deadline: float | None = None
        self.wants_mode = False
        self._ids = ids
        self._interval_s = 1.0 / rate_hz
        self._life_s = proof_of_life_s
        self.setpoint: Setpoint | None = None
        self._renewed = 0.0
        self._began = 0.0
        self._asked = 0.0
        self._outgoing: list[Message] = []

    def take(self) -> list[Message]:
        """The setpoints to send now."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def renew(self, setpoint: Setpoint, now: float) -> None:
        """The application's proof of life: the setpoint from now on. It starts the stream when there is none.

        ValueError for a setpoint that cannot be flown; RuntimeError after the end: a new control must be begun.
        """
        check_setpoint(setpoint)
        if self.phase is Phase.ENDED:
            raise RuntimeError(f"offboard control has ended ({self.reason}); begin a new one")
        self.setpoint, self._renewed = setpoint, now
        if self.phase is Phase.IDLE:
            self.phase, self._began = Phase.PRIMING, now
            self._stream(now)

    def mode_changed(self, offboard: bool, now: float) -> None:
        """The vehicle shows its mode."""
        if offboard and self.phase in (Phase.PRIMING, Phase.ENTERING):
            self.phase, self.wants_mode = Phase.ACTIVE, False
        elif not offboard and self.phase is Phase.ACTIVE:
            self.end("the vehicle left the mode")

    def refused(self, reason: str) -> None:
        """The vehicle did not take the mode."""
        if self.phase is Phase.ENTERING:
            self.end(reason)

    def end(self, reason: str) -> None:
        """Stop the stream for good."""
        self.phase, self.reason, self.deadline, self.wants_mode = Phase.ENDED, reason, None, False
        self.setpoint = None

    def advance(self, now: float) -> None:
        """Send the setpoint when it is time; end when nobody renewed it."""
        if self.deadline is None or now < self.deadline:
            return
        if now - self._renewed > self._life_s:
            self.end(f"no setpoint came for {self._life_s:g} s")
            return
        if self.phase is Phase.PRIMING and now - self._began >= PRIMING_S:
            self.phase, self._asked, self.wants_mode = Phase.ENTERING, now, True
        if self.phase is Phase.ENTERING and now - self._asked > MODE_TIMEOUT_S:
            self.end("the vehicle did not enter the mode")
            return
        self._stream(now)

    def _stream(self, now: float) -> None:
        if self.setpoint is None:
            return
        item = self.setpoint.message(int(now * 1000) & 0xFFFFFFFF)
        targets = {"target_system": self._ids.system, "target_component": self._ids.component}
        self._outgoing.append(Message(item.name, {**targets, **item.values}))
        # From the due time, so that the rate is kept; from now after a pause, so that nothing is made up for.
        due = (self.deadline or now) + self._interval_s
        self.deadline = due if due > now else now + self._interval_s
