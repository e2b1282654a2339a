"""The command protocol, client side: COMMAND_LONG and COMMAND_INT, acknowledgement, progress, cancelling, resending."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.command_rules import SHORTLY_S, Resend, resend_rule
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.operations import Ids, Operation
from wasmbed.bridges.mavlink.parameter_values import single

ANSWER_TIMEOUT_S = 0.5
GIVE_UP_S = 8.0
PROGRESS_TIMEOUT_S = 10.0
CANCEL_TIMEOUT_S = 3.0
QUIET_S = 1.0
SHORT_QUIET_S = 0.3
SEA_LEVEL_FRAMES = frozenset({0, 5})
_GLOBAL_FRAMES = frozenset({0, 3, 5, 6, 10, 11})


class Outcome(StrEnum):
    """How a command ended; the first ten are the vehicle's answer (MAV_RESULT)."""

    ACCEPTED = "accepted"
    TEMPORARILY_REJECTED = "temporarily rejected"
    DENIED = "denied"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LONG_ONLY = "only as COMMAND_LONG"
    INT_ONLY = "only as COMMAND_INT"
    UNSUPPORTED_FRAME = "unsupported frame"
    NOT_IN_CONTROL = "not in control"
    UNCONFIRMED = "unconfirmed"
    """Nobody answered; the vehicle may or may not have done it."""


_RESULTS = {
    0: Outcome.ACCEPTED,
    1: Outcome.TEMPORARILY_REJECTED,
    2: Outcome.DENIED,
    3: Outcome.UNSUPPORTED,
    4: Outcome.FAILED,
    6: Outcome.CANCELLED,
    7: Outcome.LONG_ONLY,
    8: Outcome.INT_ONLY,
    9: Outcome.UNSUPPORTED_FRAME,
    10: Outcome.NOT_IN_CONTROL,
}
_NUMBERS = {outcome: number for number, outcome in _RESULTS.items()}
_IN_PROGRESS = 5

_WORDS = {
    Outcome.ACCEPTED: "was accepted",
    Outcome.TEMPORARILY_REJECTED: "was rejected for now: the vehicle is not in a state for it; try again later",
    Outcome.DENIED: "was denied: the command or a parameter of it is not allowed",
    Outcome.UNSUPPORTED: "is not supported by the vehicle",
    Outcome.FAILED: "failed on the vehicle",
    Outcome.CANCELLED: "was cancelled",
    Outcome.LONG_ONLY: "is taken as COMMAND_LONG only",
    Outcome.INT_ONLY: "is taken as COMMAND_INT only",
    Outcome.UNSUPPORTED_FRAME: "is not supported in this coordinate frame",
    Outcome.NOT_IN_CONTROL: "was refused: another ground station is in control",
    Outcome.UNCONFIRMED: "was not answered: the vehicle may or may not have done it; look at its state",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its seven parameters (NaN: the vehicle's default). With `frame` it goes as COMMAND_INT.

    Parameters 5 and 6 are in the frame's own units: degrees for global frames, metres for local ones.
    """

    number: int
    params: tuple[float, ...] = ()
    frame: int | None = None

    def __post_init__(self) -> None:
        if len(self.params) > 7:
            raise ValueError("a command has seven parameters at most")
        if not 0 <= self.number <= 0xFFFF:
            raise ValueError(f"{self.number} is no command: it must be 0 to 65535")
        for value in self.params:
            single(value)

    @property
    def name(self) -> str:
        """The name in MAV_CMD."""
        return default_dialect().entry("MAV_CMD", self.number)

    @property
    def all_params(self) -> tuple[float, ...]:
        """All seven, absent ones 0."""
        return (*self.params, *(0.0,) * (7 - len(self.params)))


@dataclass(frozen=True, slots=True)
class CommandResult:
    """An outcome with the vehicle's details and how often the command was sent."""

    command: Command
    outcome: Outcome
    sent: int
    progress: int = 0
    detail: int = 0

    @property
    def ok(self) -> bool:
        """Whether the vehicle accepted."""
        return self.outcome is Outcome.ACCEPTED

    @property
    def mav_result(self) -> int:
        """The MAV_RESULT; that of a failure when nobody answered."""
        return _NUMBERS.get(self.outcome, _NUMBERS[Outcome.FAILED])

    def __str__(self) -> str:
        return f"{self.command.name} {_WORDS[self.outcome]}"


class CommandRun(Operation[CommandResult]):
    """One command until its answer."""

    def __init__(self, ids: Ids, command: Command, *, give_up_s: float = GIVE_UP_S) -> None:
        super().__init__(ids)
        self.command = command
        self.progress: int | None = None
        self._rule = resend_rule(command.number)
        self._give_up_s = give_up_s
        self._started = 0.0
        self._sent = 0
        self._give_up_at = 0.0
        self._turned = False
        self._rejected: Message | None = None

    @property
    def sent(self) -> int:
        """How often it was sent."""
        return self._sent

    def start(self, now: float) -> None:
        """Send it for the first time."""
        self._started = now
        self._give_up_at = now + self._give_up_s
        self._transmit(now)

    def receive(self, item: Message, now: float) -> None:
        """Look for the acknowledgement."""
        if (
            self.result is not None
            or item.name != "COMMAND_ACK"
            or item["command"] != self.command.number
            or not self.ids.sent_by_target(item)
            or not self.ids.is_for_us(item)
        ):
            return
        result = item["result"]
        if result == _IN_PROGRESS:
            self.progress = item["progress"]
            self._give_up_at = now + PROGRESS_TIMEOUT_S
            self.deadline = self._give_up_at
            return
        outcome = _RESULTS.get(result, Outcome.FAILED)
        if outcome is Outcome.TEMPORARILY_REJECTED and (self._sent > 1 or self.progress is not None):
            # It may answer a resend while the first one is still worked on, so the real answer may be to come.
            self._rejected = item
            return
        if outcome in (Outcome.LONG_ONLY, Outcome.INT_ONLY) and not self._turned and self._turn(outcome):
            self._transmit(now)
            return
        self._finish(outcome, item)

    def advance(self, now: float) -> None:
        """Send again when the rule allows it, give up when it is time."""
        if self.result is not None or self.deadline is None or now < self.deadline:
            return
        if now >= self._give_up_at:
            if self._rejected is not None:
                self._finish(Outcome.TEMPORARILY_REJECTED, self._rejected)
            else:
                self._finish(Outcome.UNCONFIRMED, None)
        elif self.progress is None and self._may_resend(now):
            self._transmit(now)
        else:
            self.deadline = self._give_up_at

    def cancel(self, now: float) -> None:
        """Ask the vehicle to stop working on it; the result is then its answer."""
        if self.result is None:
            self._send("COMMAND_CANCEL", command=self.command.number)
            self._rule = Resend.NEVER
            self._give_up_at = now + CANCEL_TIMEOUT_S
            self.deadline = self._give_up_at

    def _may_resend(self, now: float) -> bool:
        if self._rule is Resend.SHORTLY:
            return now - self._started <= SHORTLY_S
        return self._rule is Resend.UNTIL_ANSWERED

    def _turn(self, outcome: Outcome) -> bool:
        # The vehicle did not do it and said how it wants it, so this is no resend.
        self._turned = True
        frame = self.command.frame
        # The heights of a COMMAND_LONG are above sea level: in another frame the order would be another one.
        if outcome is Outcome.LONG_ONLY and frame in SEA_LEVEL_FRAMES:
            self.command = replace(self.command, frame=None)
            return True
        if outcome is Outcome.INT_ONLY and frame is None:
            self.command = replace(self.command, frame=0)
            return True
        return False

    def _transmit(self, now: float) -> None:
        params = self.command.all_params
        if self.command.frame is None:
            named = {f"param{number}": value for number, value in enumerate(params, 1)}
            self._send("COMMAND_LONG", command=self.command.number, confirmation=min(self._sent, 255), **named)
        else:
            named = {f"param{number}": value for number, value in enumerate(params[:4], 1)}
            scale = 1e7 if self.command.frame in _GLOBAL_FRAMES else 1e4
            self._send(
                "COMMAND_INT",
                command=self.command.number,
                frame=self.command.frame,
                x=scaled(params[4], scale),
                y=scaled(params[5], scale),
                z=params[6],
                **named,
            )
        self._sent += 1
        self.deadline = min(now + ANSWER_TIMEOUT_S, self._give_up_at)

    def _finish(self, outcome: Outcome, item: Message | None) -> None:
        progress, detail = (item.get("progress", 0), item.get("result_param2", 0)) if item else (0, 0)
        self._end(CommandResult(self.command, outcome, self._sent, progress, detail))


def scaled(value: float, scale: float) -> int:
    """A coordinate as COMMAND_INT and MISSION_ITEM_INT carry it; NaN is INT32_MAX. ValueError when it does not fit."""
    if math.isnan(value):
        return 0x7FFFFFFF
    number = round(value * scale)
    if not -0x80000000 <= number < 0x7FFFFFFF:
        raise ValueError(f"{value} is too large for a coordinate")
    return number


class CommandLane:
    """When a command may start: an acknowledgement does not say which of two equal commands it answers.

    So the caller runs one command of a number at a time to a vehicle, and late acknowledgements get time to arrive and
    be ignored: `QUIET_S` after one that was sent more than once or not answered, `SHORT_QUIET_S` after any other (the
    network may have doubled the answer). Questions need no time: to them a wrong answer does no harm.
    """

    def __init__(self) -> None:
        self._quiet_until: dict[int, float] = {}

    def wait_s(self, command: int, now: float) -> float:
        """Seconds until a command may start."""
        return max(0.0, self._quiet_until.get(command, 0.0) - now)

    def leave(self, run: CommandRun, now: float) -> None:
        """Note a command that ended."""
        self._quiet_until = {other: until for other, until in self._quiet_until.items() if until > now}
        if run.sent > 1 or run.result is None or run.result.outcome is Outcome.UNCONFIRMED:
            self._quiet_until[run.command.number] = now + QUIET_S
        elif resend_rule(run.command.number) is not Resend.UNTIL_ANSWERED:
            self._quiet_until[run.command.number] = now + SHORT_QUIET_S
