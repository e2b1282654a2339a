"""Figures of the gateway's serial lines, and of the devices at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wasmbed.gateway.lines import Lines


class LineMetrics(Collector):
    """Figures of the lines whose device is there, by device."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first session."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One figure a device and kind."""
        figures = {
            "received_bytes": ("Bytes from the device", lambda mcu: mcu.traffic.bytes_in),
            "sent_bytes": ("Bytes to the device", lambda mcu: mcu.traffic.bytes_out),
            "backlog_bytes": ("Bytes that wait to be sent", lambda mcu: mcu.backlog_bytes),
            "uptime_seconds": ("Since the device started", lambda mcu: mcu.health.uptime_s if mcu.health else 0),
            "crashed": ("A crash record waits on the device", lambda mcu: bool(mcu.health and mcu.health.crashed)),
            "trip_seconds": ("Last request's way there and back", lambda mcu: mcu.traffic.last_trip_s),
            "repeated": ("Requests that were asked again", lambda mcu: mcu.traffic.repeated),
            "bad_frames": ("Bytes that were no frame", lambda mcu: mcu.traffic.secure.bad_frames),
            "forged": ("Messages that were not authentic", lambda mcu: mcu.traffic.secure.forged),
            "replays": ("Messages that were there before", lambda mcu: mcu.traffic.secure.replays),
        }
        for name, (text, value) in figures.items():
            metric = GaugeMetricFamily(f"wasmbed_agent_line_{name}", text, labels=["device"])
            for line in self._lines.lines:
                if line.device:
                    metric.add_metric([line.device], float(value(line.session)))  # type: ignore[no-untyped-call]
            yield metric
        keys = GaugeMetricFamily(
            "wasmbed_agent_line_gateway_key",
            "By which key a device knows the gateway: current, previous, or unknown since the agent runs",
            labels=["device", "key"],
        )
        for device in self._lines.devices():
            keys.add_metric([device, self._lines.key_states.get(device, "unknown")], 1.0)
        yield keys
        made = GaugeMetricFamily(
            "wasmbed_agent_line_next_key", "The public key a device made to replace its own", labels=["device", "key"]
        )
        for device, key in self._lines.next_keys.items():
            made.add_metric([device, key], 1.0)
        yield made
        yield from self._crashes()
        own = GaugeMetricFamily(
            "wasmbed_agent_line_device", "The device's own counters since it started", labels=["device", "counter"]
        )
        for line in self._lines.lines:
            for counter, count in line.statistics.items():
                own.add_metric([line.device, counter], float(count))
        yield own

    def _crashes(self) -> Iterable[Metric]:
        fetched = CounterMetricFamily(
            "wasmbed_agent_line_crashes", "Crash records fetched from a device since the agent runs", labels=["device"]
        )
        last = GaugeMetricFamily(
            "wasmbed_agent_line_last_crash",
            "The last crash record fetched from a device; the value is the seconds it had been running",
            labels=["device", "what", "cause", "pc", "address", "reset"],
        )
        for device, (count, record, reset) in self._lines.crashes.items():
            fetched.add_metric([device], float(count))
            registers = (f"0x{value:x}" for value in (record.cause, record.pc, record.address))
            last.add_metric([device, record.what, *registers, reset], float(record.uptime_s))
        yield from (fetched, last)
