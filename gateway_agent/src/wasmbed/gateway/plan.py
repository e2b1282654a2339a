"""The decision: from what is wanted and what is known to what is done next and what is shown. No input or output."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wasmbed.api import MESSAGE_BYTES, InstanceState, Reason, shorten
from wasmbed.gateway.flight_model import Gate
from wasmbed.gateway.model import Failure, Observed, Progress, Refusal, Shown, Stage, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from wasmbed.runtime import StartRequest

_UNKNOWN = Progress()
_OPEN = Gate()


@dataclass(frozen=True)
class World:
    """What is known at `now` (loop time, seconds).

    `busy` are the instances with a call to the runtime under way. `complete` says that `wanted` is all there is; while
    it is not, instances that nobody asks for are left alone. `gates` are by device (namespace/name).
    """

    wanted: Mapping[str, Wanted]
    running: Mapping[str, Observed]
    busy: Set[str]
    artifacts: Mapping[str, Progress]
    modules: Mapping[str, Progress]
    refusals: Mapping[str, Refusal]
    max_modules: int
    complete: bool
    now: float
    gates: Mapping[str, Gate] = field(default_factory=dict)
    # Signatures are looked at, also of what runs already.
    verify: bool = False


@dataclass
class Plan:
    """What to do now: digests to pull and to load, instances to stop, contents to start; when to plan again."""

    pulls: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    stops: set[str] = field(default_factory=set)
    starts: dict[str, StartRequest] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    wake_at: float = math.inf


def make_plan(world: World) -> Plan:
    """Decide.

    A start of an instance that runs with other content is an update: its module is loaded already, and the runtime ends
    the old one only for a new one that began well. But one with a grant that was withdrawn is stopped at once. One
    instance has one call under way at a time.

    On a device that is suspended nothing runs. On one whose vehicle flies nothing is started or replaced, but for what
    may be in flight; its module is made ready meanwhile.
    """
    plan = Plan()
    # Those that run have their place before those that came later.
    order = sorted(world.wanted, key=lambda name: (name not in world.running, name))
    for name in order[: world.max_modules]:
        _bring_up(name, world, plan)
    for name in order[world.max_modules :]:
        message = f"gateway limit of {world.max_modules} modules"
        plan.shown[name] = Shown(InstanceState.FAILED, world.wanted[name].request.digest, Reason.DEVICE_ERROR, message)
        if name in world.running and name not in world.busy:
            plan.stops.add(name)
    if world.complete:
        plan.stops.update(name for name in world.running if name not in world.wanted and name not in world.busy)
    return plan


def _bring_up(name: str, world: World, plan: Plan) -> None:
    wanted, observed = world.wanted[name], world.running.get(name)
    gate = world.gates.get(wanted.request.device, _OPEN)
    if gate.suspended:
        if observed is not None and name not in world.busy:
            plan.stops.add(name)
        message = "the device is suspended"
        plan.shown[name] = Shown(InstanceState.SUSPENDED, wanted.request.digest, Reason.SUSPENDED, message)
        return
    digest = wanted.request.digest
    warning = ""
    flies = bool(gate.flying) and not wanted.allow_in_flight
    if world.verify and observed is not None and observed.digest == digest:
        image = world.artifacts.get(digest, _UNKNOWN)
        warning = image.warning
        if _untrusted(name, image, world, plan):
            # As an update, it waits for the end of a flight.
            if not flies:
                _stop_untrusted(name, image, world, plan)
                return
            warning = f"to be stopped after the flight: {image.failure.message if image.failure else ''}"
    if observed is not None and observed.key == wanted.key:
        message = observed.message or shorten(warning, MESSAGE_BYTES)
        plan.shown[name] = Shown(observed.state, observed.digest, observed.reason, message, observed.restarts)
        return
    if observed is not None and not observed.grants.issubset(wanted.request.grants):
        if name not in world.busy:
            plan.stops.add(name)
        plan.shown[name] = Shown(InstanceState.STARTING, digest, message="stopping: a grant was withdrawn")
        return
    if observed is not None and observed.previous == wanted.key:
        # Tried, failed and taken back by the runtime; it stays so until something else is wanted.
        state, reason = InstanceState.FAILED, Reason.DEVICE_ERROR
        plan.shown[name] = Shown(state, digest, reason, observed.message, observed.restarts)
        return
    held = f"waiting: {wanted.request.device} {gate.flying}" if flies else ""
    step, failure = _next_step(name, world, plan, start=not held)
    if failure is not None and failure.retry_at > world.now:
        plan.wake_at = min(plan.wake_at, failure.retry_at)
    if held and failure is None:
        plan.shown[name] = _told(InstanceState.PENDING, Reason.IN_FLIGHT, held, digest, observed)
    else:
        plan.shown[name] = _shown(step, failure, digest, observed)


def _next_step(name: str, world: World, plan: Plan, *, start: bool) -> tuple[str, Failure | None]:
    """Plan what brings an instance further, its start only with `start`; the step in words, and why it fails."""
    wanted = world.wanted[name]
    digest = wanted.request.digest
    artifact, module = world.artifacts.get(digest, _UNKNOWN), world.modules.get(digest, _UNKNOWN)
    if artifact.stage is not Stage.DONE:
        if artifact.due(world.now):
            plan.pulls.add(digest)
        return "pulling the image", artifact.failure
    if module.stage is not Stage.DONE:
        if module.due(world.now):
            plan.loads.add(digest)
        return "checking and compiling the module", module.failure
    refusal = world.refusals.get(name)
    failure = refusal.failure if refusal is not None and refusal.key == wanted.key else None
    if start and name not in world.busy and (failure is None or world.now >= failure.retry_at):
        plan.starts[name] = wanted.request
    return "starting", failure


def _untrusted(name: str, image: Progress, world: World, plan: Plan) -> bool:
    """Have the image of what runs verified too; whether it is known to have no good signature."""
    if image.due(world.now):
        plan.pulls.add(world.wanted[name].request.digest)
    failure = image.failure
    if failure is None:
        return False
    plan.wake_at = min(plan.wake_at, failure.retry_at if failure.retry_at > world.now else math.inf)
    return failure.untrusted


def _stop_untrusted(name: str, image: Progress, world: World, plan: Plan) -> None:
    if name not in world.busy:
        plan.stops.add(name)
    plan.shown[name] = _shown("", image.failure, world.wanted[name].request.digest, None)


def _shown(step: str, failure: Failure | None, digest: str, observed: Observed | None) -> Shown:
    if failure is None:
        restarts = observed.restarts if observed is not None else 0
        return Shown(InstanceState.STARTING, digest, message=step, restarts=restarts)
    return _told(InstanceState.FAILED, failure.reason, failure.message, digest, observed)


def _told(state: str, reason: str, message: str, digest: str, observed: Observed | None) -> Shown:
    """What cannot run, or not yet, leaves the version, or the settings, before it alone."""
    still = ""
    if observed is not None and observed.key:
        still = f"; {observed.digest[:19]} runs on" if observed.digest != digest else "; it runs on as it was"
    restarts = observed.restarts if observed is not None else 0
    return Shown(state, digest, reason, shorten(message, MESSAGE_BYTES - len(still)) + still, restarts)
