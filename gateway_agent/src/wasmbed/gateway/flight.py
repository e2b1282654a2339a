"""Flight safety: which devices may be changed now, the kill switch, Hold when an owner is lost, and what is told of it.

The vehicles are those of the bridge's fleet. Nothing here waits for the API: what it has to know is in the records that
`set_devices` gets, which the agent also has from its disk.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from wasmbed.api import Incident, timestamp
from wasmbed.bridges.mavlink.commands import Command
from wasmbed.bridges.mavlink.modes import mode_command
from wasmbed.gateway.flight_model import PILOT_MODES, Claim, DeviceRecord, Gate, Ids, bind, flying_words, restored, view
from wasmbed.gateway.vehicle_words import VehicleWords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wasmbed.api import Vehicle as ShownVehicle
    from wasmbed.bridges.mavlink import Change, Fleet, Vehicle, VehicleState
    from wasmbed.gateway.flight_config import FlightConfig

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
# A vehicle that is there is heard once a second; until then a device may be flying.
FIRST_HEARD_S: Final = 3.0
# How old the saved time of a vehicle that flies may get.
SAVE_S: Final = 60.0
INCIDENTS: Final = 4
# Heartbeats come once a second.
HOLD_SHOWN_S: Final = 1.5
HOLD_ANSWER_S: Final = 1.0
LEAVE_S: Final = 2.5
_SET_MODE = 176


class Owners(Protocol):
    """Who owns vehicles: the px4 backend."""

    def suspend(self, ids: Ids, why: str) -> None:
        """Take a vehicle from its owner, who is told, and stop its setpoints."""
        ...

    def vehicle_lost(self, ids: Ids) -> None:
        """The vehicle is not heard any more."""
        ...

    def offboard_ended(self, vehicle: Vehicle, why: str) -> None:
        """Offboard control of a vehicle ended by itself."""
        ...


class Flight:
    """The state of flight safety of one gateway. The `on_...` are called when that has changed."""

    def __init__(self, config: FlightConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.owners: Owners | None = None
        self.words = VehicleWords()
        self.on_gates: list[Callable[[], None]] = []
        self.on_told: list[Callable[[set[str]], None]] = []
        self.on_vehicle: list[Callable[[Vehicle], None]] = []
        self.on_available: list[Callable[[str], None]] = []
        self.holds: dict[str, int] = {"held": 0, "failed": 0, "not needed": 0}
        self.losses = 0
        self.unsaved = asyncio.Event()
        self._clock = clock
        self._fleet: Fleet | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._began = clock()
        self._devices: dict[str, DeviceRecord] = {}
        self._claims: dict[tuple[str, str], Claim] = {}
        self._bound: dict[str, Ids] = {}
        self._followed: set[Ids] = set()
        # When a vehicle that is armed or in the air was heard last, UNIX seconds.
        self._flying: dict[Ids, float] = {}
        self._saved_at = 0.0
        self._gates: dict[str, Gate] = {}
        self._shown: dict[str, ShownVehicle] = {}
        self._available: frozenset[str] = frozenset()
        self._incidents: dict[str, deque[Incident]] = {}
        self._holding: dict[Ids, asyncio.Task[None]] = {}
        self._suspended: set[str] = set()
        # Suspended before there was a bridge to tell it to.
        self._late: set[str] = set()

    # What is known

    @property
    def gates(self) -> Mapping[str, Gate]:
        """The devices (namespace/name) on which starts and updates wait, and why."""
        return self._gates

    @property
    def vehicles(self) -> Mapping[str, ShownVehicle]:
        """The vehicles of devices as statuses show them."""
        return self._shown

    def incidents(self, device: str) -> tuple[Incident, ...]:
        """The last incidents of a device."""
        return tuple(self._incidents.get(device, ()))

    def suspended(self, device: str) -> bool:
        """Whether a device's kill switch is on."""
        return self._devices.get(device, DeviceRecord()).suspended

    def vehicle_of(self, device: str) -> Vehicle | None:
        """The vehicle of a device, heard or not; None when it has none or there is no bridge."""
        ids = self._bound.get(device)
        return None if ids is None or self._fleet is None else self._follow(ids)

    def available(self, device: str) -> bool:
        """Whether the autopilot of a device can be used now."""
        vehicle = self.vehicle_of(device)
        return vehicle is not None and vehicle.state.connected and not self.suspended(device)

    def claim(self, application: str, device: str) -> Claim | None:
        """What an application may do with a device's autopilot."""
        return self._claims.get((application, device))

    def states_system(self, device: str) -> bool:
        """Whether a device states the system id of its autopilot itself."""
        return self._devices.get(device, DeviceRecord()).system_id is not None

    @property
    def bound(self) -> Mapping[str, Ids]:
        """The vehicles of devices."""
        return self._bound

    def devices_of(self, ids: Ids) -> list[str]:
        """The devices that a vehicle belongs to."""
        return [device for device, bound in self._bound.items() if bound == ids]

    # What changes it

    def set_devices(self, devices: Mapping[str, DeviceRecord]) -> None:
        """Take the records of all devices; those that are suspended from now on are stopped here."""
        if devices != self._devices:
            self._devices = dict(devices)
            self._rebind()
            self.unsaved.set()

    def set_claims(self, claims: Mapping[tuple[str, str], Claim]) -> None:
        """Take what all Placements say."""
        if claims != self._claims:
            self._claims = dict(claims)
            self._rebind()

    def incident(self, device: str, reason: str, message: str, application: str = "") -> None:
        """Note what was done, to be told with the device's state."""
        _log.warning("flight safety device=%s reason=%s application=%s %s", device, reason, application, message)
        known = self._incidents.setdefault(device, deque(maxlen=INCIDENTS))
        known.append(Incident(timestamp(), reason, message, application))
        self.unsaved.set()
        _call(self.on_told, {device})

    def hold(self, ids: Ids, why: str, application: str = "") -> None:
        """Have a vehicle hold its position: at once, and again until it shows it."""
        for device in self.devices_of(ids):
            self.incident(device, "HoldCommanded", f"{why}: setpoints are stopped and Hold is commanded", application)
        if self._tasks is not None and ids not in self._holding:
            self._holding[ids] = self._tasks.create_task(self._hold(ids, application))

    # Persistence

    def to_saved(self) -> dict[str, Any]:
        """What has to outlive the agent."""
        return {
            "suspended": sorted(self._suspended),
            "flying": [[*ids, at] for ids, at in self._flying.items()],
            "incidents": {name: [item.to_dict() for item in items] for name, items in self._incidents.items()},
        }

    def restore(self, saved: object) -> None:
        """Take what was saved, before anything else is taken: what flies, and what was suspended already."""
        values = saved if isinstance(saved, dict) else {}
        for row in _rows(values.get("flying")):
            if isinstance(row, list) and len(row) == 3 and all(isinstance(item, (int, float)) for item in row):
                self._flying[int(row[0]), int(row[1])] = min(float(row[2]), self._clock())
        for name, items in restored(values.get("incidents")).items():
            self._incidents[name] = deque(items, maxlen=INCIDENTS)
        self._suspended |= {name for name in _rows(values.get("suspended")) if isinstance(name, str)}

    # Life

    async def run(self, fleet: Fleet) -> None:
        """Look after the vehicles of a fleet until cancelled; then those in offboard are told to hold."""
        self._fleet, self._began = fleet, self._clock()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._rebind()
                for device in self._late & self._bound.keys():
                    self.hold(self._bound[device], "the device is suspended")
                self._late.clear()
                while True:
                    self.look()
                    await asyncio.sleep(LOOK_S)
        finally:
            self._tasks = None
            self._holding.clear()
            await self._leave()
            self._fleet = None

    def look(self) -> None:
        """See what the vehicles are doing, and tell what has changed."""
        for ids in set(self._bound.values()):
            self._note(ids)
        gates, shown = {}, {}
        for device in self._devices.keys() | self._bound.keys():
            gate = Gate(self.suspended(device), self._flying_words(self._bound.get(device)))
            if gate != Gate():
                gates[device] = gate
            vehicle = self._view(device)
            if vehicle is not None:
                shown[device] = vehicle
        if gates != self._gates:
            self._gates = gates
            _call(self.on_gates)
        told = {name for name in shown.keys() | self._shown.keys() if shown.get(name) != self._shown.get(name)}
        if told:
            self._shown = shown
            _call(self.on_told, told)
        available = frozenset(device for device in self._bound if self.available(device))
        changed, self._available = available ^ self._available, available
        for device in changed:
            _call(self.on_available, device)

    def _rebind(self) -> None:
        self._bound = bind(self._devices, self._claims.values())
        suspended = {name for name, record in self._devices.items() if record.suspended}
        for device in suspended - self._suspended:
            self._suspend(device)
        self._suspended = suspended
        self.look()

    def _suspend(self, device: str) -> None:
        ids = self._bound.get(device)
        vehicle = self.vehicle_of(device)
        self.incident(device, "Suspended", "the kill switch is on: applications are stopped")
        if ids is None:
            return
        if vehicle is None:
            self._late.add(device)
            return
        if self.owners is not None:
            self.owners.suspend(ids, "the device is suspended")
        if vehicle.state.armed or (not vehicle.state.connected and ids in self._flying):
            self.hold(ids, "the device is suspended")

    def _follow(self, ids: Ids) -> Vehicle:
        assert self._fleet is not None  # noqa: S101 - narrows the type
        vehicle = self._fleet.vehicle(*ids)
        if ids not in self._followed:
            self._followed.add(ids)
            vehicle.on_change.append(lambda change, _state: self._changed(vehicle, change))
            vehicle.on_offboard_end.append(lambda why: self._offboard_ended(vehicle, why))
            vehicle.on_text.append(lambda item: self.words.text(ids, self.devices_of(ids), item))
            vehicle.on_event.append(lambda item: self.words.event(ids, self.devices_of(ids), item))
        return vehicle

    def _changed(self, vehicle: Vehicle, change: Change) -> None:
        ids = (vehicle.ids.system, vehicle.ids.component)
        if change == "lost":
            self.losses += 1
            if self.owners is not None:
                self.owners.vehicle_lost(ids)
        _call(self.on_vehicle, vehicle)
        self.look()

    def _offboard_ended(self, vehicle: Vehicle, why: str) -> None:
        if self.owners is not None:
            self.owners.offboard_ended(vehicle, why)

    def _note(self, ids: Ids) -> None:
        """Remember of a vehicle that is heard whether it flies."""
        if self._fleet is None:
            return
        state = self._follow(ids).state
        if not state.connected:
            return
        now = self._clock()
        if flying_words(state):
            if ids not in self._flying or now - self._saved_at > SAVE_S:
                self._saved_at = now
                self.unsaved.set()
            self._flying[ids] = now
        elif self._flying.pop(ids, None) is not None:
            self.unsaved.set()

    def _flying_words(self, ids: Ids | None) -> str:
        if ids is None:
            return ""
        state = self._follow(ids).state if self._fleet is not None else None
        if state is not None and state.connected:
            return flying_words(state)
        if self._was_flying(ids):
            return "was lost in flight"
        unheard = state is None or not state.mode
        if unheard and self.config.endpoints and self._clock() - self._began < FIRST_HEARD_S:
            return "was not heard yet"
        return ""

    def _was_flying(self, ids: Ids) -> bool:
        at = self._flying.get(ids)
        return at is not None and self._clock() - at < self.config.lost_in_flight_s

    def _view(self, device: str) -> ShownVehicle | None:
        vehicle = self.vehicle_of(device)
        if vehicle is None:
            return self._shown.get(device) if device in self._bound else None
        return view(vehicle.state, self._shown.get(device), was_flying=self._was_flying(self._bound[device]))

    # Hold

    async def _hold(self, ids: Ids, application: str) -> None:
        result, text = "failed", "the gateway failed"
        try:
            result, text = await self._hold_until_shown(self._follow(ids))
        except Exception:  # its failure must not end what looks after the other vehicles
            _log.exception("hold failed system=%d", ids[0])
        finally:
            self._holding.pop(ids, None)
        self.holds[result] += 1
        for device in self.devices_of(ids):
            self.incident(device, "HoldFailed" if result == "failed" else "HoldConfirmed", text, application)

    async def _hold_until_shown(self, vehicle: Vehicle) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.hold_s
        flown = vehicle.state.mode
        answer = "nothing is heard of it"
        ordered = math.inf
        while loop.time() < deadline:
            state = vehicle.state
            if not state.connected:
                await vehicle.until(lambda s: s.connected, HOLD_ANSWER_S)
                continue
            if not state.armed:
                return "not needed", "the vehicle is disarmed"
            # Only a heartbeat after the order counts: another mode may have been on its way to the vehicle.
            if state.mode == "hold" and (vehicle.monitor.last_heartbeat or 0.0) > ordered:
                return "held", "the vehicle holds its position"
            if state.mode in PILOT_MODES and state.mode != flown:
                return "not needed", f"a pilot has taken over in mode {state.mode}"
            try:
                mode = mode_command(state.autopilot, state.type, "hold")
            except ValueError as error:
                return "failed", str(error)
            order = Command(_SET_MODE, (float(mode.base), float(mode.custom), float(mode.sub)))
            ordered = vehicle.now()
            answer = str(await vehicle.urgent(order, HOLD_ANSWER_S))
            await vehicle.until(functools.partial(_settled, vehicle, ordered), HOLD_SHOWN_S)
        return (
            "failed",
            f"the vehicle did not go to Hold within {self.config.hold_s:g} s: {answer}; its own failsafe acts",
        )

    async def _leave(self) -> None:
        """The agent ends: nobody will renew setpoints any more."""
        if self._fleet is None:
            return
        flying = [self._follow(ids) for ids in set(self._bound.values()) if self._fleet.vehicle(*ids).offboard]
        for vehicle in flying:
            if vehicle.offboard is not None:
                vehicle.offboard.end("the gateway's agent ends")
                vehicle.wake()
        if flying:
            try:
                async with asyncio.timeout(LEAVE_S):
                    await asyncio.gather(*(self._hold_until_shown(vehicle) for vehicle in flying))
            except TimeoutError:
                _log.error("not every vehicle showed Hold before the end; their own failsafe acts")


def _settled(vehicle: Vehicle, ordered: float, state: VehicleState) -> bool:
    """Whether the vehicle showed since a time that it holds, or is disarmed."""
    return not state.armed or (state.mode == "hold" and (vehicle.monitor.last_heartbeat or 0.0) > ordered)


def _call(listeners: Iterable[Callable[..., None]], *values: object) -> None:
    for listener in tuple(listeners):
        try:
            listener(*values)
        except Exception:  # one listener's fault must not keep a vehicle from being told to hold
            _log.exception("a listener failed")


def _rows(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
