"""Figures of the MAVLink bridge and of flight safety, read when they are asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from wasmbed.gateway.flight_service import FlightService

_LINK_COUNTS = {
    "received_frames": "Frames that came in",
    "received_bytes": "Bytes of frames that came in",
    "sent_frames": "Frames that were sent",
    "sent_bytes": "Bytes of frames that were sent",
    "lost": "Frames lost on the way here, by their sequence numbers",
    "send_dropped": "Frames that a link could not take",
    "signature_rejected": "Frames refused for their signature",
}


class FlightCollector(Collector):
    """Everything under wasmbed_mavlink_, wasmbed_px4_topic_ and wasmbed_flight_."""

    def __init__(self, service: FlightService) -> None:
        self._service = service
        # Ports of peers come and go; what they counted stays.
        self._past: dict[str, Counter[str]] = {}
        self._ports: dict[tuple[str, int], dict[str, int]] = {}

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        flight, hub, fleet = self._service.flight, self._service.hub, self._service.fleet
        yield from self._links()
        peers = GaugeMetricFamily("wasmbed_mavlink_peers", "Open ports by endpoint", labels=["endpoint"])
        if hub is not None:
            counts = Counter(port.options.policy.name for port in hub.switch.ports)
            for name in hub.links:
                peers.add_metric([name], counts[name])
        yield peers
        vehicles = list(fleet.vehicles.values()) if fleet is not None else []
        heard = sum(vehicle.state.connected for vehicle in vehicles)
        yield _gauge("wasmbed_mavlink_vehicles", "Vehicles of devices that are heard", heard)
        armed = sum(vehicle.state.connected and vehicle.state.armed for vehicle in vehicles)
        yield _gauge("wasmbed_flight_armed", "Vehicles that are heard and armed", armed)
        in_air = sum(vehicle.state.connected and vehicle.state.in_air for vehicle in vehicles)
        yield _gauge("wasmbed_flight_in_air", "Vehicles that are heard and fly, or may fly", in_air)
        yield _gauge("wasmbed_flight_owned", "Vehicles that an application owns", len(self._service.backend.owners))
        offboard = sum(vehicle.offboard is not None for vehicle in vehicles)
        yield _gauge("wasmbed_flight_offboard", "Vehicles under offboard control of an application", offboard)
        suspended = sum(gate.suspended for gate in flight.gates.values())
        yield _gauge("wasmbed_flight_suspended_devices", "Devices whose kill switch is on", suspended)
        losses = CounterMetricFamily("wasmbed_flight_vehicle_losses", "How often a vehicle was not heard any more")
        losses.add_metric([], flight.losses)
        yield losses
        yield from self._topics()
        said = CounterMetricFamily(
            "wasmbed_mavlink_vehicle_words", "Status texts and events by severity", labels=["kind", "severity"]
        )
        for labels, count in flight.words.counts.items():
            said.add_metric(labels, count)
        yield said
        left_out = CounterMetricFamily(
            "wasmbed_mavlink_vehicle_words_left_out", "Serious ones that did not reach the journal, for their rate"
        )
        left_out.add_metric([], flight.words.left_out)
        yield left_out
        holds = CounterMetricFamily("wasmbed_flight_holds", "Holds commanded for safety, by result", labels=["result"])
        for result, count in flight.holds.items():
            holds.add_metric([result.replace(" ", "_")], count)
        yield holds

    def _topics(self) -> Iterator[Metric]:
        samples = CounterMetricFamily(
            "wasmbed_px4_topic_samples",
            "Samples of a vehicle's ROS 2 topics by what became of them",
            labels=["namespace", "fate"],
        )
        for found in self._service.topics.vehicles.values():
            fates = {"published": found.endpoints.published, "dropped": found.endpoints.dropped}
            fates |= {"taken": found.bridge.taken, "refused": found.bridge.refused}
            for fate, count in fates.items():
                samples.add_metric([f"/{found.namespace}", fate], count)
        yield samples

    def _links(self) -> Iterator[Metric]:
        hub = self._service.hub
        ports: dict[tuple[str, int], dict[str, int]] = {}
        for port in hub.switch.ports if hub is not None else ():
            counts = {name: getattr(port.statistics, name) for name in _LINK_COUNTS}
            ports[port.options.policy.name, port.number] = counts
        for key in self._ports.keys() - ports.keys():
            self._past.setdefault(key[0], Counter()).update(self._ports[key])
        self._ports = ports
        totals = {name: Counter(counts) for name, counts in self._past.items()}
        for (name, _), counts in ports.items():
            totals.setdefault(name, Counter()).update(counts)
        for field, text in _LINK_COUNTS.items():
            family = CounterMetricFamily(f"wasmbed_mavlink_{field}", f"{text}, by endpoint", labels=["endpoint"])
            for name, counter in sorted(totals.items()):
                family.add_metric([name], counter[field])
            yield family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
