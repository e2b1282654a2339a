"""One vehicle: its protocols brought together and driven by the event loop."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.commands import Command, CommandLane, CommandResult, CommandRun
from wasmbed.bridges.mavlink.component_info import (
    FindMetadata,
    MetadataError,
    MetadataSource,
    parse_metadata,
    sources,
)
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.events import Event, EventReceiver, StatusText, StatusTexts
from wasmbed.bridges.mavlink.ftp_files import FileResult, ListFiles, ListResult, ReadFile, WriteFile, WriteResult
from wasmbed.bridges.mavlink.mission_items import PlanItem, PlanType
from wasmbed.bridges.mavlink.missions import ClearPlan, DownloadPlan, MissionProgress, PlanResult, UploadPlan
from wasmbed.bridges.mavlink.modes import AUTOPILOT_ARDUPILOT
from wasmbed.bridges.mavlink.offboard import Offboard, Phase
from wasmbed.bridges.mavlink.operations import Ids, Operation
from wasmbed.bridges.mavlink.parameter_files import ParameterCache
from wasmbed.bridges.mavlink.parameter_values import Encoding, Number, encoding_of
from wasmbed.bridges.mavlink.parameters import (
    ListParameters,
    ParameterList,
    ParameterResult,
    ReadHash,
    ReadParameter,
    WriteParameter,
)
from wasmbed.bridges.mavlink.timesync import Timesync
from wasmbed.bridges.mavlink.vehicle_state import MONITORED, Change, VehicleMonitor, VehicleState

_log = logging.getLogger(__name__)

T = TypeVar("T")

SPOKEN = MONITORED | {
    "COMMAND_ACK",
    "PARAM_VALUE",
    "PARAM_ERROR",
    "MISSION_COUNT",
    "MISSION_REQUEST",
    "MISSION_REQUEST_INT",
    "MISSION_ITEM",
    "MISSION_ITEM_INT",
    "MISSION_ACK",
    "MISSION_CURRENT",
    "MISSION_ITEM_REACHED",
    "TIMESYNC",
    "STATUSTEXT",
    "EVENT",
    "CURRENT_EVENT_SEQUENCE",
    "RESPONSE_EVENT_ERROR",
    "MESSAGE_INTERVAL",
    "FILE_TRANSFER_PROTOCOL",
    "COMPONENT_METADATA",
}
"""The messages a vehicle object takes."""

_ANSWERED = frozenset({"TIMESYNC", "STATUSTEXT", "EVENT", "CURRENT_EVENT_SEQUENCE", "RESPONSE_EVENT_ERROR"})
_TEXTS_KEPT = 50
# A file that was broken off goes on where it was.
_MORE_TRIES = 2
_SET_MESSAGE_INTERVAL = 511
_REQUEST_MESSAGE = 512


class _Machine(Protocol):
    deadline: float | None

    def take(self) -> list[Message]: ...


class Vehicle:
    """Everything the gateway does with one vehicle; made by `Fleet.vehicle`.

    `on_change`, `on_text`, `on_event` and `on_offboard_end` (with why) are for whoever follows the vehicle.
    """

    def __init__(
        self, ids: Ids, send: Callable[[Message], int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ids = ids
        self.monitor = VehicleMonitor(ids)
        self.progress = MissionProgress()
        self.timesync = Timesync(ids)
        self.texts: list[StatusText] = []
        self.on_change: list[Callable[[Change, VehicleState], None]] = []
        self.on_text: list[Callable[[StatusText], None]] = []
        self.on_event: list[Callable[[Event], None]] = []
        self.on_offboard_end: list[Callable[[str], None]] = []
        self.offboard: Offboard | None = None
        self._send = send
        self._clock = clock
        self._operations: dict[Operation[object], asyncio.Future[object]] = {}
        self._status_texts = StatusTexts(ids.system, self._text)
        self._events = EventReceiver(ids, lambda event: _call(self.on_event, event))
        self._lane = CommandLane()
        self._lanes: dict[int, asyncio.Lock] = {}
        self._waiters: set[asyncio.Event] = set()
        self._transfer = asyncio.Lock()
        self._files = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> VehicleState:
        """The vehicle as it last showed itself."""
        return self.monitor.state

    @property
    def encoding(self) -> Encoding:
        """How it encodes parameter values."""
        return encoding_of(self.state.autopilot, self.state.capabilities)

    def now(self) -> float:
        """The clock of the vehicle's protocols, in seconds."""
        return self._clock()

    def close(self) -> None:
        """End everything that is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for future in self._operations.values():
            future.cancel()

    def receive(self, item: Message, now: float) -> None:
        """Take a message of the vehicle's system."""
        changes = self.monitor.receive(item, now)
        self.progress.receive(item)
        self.timesync.receive(item, time.time_ns())
        self._status_texts.receive(item, now)
        self._events.receive(item, now)
        for operation in list(self._operations):
            operation.receive(item, now)
        if self.offboard is not None and item.name == "HEARTBEAT" and self.ids.sent_by_target(item):
            self.offboard.mode_changed(self.state.mode == "offboard", now)
        self._changed(changes)
        # Most telemetry moves no machine.
        if self._operations or self.offboard is not None or item.name in _ANSWERED:
            self._work(now)
        for waiter in self._waiters:
            waiter.set()

    def advance(self, now: float) -> None:
        """Take note of the time."""
        self._changed(self.monitor.advance(now))
        if self.state.connected:
            self.timesync.advance(now, time.time_ns())
        self._status_texts.advance(now)
        self._events.advance(now)
        if self.offboard is not None:
            self.offboard.advance(now)
        for operation in list(self._operations):
            operation.advance(now)
        self._work(now)
        for waiter in self._waiters:
            waiter.set()

    async def run(self, operation: Operation[T]) -> T:
        """Drive an operation to its result. Cancelling cancels it at the vehicle where the protocol can."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._operations[operation] = future  # type: ignore[index]
        now = self._clock()
        operation.start(now)
        self._work(now)
        try:
            await future
        except asyncio.CancelledError:
            operation.cancel(self._clock())
            for item in operation.take():
                self._send(item)
            raise
        finally:
            del self._operations[operation]  # type: ignore[arg-type]
        assert operation.result is not None  # noqa: S101 - the future says so
        return operation.result

    async def command(self, command: Command) -> CommandResult:
        """Send a command and wait for its answer; one of a number at a time, so that answers are not mixed up."""
        async with self._lanes.setdefault(command.number, asyncio.Lock()):
            await asyncio.sleep(self._lane.wait_s(command.number, self._clock()))
            run = CommandRun(self.ids, command)
            try:
                return await self.run(run)
            finally:
                self._lane.leave(run, self._clock())

    async def urgent(self, command: Command, give_up_s: float) -> CommandResult:
        """Send a command now, whatever else is under way, and wait at most `give_up_s` seconds for its answer.

        The answer may be that to another command of the number: believe what the vehicle shows.
        """
        return await self.run(CommandRun(self.ids, command, give_up_s=give_up_s))

    async def until(self, condition: Callable[[VehicleState], bool], seconds: float) -> bool:
        """Wait until the state is as wanted; False when it is not after `seconds`."""
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.state):
                    await waiter.wait()
                    waiter.clear()
        except TimeoutError:
            return condition(self.state)
        finally:
            self._waiters.discard(waiter)
        return True

    async def request(self, name: str) -> CommandResult:
        """Ask for one message (MAV_CMD_REQUEST_MESSAGE)."""
        return await self.command(Command(_REQUEST_MESSAGE, (float(default_dialect()[name].id),)))

    async def set_rate(self, name: str, rate_hz: float | None) -> CommandResult:
        """Set how often a message comes; 0 stops it, None asks for the vehicle's default."""
        interval_us = 0.0 if rate_hz is None else -1.0 if rate_hz <= 0 else round(1e6 / rate_hz)
        return await self.command(Command(_SET_MESSAGE_INTERVAL, (float(default_dialect()[name].id), interval_us)))

    async def read_parameter(self, name: str) -> ParameterResult:
        """Read a parameter."""
        return await self.run(ReadParameter(self.ids, name, self.encoding))

    async def write_parameter(self, name: str, value: Number) -> ParameterResult:
        """Write a parameter in the type the vehicle has for it. ValueError for a value that does not fit the type."""
        found = await self.read_parameter(name)
        if found.parameter is None:
            return found
        return await self.run(WriteParameter(self.ids, name, value, found.parameter.type, self.encoding))

    async def list_parameters(
        self, on_progress: Callable[[int, int], None] | None = None, cache: ParameterCache | None = None
    ) -> ParameterList:
        """Read all parameters; those in `cache` when the vehicle's hash is still theirs, without a transfer."""
        name = f"vehicle-{self.ids.system}-{self.ids.component}"
        async with self._transfer:
            if cache is not None and cache.holds(name):
                found = await self.parameter_hash()
                kept = None if found is None else cache.load(name, found)
                if kept is not None:
                    return ParameterList(kept, found, cached=True)
            listed = await self.run(ListParameters(self.ids, self.encoding, on_progress))
            # One that was changed meanwhile would be kept under the hash of before.
            if cache is not None and listed.hash is not None and await self.parameter_hash() == listed.hash:
                await asyncio.to_thread(cache.store, name, listed)
        return listed

    async def parameter_hash(self) -> int | None:
        """PX4's hash over all parameters; None when the vehicle has none."""
        found = await self.run(ReadHash(self.ids))
        return found if found >= 0 else None

    async def read_file(self, path: str, component: int | None = None) -> FileResult:
        """Read a file from the vehicle (MAVLink FTP)."""
        ids = self.ids if component is None else replace(self.ids, component=component)
        async with self._files:
            result = await self.run(ReadFile(ids, path))
            for _ in range(_MORE_TRIES):
                if result.partial:
                    result = await self.run(ReadFile(ids, path, resume=result.partial))
            return result

    async def write_file(self, path: str, data: bytes) -> WriteResult:
        """Write a file on the vehicle, in place of what is there, and compare checksums (MAVLink FTP)."""
        async with self._files:
            result = await self.run(WriteFile(self.ids, path, data))
            for _ in range(_MORE_TRIES):
                if result.written and not result.ok:
                    result = await self.run(WriteFile(self.ids, path, data, resume=result.written))
            return result

    async def list_files(self, path: str) -> ListResult:
        """List a folder of the vehicle (MAVLink FTP)."""
        async with self._files:
            return await self.run(ListFiles(self.ids, path))

    async def metadata(self) -> dict[str, dict[str, Any]]:
        """What the vehicle says about itself: its general metadata file, and those on the vehicle that it names.

        MetadataError when it has none, or one that cannot be read.
        """
        source = await self.run(FindMetadata(self.ids))
        if not source.uri:
            raise MetadataError("the vehicle has no component metadata")
        found = {"general": await self._metadata_file(source)}
        for name, further in sources(found["general"]).items():
            if further.uri.startswith("mftp://"):
                found[name] = await self._metadata_file(further)
        return found

    async def _metadata_file(self, source: MetadataSource) -> dict[str, Any]:
        component, path = source.location(self.ids.component)
        found = await self.read_file(path, component)
        if found.data is None:
            raise MetadataError(f"{source.uri}: {found.reason}")
        return parse_metadata(found.data, source.crc)

    async def upload(self, items: Iterable[PlanItem], plan: PlanType = PlanType.MISSION) -> PlanResult:
        """Write a plan and read it back."""
        home_first = self.state.autopilot == AUTOPILOT_ARDUPILOT and plan is PlanType.MISSION
        async with self._transfer:
            return await self.run(UploadPlan(self.ids, list(items), plan, ignore_first=home_first))

    async def download(self, plan: PlanType = PlanType.MISSION) -> PlanResult:
        """Read a plan."""
        async with self._transfer:
            return await self.run(DownloadPlan(self.ids, plan))

    async def clear(self, plan: PlanType = PlanType.MISSION) -> PlanResult:
        """Remove a plan."""
        async with self._transfer:
            return await self.run(ClearPlan(self.ids, plan))

    def send(self, item: Message) -> int:
        """Send a message as it is; the number of ports it went to."""
        return self._send(item)

    def wake(self) -> None:
        """Look at the machines again after one was changed from outside, as by `Offboard.renew`."""
        self._work(self._clock())

    def _work(self, now: float) -> None:
        machines: list[_Machine] = [self.timesync, self._events, *self._operations]
        if self.offboard is not None:
            machines.append(self.offboard)
        for machine in machines:
            for item in machine.take():
                self._send(item)
        for operation, future in self._operations.items():
            if operation.result is not None and not future.done():
                future.set_result(None)
        self._plan(machines, now)
        ended = self.offboard
        if ended is not None and ended.phase is Phase.ENDED:
            self.offboard = None
            _call(self.on_offboard_end, ended.reason)

    def _plan(self, machines: list[_Machine], now: float) -> None:
        # The clock-driven ones go by the fleet's heartbeat; only these need to be on time.
        deadlines = [item.deadline for item in machines if item is not self.timesync and item.deadline is not None]
        if self._status_texts.deadline is not None:
            deadlines.append(self._status_texts.deadline)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadlines:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.001, min(deadlines) - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.advance(self._clock())

    def _text(self, text: StatusText) -> None:
        self.texts.append(text)
        del self.texts[:-_TEXTS_KEPT]
        _call(self.on_text, text)

    def _changed(self, changes: list[Change]) -> None:
        for change in changes:
            if change is Change.REBOOTED:
                self.timesync.reset()
            _log.info("vehicle %s system=%s mode=%s", change, self.ids.system, self.state.mode)
            state = self.state
            _call([functools.partial(_swapped, listener, state) for listener in self.on_change], change)


def _call(listeners: Iterable[Callable[[T], object]], value: T) -> None:
    for listener in tuple(listeners):
        try:
            listener(value)
        except Exception:
            _log.exception("a listener failed")


def _swapped(listener: Callable[[Change, VehicleState], None], state: VehicleState, change: Change) -> None:
    listener(change, state)
