"""A microcontroller as a runtime: the session over its line, and the operations of wasmbed.runtime.RuntimeClient."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wasmbed.link import records, smp
from wasmbed.link.deliveries import Deliveries
from wasmbed.link.exchange import Exchange, Traffic
from wasmbed.link.line import Endpoint, LineError, open_line
from wasmbed.link.operations import InstanceNames, McuOperations
from wasmbed.link.secure import HEARTBEAT_S, MISSED_HEARTBEATS, Ends, Stranger, Up
from wasmbed.link.smp import Id, Op, SmpError
from wasmbed.runtime import HostRequest, LogEvent, RequestRefused, RuntimeGone, StateEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from wasmbed.link.records import Health, Telemetry
    from wasmbed.runtime import Delivery, Event

_log = logging.getLogger(__name__)

MAX_WAITING_EVENTS: Final = 4096
# Requests and lines of applications that are remembered, so that a repetition is not taken again.
_REMEMBERED: Final = 256
# Any device takes messages of this size; around the data of an event is its name, type, source and number.
_LEAST_MESSAGE_BYTES: Final = 288
_DELIVERY_BYTES: Final = 100
_FIRST_RETRY_S: Final = 0.5
_TICK_S: Final = 1.0
_LAST_RETRY_S: Final = 10.0


@dataclass(frozen=True)
class LinkState:
    """A change of the link. rebooted: the device started anew since it was last heard; number counts sessions."""

    up: bool
    reason: str = ""
    rebooted: bool = False
    number: int = 0


class McuSession(McuOperations):
    """The device at one line. `run` keeps the session until it is cancelled; everything else may be called meanwhile.

    Operations raise RuntimeGone while there is no session or when the device does not answer, RequestRefused when it
    refuses. Events go on over sessions; after each `LinkState(up=True)` the instances should be listed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        candidates: Callable[[], Iterable[Ends]],
        *,
        heartbeat_s: float = HEARTBEAT_S,
        on_link: Callable[[LinkState], None] = lambda _: None,
        on_telemetry: Callable[[Telemetry], None] = lambda _: None,
        on_stranger: Callable[[Stranger], None] = lambda _: None,
        on_health: Callable[[Health], None] = lambda _: None,
    ) -> None:
        """candidates: who may be there, asked at each handshake; heartbeat_s is told to the device.

        Must be made on the event loop.
        """
        self.device = ""
        self.endpoint = endpoint
        self._heartbeat_s = heartbeat_s
        self._on_link, self._on_telemetry, self._on_health = on_link, on_telemetry, on_health
        exchange = Exchange(
            candidates,
            baud=endpoint.baud,
            on_up=self._up,
            on_lost=self._lost,
            on_own=self._own,
            on_stranger=on_stranger,
        )
        super().__init__(exchange, InstanceNames())
        self._exchange.set_lost_after(heartbeat_s * MISSED_HEARTBEATS)
        self._deliveries = Deliveries(exchange, self._names.to_wire)
        self._health: Health | None = None
        self._up_is_told = True
        self._sessions = 0
        self._key = b""
        self._gateway_key = 0
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._list_due = asyncio.Event()
        self._told: dict[str, tuple[str, str, int]] = {}
        self._taken: OrderedDict[int, None] = OrderedDict()

    # ---- the session ------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """There is a session."""
        return self._exchange.up

    @property
    def device_key(self) -> bytes:
        """The static key that the device proved last, empty before."""
        return self._key

    @property
    def gateway_key(self) -> int:
        """The number of the gateway's key that the device knows it by: 0 for the one in use."""
        return self._gateway_key

    @property
    def health(self) -> Health | None:
        """The last heartbeat."""
        return self._health

    @property
    def traffic(self) -> Traffic:
        """Counts of this end."""
        return self._exchange.traffic

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent to it."""
        return self._exchange.backlog_bytes + self._deliveries.waiting_bytes

    def drop(self, why: str) -> None:
        """End the session; another handshake may bring the next."""
        self._exchange.drop(why)

    def renew(self) -> None:
        """Ask for a new handshake; what is on its way may have to be asked again."""
        self._exchange.renew()

    async def run(self) -> None:
        """Open the line, again whenever it ends, and keep the session; ends only when cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliveries.run())
            group.create_task(self._follow_changes())
            failures = 0
            while True:
                lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

                def ended(why: str, lost: asyncio.Future[str] = lost) -> None:
                    if not lost.done():
                        lost.set_result(why)

                try:
                    line = await open_line(self.endpoint, self._exchange.received, ended)
                except LineError as error:
                    if failures == 0:
                        _log.warning("line not open line=%s error=%s", self.endpoint, error)
                    failures += 1
                    await asyncio.sleep(min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(failures, 10)))
                    continue
                failures = 0
                try:
                    self._exchange.attach(line)
                    while not lost.done():
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(min(_TICK_S, self._exchange.tick())):
                                await asyncio.shield(lost)
                    _log.warning("line lost line=%s reason=%s", self.endpoint, lost.result())
                finally:
                    line.close()
                    self._exchange.detach("the line is gone")
                await asyncio.sleep(_FIRST_RETRY_S)

    def _up(self, event: Up) -> None:
        self._sessions += 1
        if event.name != self.device:
            self.device = event.name
            self._names.begin(event.name)
            self._health = None
            self._told.clear()
            self._taken.clear()
            self._deliveries.clear()
        self._info = None
        self._key = event.device
        self._gateway_key = event.gateway
        # Told with the first heartbeat, which says whether the device restarted.
        self._up_is_told = False

    def _lost(self, reason: str) -> None:
        _log.warning("link lost device=%s reason=%s", self.device, reason)
        self._on_link(LinkState(False, reason, number=self._sessions))

    def _own(self, message: smp.Message) -> None:
        """A message of the device itself; one that is not readable is left out."""
        try:
            match message.id:
                case Id.HEARTBEAT:
                    self._heartbeat(message)
                case Id.LOG:
                    self._line(message)
                case Id.STATE:
                    self._put(records.state_event(message.body, self._names.from_wire(smp.text(message.body, 0))))
                case Id.TELEMETRY:
                    self._on_telemetry(records.Telemetry.from_wire(message.body))
                case Id.REQUEST:
                    self._request(message)
                case _:
                    self.traffic.ignored += 1
        except SmpError as error:
            self.traffic.ignored += 1
            _log.warning("message not readable device=%s id=%d error=%s", self.device, message.id, error)

    def _heartbeat(self, message: smp.Message) -> None:
        health = records.Health.from_wire(message.body)
        answer = {0: time.time_ns() // 1000, 1: max(1, round(self._heartbeat_s))}
        self._exchange.tell(Op.WRITE_ANSWER, message.seq, message.id, answer)
        before, self._health = self._health, health
        rebooted = before is not None and health.uptime_s < before.uptime_s
        if not self._up_is_told:
            self._up_is_told = True
            _log.info("link up device=%s session=%d rebooted=%s", self.device, self._sessions, rebooted)
            self._on_link(LinkState(True, health.reset_reason if rebooted else "", rebooted, self._sessions))
            self._deliveries.begin()
        elif before is not None and health.changes != before.changes:
            self._list_due.set()
        self._on_health(health)

    def _line(self, message: smp.Message) -> None:
        """A line for the journal; what has a number is sent again until it is answered."""
        number = smp.number(message.body, 4) if 4 in message.body else None
        if number is None or number not in self._taken:
            instance = self._names.from_wire(smp.text(message.body, 0))
            application = self._names.application(instance)
            self._put(records.log_event(message.body, instance, application, self.device))
        if number is not None:
            self._answer(message, number)

    def _request(self, message: smp.Message) -> None:
        number = smp.number(message.body, 0)
        if number not in self._taken:
            instance = self._names.from_wire(smp.text(message.body, 1))
            application = self._names.application(instance)
            if len(self._events) >= MAX_WAITING_EVENTS:
                return  # not acknowledged: the device asks again
            self._put(records.host_request(message.body, instance, application, self.device))
        self._answer(message, number)

    def _answer(self, message: smp.Message, number: int) -> None:
        self._taken[number] = None
        if len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        self._exchange.tell(Op.WRITE_ANSWER, message.seq, message.id, {0: number})

    async def _follow_changes(self) -> None:
        """States whose note was lost on the line: the heartbeat counts changes, and then the list says which."""
        while True:
            await self._list_due.wait()
            self._list_due.clear()
            with contextlib.suppress(RuntimeGone, RequestRefused):
                for row in await self.list():
                    if self._told.get(row.instance) != (row.state, row.message, row.restarts):
                        state = (row.state, row.reason, row.message, row.restarts, row.previous)
                        self._put(StateEvent(row.instance, *state))

    # ---- events -----------------------------------------------------------------------------------------------

    def _put(self, event: Event) -> None:
        if len(self._events) >= MAX_WAITING_EVENTS and isinstance(event, LogEvent):
            self._dropped += 1 + event.dropped
            return
        if isinstance(event, LogEvent) and self._dropped:
            event = LogEvent(**{**event.__dict__, "dropped": event.dropped + self._dropped})
            self._dropped = 0
        if isinstance(event, StateEvent):
            self._told[event.instance] = (event.state, event.message, event.restarts)
        if len(self._events) >= 2 * MAX_WAITING_EVENTS:
            self._events.popleft()
        self._events.append(event)
        self._wake.set()

    async def events(self) -> AsyncIterator[Event]:
        """Yield logs, states and applications' requests to one reader, across sessions."""
        while True:
            while not self._events:
                self._wake.clear()
                await self._wake.wait()
            event = self._events.popleft()
            if not isinstance(event, StateEvent) and not event.application:
                # It came before the list that tells whose it is.
                application = self._names.application(event.instance)
                event = (
                    event._replace(application=application)
                    if isinstance(event, HostRequest)
                    else replace(event, application=application)
                )
            yield event

    def deliver(self, batch: Iterable[Delivery]) -> int:
        """Queue events for instances, in order and without an answer; returns how many were left out.

        Left out is what is larger than the device takes, and, when its queue is full, telemetry, samples and messages.
        """
        limit = (self._info.message_bytes if self._info is not None else _LEAST_MESSAGE_BYTES) - _DELIVERY_BYTES
        return self._deliveries.put(batch, limit)
