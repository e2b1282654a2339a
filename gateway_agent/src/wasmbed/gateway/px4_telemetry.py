"""Telemetry of vehicles for applications: the newest record of each kind, at the interval that each asked for."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wasmbed.gateway.px4_codec import home_record, mission_record, record_of, status_record, sys_status_battery
from wasmbed.runtime.abi import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.mavlink import Fleet, Message, Vehicle

    Post = Callable[[int, bytes], None]

_log = logging.getLogger(__name__)

Ids = tuple[int, int]

# A record that an application only reads is renewed this often.
WATCH_INTERVAL_S: Final = 0.1
# The vehicle is asked for more of a message when it does not come about as often as somebody wants it.
RATE_LOOK_S: Final = 2.0
MAX_RATE_HZ: Final = 50.0
_ENOUGH = 0.8
_MESSAGES = {
    "HEARTBEAT": Telemetry.STATUS,
    "EXTENDED_SYS_STATE": Telemetry.STATUS,
    "GLOBAL_POSITION_INT": Telemetry.POSITION,
    "LOCAL_POSITION_NED": Telemetry.LOCAL,
    "ATTITUDE_QUATERNION": Telemetry.ATTITUDE,
    "ATTITUDE": Telemetry.ATTITUDE,
    "BATTERY_STATUS": Telemetry.BATTERY,
    "SYS_STATUS": Telemetry.BATTERY,
    "GPS_RAW_INT": Telemetry.GPS,
    "HOME_POSITION": Telemetry.HOME,
    "MISSION_CURRENT": Telemetry.MISSION,
    "MISSION_ITEM_REACHED": Telemetry.MISSION,
}
# Told when it changes, besides as it comes: it must not wait for an interval.
_EVENTFUL = frozenset({Telemetry.STATUS, Telemetry.MISSION, Telemetry.HOME})
# What the vehicle is asked for, by kind; the others come by themselves.
_ASKED = {
    Telemetry.POSITION: "GLOBAL_POSITION_INT",
    Telemetry.LOCAL: "LOCAL_POSITION_NED",
    Telemetry.ATTITUDE: "ATTITUDE_QUATERNION",
    Telemetry.BATTERY: "BATTERY_STATUS",
    Telemetry.GPS: "GPS_RAW_INT",
    Telemetry.HOME: "HOME_POSITION",
}


@dataclass
class _Reader:
    post: Post
    interval_s: float
    due: float = -math.inf

    def take(self, now: float) -> bool:
        """Whether a record is due; from the due time on, so that a source slightly too fast loses the excess only."""
        if now < self.due - 0.001:
            return False
        self.due = max(self.due + self.interval_s, now)
        return True


@dataclass
class _Feed:
    """One kind of one vehicle: who reads it, the newest record, and how many came."""

    readers: dict[str, _Reader] = field(default_factory=dict)
    newest: bytes = b""
    count: int = 0
    better: bool = False


class TelemetryFeeds:
    """The feeds of a fleet; messages are decoded only while somebody reads them."""

    def __init__(self, fleet: Fleet, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._clock = clock
        self._feeds: dict[tuple[Ids, Telemetry], _Feed] = {}
        self._watching: dict[str, Callable[[], None]] = {}
        self._looks: set[tuple[Ids, Telemetry]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, vehicle: Vehicle, kind: Telemetry, reader: str, post: Post, interval_s: float) -> None:
        """Give a reader every record of a kind from now on, at most one each `interval_s` seconds (0: all of them).

        What is known already is given at once.
        """
        key = (_ids(vehicle), kind)
        feed = self._feeds.setdefault(key, _Feed())
        known = feed.readers.get(reader)
        if known is None:
            feed.readers[reader] = known = _Reader(post, interval_s)
        else:
            known.post, known.interval_s, known.due = post, interval_s, -math.inf
        self._watch(kind)
        record = self._known(vehicle, kind) or feed.newest
        if record:
            known.take(self._clock())
            post(kind, record)
        if kind in _ASKED and key not in self._looks:
            self._looks.add(key)
            task = asyncio.get_running_loop().create_task(self._look(vehicle, kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, reader: str) -> None:
        """End all of a reader's subscriptions."""
        for key in [key for key, feed in self._feeds.items() if reader in feed.readers]:
            del self._feeds[key].readers[reader]
            if not self._feeds[key].readers:
                del self._feeds[key]
        self._unwatch()

    def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        self._feeds.clear()
        self._unwatch()

    def changed(self, vehicle: Vehicle) -> None:
        """The vehicle's state changed: STATUS is told at once."""
        self._give(_ids(vehicle), Telemetry.STATUS, status_record(vehicle, time.time_ns()), at_once=True)

    def _watch(self, kind: Telemetry) -> None:
        for name, of in _MESSAGES.items():
            if of is kind and name not in self._watching:
                self._watching[name] = self._fleet.watch(name, self._receive)

    def _unwatch(self) -> None:
        needed = {kind for _, kind in self._feeds}
        for name in [name for name in self._watching if _MESSAGES[name] not in needed]:
            self._watching.pop(name)()

    def _receive(self, item: Message) -> None:
        kind, ids = _MESSAGES[item.name], (item.system, item.component)
        feed = self._feeds.get((ids, kind))
        if feed is None:
            return
        if kind in _EVENTFUL:
            # The vehicle takes the message after its watchers: by then it knows what the message says.
            asyncio.get_running_loop().call_soon(self._tell, ids, kind)
            return
        if item.name in ("ATTITUDE_QUATERNION", "BATTERY_STATUS"):
            feed.better = True
        elif item.name in ("ATTITUDE", "SYS_STATUS") and feed.better:
            return
        now_ns = time.time_ns()
        if item.name == "SYS_STATUS":
            self._give(ids, kind, sys_status_battery(item, now_ns))
            return
        made = record_of(item, now_ns)
        if made is not None:
            self._give(ids, kind, made[1])

    def _tell(self, ids: Ids, kind: Telemetry) -> None:
        vehicle = self._fleet.vehicles.get(ids)
        record = None if vehicle is None else self._known(vehicle, kind)
        if record is not None:
            self._give(ids, kind, record)

    def _known(self, vehicle: Vehicle, kind: Telemetry) -> bytes | None:
        now_ns = time.time_ns()
        match kind:
            case Telemetry.STATUS:
                return status_record(vehicle, now_ns) if vehicle.state.connected else None
            case Telemetry.HOME:
                return home_record(vehicle.state, now_ns)
            case Telemetry.MISSION:
                return mission_record(vehicle, now_ns)
        return None

    def _give(self, ids: Ids, kind: Telemetry, record: bytes, *, at_once: bool = False) -> None:
        feed = self._feeds.get((ids, kind))
        if feed is None:
            return
        # Times are no news.
        news = kind in _EVENTFUL and record[8:] != feed.newest[8:]
        feed.newest = record
        feed.count += 1
        now = self._clock()
        for reader in feed.readers.values():
            if reader.take(now) or at_once or news:
                reader.post(kind, record)

    async def _look(self, vehicle: Vehicle, kind: Telemetry) -> None:
        """Have the vehicle send a message more often when it comes too seldom for those who read it."""
        key = (_ids(vehicle), kind)
        try:
            while (feed := self._feeds.get(key)) is not None:
                before = feed.count
                await asyncio.sleep(RATE_LOOK_S)
                if not feed.readers or not vehicle.state.connected:
                    continue
                fastest = min(max(reader.interval_s, 1.0 / MAX_RATE_HZ) for reader in feed.readers.values())
                wanted = _ENOUGH * RATE_LOOK_S / fastest
                if feed.count - before >= min(wanted, 1.0 if kind is Telemetry.HOME else wanted):
                    return
                result = await vehicle.set_rate(_ASKED[kind], 1.0 if kind is Telemetry.HOME else 1.0 / fastest)
                _log.debug("rate asked system=%d message=%s result=%s", vehicle.ids.system, _ASKED[kind], result)
                return
        finally:
            self._looks.discard(key)


def _ids(vehicle: Vehicle) -> Ids:
    return vehicle.ids.system, vehicle.ids.component
