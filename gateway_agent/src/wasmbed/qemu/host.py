"""All devices of a host: lines and watches come and go with the configuration, the others stay as they are."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from wasmbed.qemu.line import Line
from wasmbed.qemu.machine import watch_silence
from wasmbed.qemu.sensors import feed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric

    from wasmbed.qemu.config import DeviceConfig

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0
SERIAL_SOCKET: Final = "serial.sock"
SENSORS_SOCKET: Final = "sensors.sock"
MONITOR_SOCKET: Final = "monitor.sock"
CONTROL_SOCKET: Final = "control.sock"


class Devices:
    """The devices of this host; a Prometheus collector too."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resets: dict[str, int] = {}
        self.lines: dict[str, Line] = {}

    async def run(self, first: Mapping[str, DeviceConfig], changes: asyncio.Queue[Mapping[str, DeviceConfig]]) -> None:
        """Serve `first`, then whatever comes by `changes`, until cancelled."""
        async with asyncio.TaskGroup() as group:
            await self._take(first, group)
            while True:
                await self._take(await changes.get(), group)

    async def _take(self, wanted: Mapping[str, DeviceConfig], group: asyncio.TaskGroup) -> None:
        stale = [name for name, line in self.lines.items() if wanted.get(name) != line.config]
        for name in stale:
            self._tasks[name].cancel()
        # Their ports must be free before others take them.
        await asyncio.gather(*(self._tasks.pop(name) for name in stale), return_exceptions=True)
        for name in stale:
            del self.lines[name]
            self._resets.pop(name, None)
        for name in wanted.keys() - self.lines.keys():
            line = Line(wanted[name], self._run_directory / name / SERIAL_SOCKET)
            self.lines[name] = line
            self._resets[name] = 0
            self._tasks[name] = group.create_task(self._serve(line), name=name)
        log.info("devices count=%d changed=%d", len(self.lines), len(stale))

    async def _serve(self, line: Line) -> None:
        name = line.config.name

        def heard_at() -> float | None:
            return line.heard_at if line.connected else None

        def was_reset() -> None:
            self._resets[name] += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_line(line))
            if line.config.sensor_rate:
                group.create_task(feed(self._run_directory / name / SENSORS_SOCKET, line.config.sensor_rate))
            if line.config.silence_reset_s:
                monitor = self._run_directory / name / MONITOR_SOCKET
                group.create_task(watch_silence(name, monitor, line.config.silence_reset_s, heard_at, was_reset))

    @staticmethod
    async def _keep_line(line: Line) -> None:
        while True:
            try:
                await line.run()
            except OSError as error:
                endpoint = line.config.serial
                log.error(
                    "endpoint not opened device=%s address=%s port=%d error=%s",
                    *(line.config.name, endpoint.address, endpoint.port, error),
                )
            await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret

    def collect(self) -> Iterator[Metric]:
        """Give Prometheus the figures of every line."""
        bytes_total = CounterMetricFamily("wasmbed_serial_bytes", "Bytes by direction", labels=["device", "direction"])
        lost = CounterMetricFamily("wasmbed_serial_lost_bytes", "Bytes nobody was there for", labels=["device"])
        faults = CounterMetricFamily("wasmbed_serial_fault_bytes", "Faults for tests", labels=["device", "kind"])
        resets = CounterMetricFamily("wasmbed_serial_resets", "Resets for want of a sign of life", labels=["device"])
        up = GaugeMetricFamily("wasmbed_serial_machine_up", "Whether QEMU's end is there", labels=["device"])
        for name, line in self.lines.items():
            bytes_total.add_metric([name, "to_device"], line.statistics.to_device)
            bytes_total.add_metric([name, "from_device"], line.statistics.from_device)
            lost.add_metric([name], line.statistics.lost)
            dropped, altered = line.faults
            faults.add_metric([name, "dropped"], dropped)
            faults.add_metric([name, "altered"], altered)
            resets.add_metric([name], self._resets.get(name, 0))
            up.add_metric([name], line.connected)
        yield from (bytes_total, lost, faults, resets, up)
