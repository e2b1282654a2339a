"""Many vehicles at one gateway, with the real agent, controller and API server: none is lost, and what each costs.

Their EdgeDevices change when the vehicles do and at no other time. WASMBED_VEHICLES and WASMBED_VEHICLES_SECONDS make
it longer; `make soak` has 100 vehicles for 600 s. The vehicles are ours (wasmbed_sitl), in processes of their own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from flight_pilot import Vehicle
from gateway_site import API, Site, eventually

from tests.support.processes import ROOT, Service, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

VEHICLES = int(os.environ.get("WASMBED_VEHICLES", "8"))
SECONDS = float(os.environ.get("WASMBED_VEHICLES_SECONDS", "60"))
SQUADS = 4
BATTERY_MINUTES = 3.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
REPORT = ROOT / "build/bench/vehicles.json"
SHOWN = ("armed", "inAir", "mode", "battery", "fix")

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(SECONDS + 240 + 2 * VEHICLES)]


def usage(service: Service) -> tuple[float, float]:
    """Resident MiB and CPU seconds of a process."""
    resident = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return resident, (int(fields[11]) + int(fields[12])) * TICK_S


class Watch:
    """What every write of an EdgeDevice showed of its vehicle, in the order of the writes."""

    def __init__(self, site: Site) -> None:
        self.shown: dict[str, list[dict[str, Any]]] = {}
        self._site = site
        path = f"{API}/namespaces/{site.namespace}/edgedevices"
        version = site.get(path)["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version}
        self._answer = site.http.get(site.cluster.url + path, params=query, stream=True, timeout=(10, None))
        assert self._answer.status_code == 200, self._answer.text
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._answer.iter_lines():
                item = json.loads(line)
                if item["type"] != "MODIFIED":
                    return
                self.shown.setdefault(item["object"]["metadata"]["name"], []).append(item["object"]["status"])
        except (requests.RequestException, AttributeError):
            return

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def writes(self) -> int:
        return sum(len(states) for states in self.shown.values())


class VehicleSite:
    """The gateway, the controller, the EdgeDevices and their vehicles in squads."""

    def __init__(self, cluster: Cluster, registry: Registry, cache: Path) -> None:
        port, self._metrics_port = free_ports(2)
        endpoint = {"name": "vehicles", "address": f"udpin:127.0.0.1:{port}", "isolate_peers": True, "max_peers": 128}
        self.site = Site(cluster, registry, cache, f"veh{port}", settings={"mavlink": {"endpoints": [endpoint]}})
        self.names = [f"vehicle-{number:03d}" for number in range(1, VEHICLES + 1)]
        cluster.kubectl("apply", "-f", str(ROOT / "roles/controller/files/rbac.yaml"))
        document = {
            "kubeconfig": str(cluster.user("wasmbed:controller")),
            "http": {"address": "127.0.0.1", "port": self._metrics_port},
            "leader_election": {"namespace": "wasmbed-system", "name": "wasmbed-controller"},
        }
        config = self.site.folder / "controller.yaml"
        config.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "wasmbed.controller.main", "--config", str(config)]
        self.controller = Service("wasmbed-controller", command, self.site.folder / "controller.log")
        for number, name in enumerate(self.names, 1):
            network = {"gatewayEndpoint": f"{self.site.name}.wasmbed.local:8080"}
            spec = {"deviceType": "drone", "capabilities": ["px4"], "px4": {"systemId": number}, "network": network}
            self.site.apply("EdgeDevice", "edgedevices", name, spec, self.site.namespace)
        self.site.start()
        bounds = [1 + VEHICLES * squad // SQUADS for squad in range(SQUADS + 1)]
        self.squads = [
            Vehicle(
                port,
                *("--system", str(first), "--count", str(after - first)),
                *("--rate", "5", "--battery-minutes", str(BATTERY_MINUTES)),
            )
            for first, after in pairwise(bounds)
        ]

    def shown(self) -> dict[str, dict[str, Any]]:
        """What the EdgeDevices show of their vehicles, by name."""
        items = self.site.get(f"{API}/namespaces/{self.site.namespace}/edgedevices")["items"]
        return {item["metadata"]["name"]: item.get("status", {}).get("vehicle", {}) for item in items}

    def controller_writes(self, kind: str) -> float:
        """How many objects of a kind the controller has written."""
        text = requests.get(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5).text
        name = f'wasmbed_controller_writes_total{{kind="{kind}"}}'
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    def all_show(self, wanted: dict[str, Any], what: str) -> None:
        """Wait until every EdgeDevice shows this of its vehicle."""

        eventually(lambda: all(wanted.items() <= shown.items() for shown in self.shown().values()), what, 60 + VEHICLES)

    def close(self) -> None:
        for squad in self.squads:
            squad.close()
        self.controller.stop()
        objects = ("edgedevices", "--all", "-n", self.site.namespace, "--wait=false")
        self.site.cluster.kubectl("delete", *objects, check=False)
        self.site.close()


@pytest.fixture
def fleet(cluster: Cluster, registry: Registry, module_cache: Path) -> Iterator[VehicleSite]:
    made = VehicleSite(cluster, registry, module_cache)
    yield made
    made.close()


def test_no_vehicle_is_lost_and_every_write_is_a_change(fleet: VehicleSite) -> None:
    site = fleet.site
    on_ground = {"armed": False, "inAir": False, "mode": "manual", "battery": 100, "fix": "3D"}
    began = time.monotonic()
    fleet.all_show(on_ground, "all heard")
    heard_s = time.monotonic() - began
    assert site.agent is not None
    watch = Watch(site)
    slices = site.metric('wasmbed_agent_status_writes_total{kind="DeviceSlice"')
    devices = fleet.controller_writes("EdgeDevice")
    received = site.metric("wasmbed_mavlink_received_frames_total")
    (before_mib, before_cpu), (_, controller_cpu) = usage(site.agent), usage(fleet.controller)
    resident_mib = [before_mib]
    watched = time.monotonic()

    # Every squad flies in its turn, with a fix that is lost for a while, and all are on the ground before the end.
    orders = [
        (SECONDS * (squad * 0.15 + part), squad, order)
        for squad in range(SQUADS)
        for part, order in ((0.05, "fly 10"), (0.15, "fix 0"), (0.2, "fix 3"), (0.4, "land"))
    ]
    for at, squad, order in [*sorted(orders), (SECONDS, 0, "")]:
        while (left := watched + at - time.monotonic()) > 0:
            # Not a synchronisation: this is for how long the fleet is watched.
            time.sleep(min(5.0, left))
            assert site.metric("wasmbed_flight_vehicle_losses_total") == 0, (
                f"{site.metric('wasmbed_mavlink_lost_total')} frames"
            )
            if time.monotonic() - watched >= SECONDS / 10 * len(resident_mib):
                resident_mib.append(usage(site.agent)[0])
        if order:
            fleet.squads[squad].tell(order)
    span = time.monotonic() - watched
    fleet.all_show(on_ground, "all on the ground")
    (after_mib, after_cpu), (_, controller_after) = usage(site.agent), usage(fleet.controller)
    frames = site.metric("wasmbed_mavlink_received_frames_total") - received
    writes = {
        "EdgeDevice": fleet.controller_writes("EdgeDevice") - devices,
        "DeviceSlice": site.metric('wasmbed_agent_status_writes_total{kind="DeviceSlice"') - slices,
    }
    eventually(lambda: watch.writes >= writes["EdgeDevice"], "the watch has seen every write")
    figures = {
        "vehicles": VEHICLES,
        "seconds": round(span, 1),
        "lost": int(site.metric("wasmbed_flight_vehicle_losses_total")),
        "all_heard_s": round(heard_s, 1),
        "frames_per_s": round(frames / span),
        "frames_lost": int(site.metric("wasmbed_mavlink_lost_total")),
        "agent_rss_mib_start": round(before_mib, 1),
        "agent_rss_mib_end": round(after_mib, 1),
        "agent_rss_mib_by_tenths": [round(size, 1) for size in resident_mib],
        "agent_cpu_percent_per_vehicle": round(100 * (after_cpu - before_cpu) / span / VEHICLES, 3),
        "controller_cpu_percent": round(100 * (controller_after - controller_cpu) / span, 2),
        "edge_device_writes": int(writes["EdgeDevice"]),
        "edge_device_writes_per_flight": round(writes["EdgeDevice"] / VEHICLES, 2),
        "device_slice_writes": int(writes["DeviceSlice"]),
    }
    print(json.dumps(figures))
    if "WASMBED_VEHICLES" in os.environ:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(figures, indent=2) + "\n")
    assert watch.alive
    assert figures["lost"] == 0
    # From the first tenth on: what is kept of each vehicle grows to its bounds by then.
    assert after_mib - resident_mib[1] < 8
    for name in fleet.names:
        shown = [{field: state["vehicle"][field] for field in SHOWN} for state in watch.shown[name]]
        history = [on_ground, *shown]
        same = [state for state, following in pairwise(history) if state == following]
        assert not same, f"{name}: a write changed nothing of what is shown: {history}"
        assert {state["fix"] for state in shown} >= {"none", "3D"}
        assert any(state["armed"] and state["inAir"] and state["mode"] == "hold" for state in shown)
    # Take-off and landing are told in up to three steps each, the fix in two, the battery every five percent.
    assert writes["EdgeDevice"] <= VEHICLES * (8 + SECONDS / (BATTERY_MINUTES * 60) * 100 / 5 * 2)
    # One slice has all the devices, so their changes share writes.
    assert writes["DeviceSlice"] <= writes["EdgeDevice"] + 8
