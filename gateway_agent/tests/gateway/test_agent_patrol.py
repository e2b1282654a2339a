"""The example patrol flies a vehicle: through runtime, agent, flight safety and MAVLink, as it would on a site."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from gateway_site import Site, eventually
from test_agent_flight import Flight, Vehicle

from tests.support.processes import ROOT, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.registry import Registry

pytestmark = pytest.mark.cluster
# Around the simulated vehicle's home.
WAYPOINTS = "47.3980,8.5456,20;47.3983,8.5461,25;47.3980,8.5466,20"


@pytest.fixture
def flight(cluster: Cluster, registry: Registry, module_cache: Path) -> Iterator[Flight]:
    (port,) = free_ports(1)
    mavlink = {"endpoints": [{"name": "vehicles", "address": f"udpin:127.0.0.1:{port}"}], "hold_s": 20.0}
    site = Site(cluster, registry, module_cache, f"pat{port}", settings={"mavlink": mavlink})
    vehicle = Vehicle(port)
    made = Flight(site, vehicle)
    try:
        made.slice()
        site.start()
        made.mode("manual")
        yield made
    finally:
        vehicle.close()
        site.close()


@pytest.fixture(scope="module")
def patrol(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    module = tmp_path_factory.mktemp("wasm") / "patrol.wasm"
    subprocess.run([ROOT / "scripts/build-example", ROOT / "examples/patrol", module], check=True, timeout=120)
    return module.read_bytes()


def logged(flight: Flight) -> list[str]:
    """All that the patrol said so far."""
    flight.site._offset = 0
    return [line.text for line in flight.site.new_lines() if line.application == "default/patrol"]


@pytest.mark.parametrize("way", ["goto", "mission"])
def test_the_patrol_flies_its_waypoints_and_comes_home(flight: Flight, patrol: bytes, way: str) -> None:
    env = [{"name": "WAYPOINTS", "value": WAYPOINTS}, {"name": "FLY", "value": way}]
    flight.place("patrol", flight.site.push("patrol", patrol), env=env)
    eventually(lambda: any(text.startswith("finished") for text in logged(flight)), "the patrol is finished", 120)
    said = logged(flight)
    checked = {"goto": "arming: all checks passed", "mission": "arming: the mission is on the vehicle"}[way]
    steps = [checked, "taking off: armed", "finished: landed"]
    assert [text for text in said if text in steps] == steps, said
    if way == "goto":
        reached = [text for text in said if " reached, off by metres " in text]
        assert len(reached) == 3, said
        assert all(float(text.rpartition(" ")[2]) <= 3.0 for text in reached)
        assert "returning: patrol done" in said
    else:
        assert "returning: mission done" in said

    def on_ground() -> bool:
        vehicle = flight.told()["vehicle"]
        return not vehicle["armed"] and not vehicle["inAir"]

    eventually(on_ground, "the vehicle is told to be on the ground")
    assert flight.site.metric("wasmbed_flight_owned") == 0


def test_the_kill_switch_ends_the_patrol_where_it_is(flight: Flight, patrol: bytes) -> None:
    env = [{"name": "WAYPOINTS", "value": WAYPOINTS}, {"name": "ROUNDS", "value": "100"}]
    flight.place("patrol", flight.site.push("patrol", patrol), env=env)
    eventually(lambda: any("waypoint 2 reached" in text for text in logged(flight)), "it flies", 60)
    flight.slice(suspended=True)
    flight.site.wait_state("patrol", "Suspended")
    flight.mode("hold")
    count = len([text for text in logged(flight) if "reached" in text])
    assert flight.told()["vehicle"]["inAir"] is True
    # Its start waits for the vehicle, which somebody else has to bring down; then it begins anew.
    flight.slice()
    assert flight.site.wait_state("patrol", "Pending")["reason"] == "InFlight"
    flight.vehicle.tell("land")
    flight.site.wait_state("patrol", "Running")
    assert len([text for text in logged(flight) if "reached" in text]) == count
