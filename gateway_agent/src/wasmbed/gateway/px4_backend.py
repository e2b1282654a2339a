"""wasmbed:px4 on the gateway: telemetry for everybody who has the grant, orders of who owns the vehicle.

Every order passes a Guard, which logs it with the application's name.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, ClassVar, Final

from wasmbed.bridges.mavlink import Actions, Cause, Grant
from wasmbed.bridges.mavlink import Outcome as CommandOutcome
from wasmbed.bridges.mavlink.mission_items import PlanOutcome
from wasmbed.bridges.mavlink.offboard import PROOF_OF_LIFE_S
from wasmbed.bridges.mavlink.parameters import ParameterOutcome
from wasmbed.gateway.px4_codec import RecordError, command_of, plan_of, setpoint_of
from wasmbed.gateway.px4_owners import OWN_END, Owner, Owners
from wasmbed.gateway.px4_telemetry import WATCH_INTERVAL_S, TelemetryFeeds
from wasmbed.hostcalls import BadCallError, Ended, Outcome, Status
from wasmbed.runtime import abi
from wasmbed.runtime.abi import EventType, OwnerLoss, Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from wasmbed.bridges.mavlink import Command, Fleet, PlanItem, Refusal, Vehicle
    from wasmbed.bridges.mavlink.missions import PlanResult
    from wasmbed.bridges.mavlink.offboard import Setpoint
    from wasmbed.bridges.mavlink.parameters import ParameterResult
    from wasmbed.gateway.flight import Flight
    from wasmbed.hostcalls import HostCall, Instance, Outlet
    from wasmbed.runtime import Sensor

_log = logging.getLogger(__name__)

_COMMAND_S: Final = 60.0
_FLOAT_TYPES = frozenset({9, 10})


_RELEASED = {"stopped": Ended.STOPPED, "failed": Ended.TRAPPED, "updated": Ended.UPDATED}


class Px4Backend:
    """The backend of the dispatcher for the module `px4`."""

    module = "px4"
    operations: ClassVar[Mapping[str, float]] = {
        "acquire": 5.0,
        "release": 5.0,
        "subscribe": 5.0,
        "watch": 5.0,
        "setpoint": 5.0,
        "command": _COMMAND_S,
        "offboard": 20.0,
        "param_get": 15.0,
        "param_set": 30.0,
        "mission": 120.0,
    }

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._outlet: Outlet | None = None
        self._feeds: TelemetryFeeds | None = None
        self.owners = Owners(flight)
        self._handlers: dict[str, Callable[[HostCall, Vehicle], Outcome | Awaitable[Outcome]]] = {
            "acquire": self._acquire,
            "release": self._release,
            "subscribe": self._subscribe,
            "watch": self._watch,
            "setpoint": self._setpoint,
            "command": self._command,
            "offboard": self._offboard,
            "param_get": self._param_get,
            "param_set": self._param_set,
            "mission": self._mission,
        }
        flight.owners = self.owners
        flight.on_vehicle.append(self._vehicle_changed)
        flight.on_available.append(self._available_changed)

    # The bridge

    def connect(self, fleet: Fleet) -> None:
        """Take the fleet that runs from now on."""
        self.owners.fleet = fleet
        self._feeds = TelemetryFeeds(fleet)

    def disconnect(self) -> None:
        """Forget the fleet: it has ended."""
        if self._feeds is not None:
            self._feeds.close()
        self._feeds = self.owners.fleet = None
        self.owners.clear()

    # The dispatcher's side

    def attach(self, outlet: Outlet) -> None:
        """Learn where to report."""
        self._outlet = outlet

    def available(self, device: str) -> bool:
        """Whether the device's vehicle is heard and may be used."""
        return self._flight.available(device)

    def sensors(self, device: str) -> Sequence[Sensor]:
        """None: this is no backend of sensors."""
        return ()

    async def open(self, instance: Instance) -> None:
        """A new instance owns nothing."""
        self.owners.opened(instance)

    async def close(self, instance: Instance, why: Ended) -> None:
        """End what an instance reads and owns. Returns at once: Hold goes on by itself."""
        if self._feeds is not None:
            self._feeds.forget(instance.name)
        self.owners.close(instance, why)

    def handle(self, call: HostCall) -> Outcome | Awaitable[Outcome]:
        """Carry a call out. Calls that a vehicle has to answer go on beside the ones after them."""
        vehicle = self._vehicle(call.instance)
        if vehicle is None:
            return Outcome(Status.UNAVAILABLE)
        try:
            return self._handlers[call.op](call, vehicle)
        except RecordError as error:
            _log.info("call refused application=%s op=%s reason=%s", call.instance.spec.application, call.op, error)
            return Outcome(Status.INVALID)

    # Ownership

    def _acquire(self, call: HostCall, vehicle: Vehicle) -> Outcome:
        self.owners.welcome(call.instance)
        if self.owners.own(call.instance, vehicle) is None:
            # The runtime has said yes already: it does not know of owners elsewhere.
            call.instance.post(EventType.OWNER, 0, bytes([OwnerLoss.LOST]))
            return Outcome(Status.BUSY)
        return Outcome()

    def _release(self, call: HostCall, vehicle: Vehicle) -> Outcome:
        ended = _RELEASED.get(call.args[0]) if call.args and isinstance(call.args[0], str) else None
        if ended is None:
            self.owners.release(call.instance, vehicle)
        else:
            # The runtime's word of how the instance ends; the agent hears of it in its own time.
            self.owners.close(call.instance, ended)
        return Outcome()

    # Reading

    def _subscribe(self, call: HostCall, vehicle: Vehicle) -> Outcome:
        interval_ms = call.number(1, -1, abi.INTERVAL_MAX_MS)
        # Turned off, the newest record is still there to be read.
        self._read(call, vehicle, interval_ms / 1000 if interval_ms >= 0 else WATCH_INTERVAL_S)
        return Outcome()

    def _watch(self, call: HostCall, vehicle: Vehicle) -> Outcome:
        self._read(call, vehicle, WATCH_INTERVAL_S)
        return Outcome()

    def _read(self, call: HostCall, vehicle: Vehicle, interval_s: float) -> None:
        kind = Telemetry(call.number(0, min(Telemetry), max(Telemetry)))
        post = call.instance.post
        if self._feeds is not None:
            self._feeds.read(
                *(vehicle, kind, call.instance.name),
                lambda source, record: post(EventType.TELEMETRY, source, record),
                interval_s,
            )

    def _param_get(self, call: HostCall, vehicle: Vehicle) -> Awaitable[Outcome]:
        return self._read_parameter(vehicle, _parameter_name(call))

    @staticmethod
    async def _read_parameter(vehicle: Vehicle, name: str) -> Outcome:
        return _parameter_outcome(await vehicle.read_parameter(name))

    # Orders

    def _command(self, call: HostCall, vehicle: Vehicle) -> Outcome | Awaitable[Outcome]:
        owner = self.owners.own(call.instance, vehicle)
        if owner is None:
            return Outcome(Status.DENIED)
        command = command_of(call.data, vehicle.state)
        refusal = owner.guard.command(command, vehicle.state, vehicle.now())
        return _refused(refusal) if refusal else self._order(owner, self._send_command(owner, vehicle, command))

    async def _send_command(self, owner: Owner, vehicle: Vehicle, command: Command) -> Outcome:
        result = await vehicle.command(command)
        self._done(owner, str(result))
        detail = abi.COMMAND_RESULT.pack(result.mav_result, result.progress & 0xFF)
        if result.outcome is CommandOutcome.UNCONFIRMED:
            return Outcome(Status.TIMEOUT)
        return Outcome(Status.OK if result.ok else Status.REJECTED, detail)

    def _setpoint(self, call: HostCall, vehicle: Vehicle) -> Outcome:
        owner = self.owners.own(call.instance, vehicle)
        if owner is None:
            return Outcome(Status.DENIED)
        refusal = self.owners.setpoint(owner, vehicle, setpoint_of(call.data))
        return _refused(refusal) if refusal is not None else Outcome()

    def _offboard(self, call: HostCall, vehicle: Vehicle) -> Outcome | Awaitable[Outcome]:
        start = call.number(0, 0, 1)
        owner = self.owners.own(call.instance, vehicle)
        if owner is None:
            return Outcome(Status.DENIED)
        if not start:
            return self._order(owner, self._end_offboard(owner, vehicle))
        if Grant.OFFBOARD not in self.owners.grants(call.instance):
            return Outcome(Status.DENIED)
        if owner.setpoint is None or vehicle.now() - owner.setpoint_at > PROOF_OF_LIFE_S:
            self._done(owner, "offboard refused: no setpoint is younger than half a second")
            return Outcome(Status.INVALID)
        return self._order(owner, self._begin_offboard(owner, vehicle, owner.setpoint))

    async def _begin_offboard(self, owner: Owner, vehicle: Vehicle, setpoint: Setpoint) -> Outcome:
        owner.began = True
        result = await Actions(vehicle).fly_offboard(setpoint)
        self._done(owner, str(result))
        return Outcome(Status.OK if result.ok else Status.REJECTED)

    async def _end_offboard(self, owner: Owner, vehicle: Vehicle) -> Outcome:
        if vehicle.offboard is not None:
            vehicle.offboard.end(OWN_END)
            vehicle.wake()
        if vehicle.state.mode != "offboard":
            return Outcome()
        result = await Actions(vehicle).set_mode("hold")
        self._done(owner, str(result))
        return Outcome(Status.OK if result.ok else Status.REJECTED)

    def _param_set(self, call: HostCall, vehicle: Vehicle) -> Outcome | Awaitable[Outcome]:
        name, value = _parameter_name(call), call.real(1)
        owner = self.owners.own(call.instance, vehicle)
        if owner is None:
            return Outcome(Status.DENIED)
        if not math.isfinite(value):
            raise BadCallError(f"param_set: {value} is no value")
        refusal = owner.guard.write(name, value, vehicle.now())
        return _refused(refusal) if refusal else self._order(owner, self._write(owner, vehicle, name, value))

    async def _write(self, owner: Owner, vehicle: Vehicle, name: str, value: float) -> Outcome:
        number = int(value) if value.is_integer() else value
        try:
            result = await vehicle.write_parameter(name, number)
        except ValueError as error:
            self._done(owner, f"parameter {name}: {error}")
            return Outcome(Status.INVALID)
        self._done(owner, str(result))
        return _parameter_outcome(result)

    def _mission(self, call: HostCall, vehicle: Vehicle) -> Outcome | Awaitable[Outcome]:
        count = call.number(0, 0, abi.WAYPOINTS)
        owner = self.owners.own(call.instance, vehicle)
        if owner is None:
            return Outcome(Status.DENIED)
        items = plan_of(call.data, count)
        refusal = owner.guard.plan(items, vehicle.state, vehicle.now())
        return _refused(refusal) if refusal else self._order(owner, self._upload(owner, vehicle, items))

    async def _upload(self, owner: Owner, vehicle: Vehicle, items: list[PlanItem]) -> Outcome:
        result = await (vehicle.upload(items) if items else vehicle.clear())
        self._done(owner, str(result))
        return _plan_outcome(result)

    def _order(self, owner: Owner, work: Awaitable[Outcome]) -> Awaitable[Outcome]:
        """Run an order as one of its owner's, so that it ends with the ownership."""
        task = asyncio.ensure_future(work)
        owner.orders.add(task)
        task.add_done_callback(owner.orders.discard)
        return _outcome_of(task)

    @staticmethod
    def _done(owner: Owner, what: str) -> None:
        _log.info("order done application=%s device=%s %s", owner.application, owner.instance.device, what)

    def _vehicle(self, instance: Instance) -> Vehicle | None:
        """The vehicle of an instance: its device's, unless the application names another one that it may not have."""
        vehicle = self._flight.vehicle_of(instance.device)
        claim = self._flight.claim(instance.spec.application, instance.device)
        if vehicle is None or claim is None or claim.system_id in (None, vehicle.ids.system):
            return vehicle
        return vehicle if self._flight.states_system(instance.device) else None

    def _vehicle_changed(self, vehicle: Vehicle) -> None:
        if self._feeds is not None:
            self._feeds.changed(vehicle)

    def _available_changed(self, device: str) -> None:
        if self._outlet is not None:
            self._outlet.changed(device)


async def _outcome_of(task: asyncio.Future[Outcome]) -> Outcome:
    try:
        return await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            task.cancel()
            raise
        # The ownership ended under way.
        return Outcome(Status.DENIED)


_REFUSED = {
    Cause.GRANT: Status.DENIED,
    Cause.RATE: Status.RATE,
    Cause.FENCE: Status.REJECTED,
    Cause.INVALID: Status.INVALID,
}


def _refused(refusal: Refusal) -> Outcome:
    return Outcome(_REFUSED[refusal.cause])


def _parameter_name(call: HostCall) -> str:
    name = call.text(0, abi.PARAMETER_NAME_MAX)
    if not name.isascii() or not name.isprintable():
        raise BadCallError(f"{call.op}: a parameter's name is ASCII")
    return name


def _parameter_outcome(result: ParameterResult) -> Outcome:
    detail = b""
    if result.parameter is not None:
        kind = 2 if result.parameter.type in _FLOAT_TYPES else 1
        detail = abi.PARAMETER_RESULT.pack(kind, float(result.parameter.value))
    status = {
        ParameterOutcome.DONE: Status.OK,
        ParameterOutcome.UNKNOWN: Status.NOTFOUND,
        ParameterOutcome.NO_ANSWER: Status.TIMEOUT,
    }
    return Outcome(status.get(result.outcome, Status.REJECTED), detail)


def _plan_outcome(result: PlanResult) -> Outcome:
    if result.ok:
        return Outcome()
    return Outcome(Status.TIMEOUT if result.outcome is PlanOutcome.NO_ANSWER else Status.REJECTED)
