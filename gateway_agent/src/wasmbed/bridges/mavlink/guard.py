"""What an application may do with its vehicle: grants, a geofence, rates; every order is logged with its name.

The guard stands in the gateway, before anything is sent. It gives a reason, or None when an order may pass.
"""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.geofence import Geofence
from wasmbed.bridges.mavlink.mission_items import PlanItem
from wasmbed.bridges.mavlink.offboard import Setpoint
from wasmbed.bridges.mavlink.order_kinds import QUESTIONS, SET_PARAMETER, dangerous, dangerous_item, invalid
from wasmbed.bridges.mavlink.order_reach import command_leaves, item_leaves, setpoint_leaves
from wasmbed.bridges.mavlink.vehicle_state import VehicleState

_log = logging.getLogger(__name__)

Order = TypeVar("Order", Command, Setpoint, PlanItem)

# A position that is older is not known: a speed from there would lead from where the vehicle was.
_POSITION_S = 3.0


class Cause(StrEnum):
    """What an order was refused for."""

    GRANT = "grant"
    FENCE = "fence"
    RATE = "rate"
    INVALID = "invalid"


class Refusal(str):
    """Why an order may not pass, in words, with its cause."""

    cause: Cause

    def __new__(cls, text: str, cause: Cause) -> "Refusal":
        """Make one."""
        made = super().__new__(cls, text)
        made.cause = cause
        return made


class Grant(StrEnum):
    """What an application is given, each by itself; nothing is given by default."""

    TELEMETRY = "telemetry"
    COMMAND = "command"
    OFFBOARD = "offboard"
    MISSION = "mission"
    PARAMETERS = "parameters"
    DANGEROUS = "dangerous"


@dataclass(frozen=True, slots=True)
class Rates:
    """Most orders of a kind a second, with a burst of one second."""

    commands_hz: float = 5.0
    setpoints_hz: float = 100.0
    writes_hz: float = 2.0


class Guard:
    """The limits of one application on one vehicle."""

    def __init__(
        self,
        application: str,
        grants: frozenset[Grant],
        fence: Geofence | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._application = application
        self._grants = grants
        self._fence = fence
        rates = rates or Rates()
        self._limits = {"command": rates.commands_hz, "setpoint": rates.setpoints_hz, "write": rates.writes_hz}
        self._levels = dict(self._limits)
        self._at = dict.fromkeys(self._limits, -math.inf)
        # What the last setpoint came to: that it may pass, or the cause it was refused for.
        self._setpoints: Cause | bool = False

    def allow(self, grants: frozenset[Grant]) -> None:
        """Replace the grants; what holds from now on."""
        self._grants = grants

    def command(self, command: Command, state: VehicleState, now: float) -> Refusal | None:
        """Whether a command may be sent."""
        reason = self._granted(Grant.TELEMETRY if command.number in QUESTIONS else Grant.COMMAND)
        if command.number == SET_PARAMETER:
            reason = reason or self._granted(Grant.PARAMETERS)
        if reason is None and (why := invalid(command, state)) is not None:
            reason = Refusal(why, Cause.INVALID)
        if reason is None and dangerous(command, state):
            reason = self._granted(Grant.DANGEROUS)
        reason = reason or self._fenced(command_leaves, command, state, now) or self._rate("command", now)
        return self._answer(f"{command.name} {command.params}", reason)

    def setpoint(self, setpoint: Setpoint, state: VehicleState, now: float) -> Refusal | None:
        """Whether a setpoint may be sent. The first one and the first refusal are logged, not the stream."""
        reason = self._granted(Grant.OFFBOARD)
        reason = reason or self._fenced(setpoint_leaves, setpoint, state, now)
        reason = reason or self._rate("setpoint", now)
        verdict = reason.cause if reason is not None else True
        if verdict != self._setpoints:
            self._setpoints = verdict
            self._answer(f"setpoint {setpoint}", reason)
        return reason

    def write(self, name: str, value: float, now: float) -> Refusal | None:
        """Whether a parameter may be written."""
        return self._answer(f"parameter {name} = {value}", self._granted(Grant.PARAMETERS) or self._rate("write", now))

    def plan(self, items: Iterable[PlanItem], state: VehicleState, now: float) -> Refusal | None:
        """Whether a plan may be uploaded: each of its places must be inside of the fence."""
        items = list(items)
        reason = self._granted(Grant.MISSION) or self._rate("write", now)
        if any(dangerous_item(item) for item in items):
            reason = reason or self._granted(Grant.DANGEROUS)
        for number, item in enumerate(items):
            reason = reason or self._fenced(item_leaves, item, state, now, f"item {number}: ")
        return self._answer(f"plan of {len(items)} items", reason)

    def _answer(self, what: str, reason: Refusal | None) -> Refusal | None:
        verdict = "refused" if reason else "passed"
        _log.info("application order application=%s order=%r %s reason=%r", self._application, what, verdict, reason)
        return reason

    def _granted(self, grant: Grant) -> Refusal | None:
        if grant in self._grants:
            return None
        return Refusal(f"the application has no grant {grant!r}; give it in its manifest", Cause.GRANT)

    def _rate(self, kind: str, now: float) -> Refusal | None:
        limit = self._limits[kind]
        self._levels[kind] = min(limit, self._levels[kind] + (now - self._at[kind]) * limit)
        self._at[kind] = now
        if self._levels[kind] < 1.0:
            return Refusal(f"more than {limit:g} {kind}s a second", Cause.RATE)
        self._levels[kind] -= 1.0
        return None

    def _fenced(
        self,
        leaves: Callable[[Geofence, Order, VehicleState], str | None],
        order: Order,
        state: VehicleState,
        now: float,
        where: str = "",
    ) -> Refusal | None:
        if self._fence is None:
            return None
        if now - state.position_at > _POSITION_S:
            state = replace(state, position=None)
        why = leaves(self._fence, order, state)
        return None if why is None else Refusal(where + why, Cause.FENCE)
