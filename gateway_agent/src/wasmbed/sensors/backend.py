"""The backend of `wasmbed:sensor`, on a gateway for the devices it serves and on a Linux device for itself."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from wasmbed.hostcalls import Ended, HostCall, Instance, Outcome, Outlet
from wasmbed.runtime import Sensor
from wasmbed.runtime.abi import INTERVAL_MAX_MS, SAMPLE, EventType
from wasmbed.sensors.feed import Feed
from wasmbed.sensors.sample import sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from wasmbed.sensors.config import SensorConfig
    from wasmbed.sensors.sample import VehicleSource

CHECK_S: Final = 1.0
# How often an autopilot's sensors are looked at.
VEHICLE_S: Final = 0.05
MAX_SENSORS: Final = 64


class _Wish:
    """What one instance wants of one sensor: at most a sample every interval_s."""

    __slots__ = ("due", "interval_s", "told_ns")

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.due = 0.0
        self.told_ns = 0


class SensorBackend(Collector):
    """Made by `running`, whose context is its life."""

    module = "sensor"
    operations: ClassVar[Mapping[str, float]] = {"subscribe": 5.0, "watch": 5.0}

    def __init__(self, configs: Sequence[SensorConfig], vehicle: VehicleSource | None = None) -> None:
        self._configs = tuple(configs)
        self._vehicle = vehicle
        self._outlet: Outlet | None = None
        self._capabilities: dict[str, frozenset[str]] = {}
        self._remote: set[str] = set()
        self._instances: dict[str, Instance] = {}
        # Of each sensor: what instances want of it, by their names, and the index it has for each.
        self._wishes: list[dict[str, _Wish]] = [{} for _ in self._configs]
        self._feeds: dict[int, Feed] = {}

    @classmethod
    @asynccontextmanager
    async def running(
        cls, configs: Sequence[SensorConfig], vehicle: VehicleSource | None = None
    ) -> AsyncIterator[SensorBackend]:
        """Read sensors within the context."""
        backend = cls(configs, vehicle)
        loop = asyncio.get_running_loop()
        for number, config in enumerate(backend._configs):
            if config.provider != "vehicle":
                on_sample = functools.partial(backend._on_sample, number)
                backend._feeds[number] = Feed(config, loop, on_sample, backend._on_state)
                backend._feeds[number].start()
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(backend._check()), tasks.create_task(backend._poll_vehicles())]
                try:
                    yield backend
                finally:
                    for task in work:
                        task.cancel()
        finally:
            for feed in backend._feeds.values():
                feed.stop()

    def attach(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def available(self, device: str) -> bool:
        """Whether any sensor of the device can be read."""
        return any(self._works(number, device) for number in self._of(device))

    def sensors(self, device: str) -> Sequence[Sensor]:
        """The sensors of a device, in the order of the configuration; one that fails keeps its index."""
        found = []
        for number in self._of(device):
            config = self._configs[number]
            feed = self._feeds.get(number)
            size = feed.max_bytes if feed is not None else SAMPLE.size + 8 * config.values
            rate = round(1_000_000 / config.interval_ms)
            found.append(Sensor(config.name, config.sensor_kind, config.values, rate, size))
        return found

    async def open(self, instance: Instance) -> None:
        """Learn what the instance's device has."""
        self._capabilities[instance.device] = instance.spec.capabilities
        (self._remote.add if instance.spec.remote else self._remote.discard)(instance.device)
        self._instances[instance.name] = instance

    async def close(self, instance: Instance, why: Ended) -> None:
        """Nobody wants anything for it any more."""
        if self._instances.get(instance.name) is instance:
            del self._instances[instance.name]
            for number, wishes in enumerate(self._wishes):
                if wishes.pop(instance.name, None) is not None:
                    self._want(number)

    def handle(self, call: HostCall) -> Outcome | Awaitable[Outcome]:
        """Note what an instance wants; `watch` is for the newest sample alone, as often as there is one."""
        sensors = self._of(call.instance.device)
        number = sensors[call.number(0, 0, len(sensors) - 1)]
        interval_ms = call.number(1, -1, INTERVAL_MAX_MS) if call.op == "subscribe" else 0
        wishes = self._wishes[number]
        known = wishes.get(call.instance.name)
        if interval_ms < 0:
            wishes.pop(call.instance.name, None)
        elif call.op == "subscribe" or known is None:
            wishes[call.instance.name] = _Wish(interval_ms / 1000)
        self._want(number)
        return Outcome()

    def _of(self, device: str) -> list[int]:
        """The sensors of a device, by their numbers."""
        has = self._capabilities.get(device, frozenset())
        return [
            number
            for number, config in enumerate(self._configs)
            if (
                any(fnmatchcase(device, item) for item in config.devices)
                if config.devices
                else device not in self._remote
            )
            and (not config.capability or config.capability in has)
        ][:MAX_SENSORS]

    def _works(self, number: int, device: str) -> bool:
        feed = self._feeds.get(number)
        if feed is not None:
            return not feed.problem
        kind = self._configs[number].sensor_kind
        return self._vehicle is not None and self._vehicle.reading(device, kind) is not None

    def _want(self, number: int) -> None:
        feed = self._feeds.get(number)
        if feed is not None:
            feed.want(min((wish.interval_s for wish in self._wishes[number].values()), default=None))

    def _on_sample(self, number: int, data: bytes) -> None:
        now = time.monotonic()
        for name, wish in self._wishes[number].items():
            # A sample a tenth early counts, so that two clocks of one rate lose none.
            if now >= wish.due - wish.interval_s * 0.1:
                wish.due = max(wish.due + wish.interval_s, now)
                self._post(name, number, data)

    def _post(self, name: str, number: int, data: bytes) -> None:
        instance = self._instances.get(name)
        if instance is not None:
            instance.post(EventType.SENSOR, self._of(instance.device).index(number), data)

    def _on_state(self) -> None:
        if self._outlet is not None:
            self._outlet.changed()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            for feed in self._feeds.values():
                feed.check()

    async def _poll_vehicles(self) -> None:
        """Autopilots tell by themselves; what is new since an instance was told goes to it."""
        numbers = [number for number, config in enumerate(self._configs) if config.provider == "vehicle"]
        told: dict[str, bool] = {}
        while self._vehicle is not None and numbers:
            await asyncio.sleep(VEHICLE_S)
            for device in set(self._capabilities):
                works = any(self._works(number, device) for number in numbers)
                if told.get(device) is not works:
                    told[device] = works
                    if self._outlet is not None:
                        self._outlet.changed(device)
            for number in numbers:
                for name, wish in list(self._wishes[number].items()):
                    self._tell_vehicle(number, name, wish)

    def _tell_vehicle(self, number: int, name: str, wish: _Wish) -> None:
        instance, config = self._instances.get(name), self._configs[number]
        now = time.monotonic()
        if instance is None or self._vehicle is None or now < wish.due:
            return
        reading = self._vehicle.reading(instance.device, config.sensor_kind)
        if reading is None or (reading.time_ns and reading.time_ns == wish.told_ns):
            return
        wish.told_ns = reading.time_ns
        wish.due = now + max(wish.interval_s, config.interval_ms / 1000)
        self._post(name, number, sample(config.sensor_kind, reading, config.values))

    def collect(self) -> Iterator[Metric]:
        """Figures of sensors, for Prometheus."""
        up = GaugeMetricFamily("wasmbed_sensor_up", "Whether a sensor can be read", labels=["sensor"])
        samples = CounterMetricFamily("wasmbed_sensor_samples", "Samples read of a sensor", labels=["sensor"])
        failures = CounterMetricFamily("wasmbed_sensor_failures", "Failures to read a sensor", labels=["sensor"])
        for feed in self._feeds.values():
            up.add_metric([feed.config.name], float(not feed.problem))
            samples.add_metric([feed.config.name], feed.samples)
            failures.add_metric([feed.config.name], feed.failures)
        yield from (up, samples, failures)
