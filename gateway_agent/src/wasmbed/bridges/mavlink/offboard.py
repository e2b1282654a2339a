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
# The bits of SET_POSITION_TARGET_...: three axes each of position, velocity and acceleration, yaw, yaw rate.
_BITS = (*range(9), 10, 11)
_AT_ONCE_S = 0.004

Axes = tuple[float | None, float | None, float | None]
"""Three axes, each of which may be left out."""

_NOTHING: Axes = (None, None, None)


@dataclass(frozen=True, slots=True)
class LocalSetpoint:
    """Metres, metres a second, metres a second squared (north, east, down), radians; None: not controlled."""

    position: Axes | None = None
    velocity: Axes | None = None
    acceleration: Axes | None = None
    yaw: float | None = None
    yaw_rate: float | None = None
    frame: int = LOCAL_NED

    def message(self, time_ms: int) -> Message:
        """SET_POSITION_TARGET_LOCAL_NED."""
        names = ("x", "y", "z", "vx", "vy", "vz", "afx", "afy", "afz", "yaw", "yaw_rate")
        return Message(
            "SET_POSITION_TARGET_LOCAL_NED",
            {
                "time_boot_ms": time_ms,
                "coordinate_frame": self.frame,
                "type_mask": _mask(*self._parts()),
                **{name: part or 0.0 for name, part in zip(names, self._parts(), strict=True)},
            },
        )

    def numbers(self) -> tuple[float, ...]:
        """All numbers that are set."""
        return tuple(part for part in self._parts() if part is not None)

    def _parts(self) -> tuple[float | None, ...]:
        vectors = (self.position or _NOTHING, self.velocity or _NOTHING, self.acceleration or _NOTHING)
        return (*vectors[0], *vectors[1], *vectors[2], self.yaw, self.yaw_rate)


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
                "type_mask": _mask(0.0, 0.0, 0.0, *_NOTHING, *_NOTHING, self.yaw, None),
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
    """A rotation from body (forward, right, down) to north, east, down, or body rates, and thrust.

    `thrust` is 0 to 1 (a multicopter's upward, a fixed wing's forward), `thrust_body` the same by axes.
    """

    thrust: float
    quaternion: tuple[float, float, float, float] | None = None
    rates: Axes | None = None
    thrust_body: tuple[float, float, float] | None = None

    def message(self, time_ms: int) -> Message:
        """SET_ATTITUDE_TARGET."""
        rates = self.rates or _NOTHING
        mask = sum(1 << bit for bit, rate in enumerate(rates) if rate is None)
        values = {
            "time_boot_ms": time_ms,
            "type_mask": mask | (0 if self.quaternion is not None else 1 << 7),
            "q": self.quaternion or (1.0, 0.0, 0.0, 0.0),
            **{f"body_{name}_rate": rate or 0.0 for name, rate in zip(("roll", "pitch", "yaw"), rates, strict=True)},
            "thrust": self.thrust,
        }
        if self.thrust_body is not None:
            values["thrust_body"] = self.thrust_body
        return Message("SET_ATTITUDE_TARGET", values)

    def numbers(self) -> tuple[float, ...]:
        """All numbers that are set."""
        rates = (rate for rate in self.rates or () if rate is not None)
        return (self.thrust, *(self.quaternion or ()), *rates, *(self.thrust_body or ()))


Setpoint = LocalSetpoint | GlobalSetpoint | AttitudeSetpoint


def _mask(*parts: float | None) -> int:
    return sum(1 << bit for bit, part in zip(_BITS, parts, strict=True) if part is None)


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
    """The stream of setpoints to one vehicle. `wants_mode` says when the mode is to be asked for, once.

    With `at_once` a new setpoint does not wait for its turn in the stream, up to 250 a second.
    """

    def __init__(
        self,
        ids: Ids,
        *,
        rate_hz: float = RATE_HZ,
        proof_of_life_s: float = PROOF_OF_LIFE_S,
        at_once: bool = False,
    ) -> None:
        if not 2.0 < rate_hz <= 250.0:
            raise ValueError("rate_hz must be above 2, which the vehicle needs, and 250 at most")
        self.phase = Phase.IDLE
        self.reason = ""
        self.deadline: float | None = None
        self.wants_mode = False
        self._ids = ids
        self._interval_s = 1.0 / rate_hz
        self._at_once = at_once
        self._streamed = -math.inf
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
        elif self._at_once and now - self._streamed >= _AT_ONCE_S:
            # The stream goes on from here, so that the same setpoint is not sent twice.
            self.deadline = now
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
        self._streamed = now
        item = self.setpoint.message(int(now * 1000) & 0xFFFFFFFF)
        targets = {"target_system": self._ids.system, "target_component": self._ids.component}
        self._outgoing.append(Message(item.name, {**targets, **item.values}))
        # From the due time, so that the rate is kept; from now after a pause, so that nothing is made up for.
        due = (self.deadline or now) + self._interval_s
        self.deadline = due if due > now else now + self._interval_s
