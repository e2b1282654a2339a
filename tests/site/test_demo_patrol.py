"""The demo's own patrol: what `make demo` deployed flies the lab's vehicle along its waypoints and lands it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from tests.site.conftest import ROOT

if TYPE_CHECKING:
    from tests.site.conftest import Site

REACHED = re.compile(r"waypoint (\d+) reached, off by metres (\d+\.\d)")
# Two minutes at the vehicle's speed, and what a busy machine takes longer.
FLIGHT_S = 400.0
RADIUS_M = 3.0


def test_the_patrol_of_the_demo_flies_its_waypoints_and_lands(site: Site) -> None:
    spec = yaml.safe_load((ROOT / "examples/patrol/application.yaml").read_text())["spec"]
    waypoints = next(entry["value"] for entry in spec["env"] if entry["name"] == "WAYPOINTS").split(";")

    def said() -> list[str]:
        return [line["MESSAGE"] for line in site.log("patrol", since="-24h")]

    def finished() -> list[str]:
        lines = said()
        return lines if any(line.startswith("finished") for line in lines) else []

    lines = site.wait("the patrol has flown and is finished", finished, FLIGHT_S)
    reached = [found for line in lines if (found := REACHED.search(line))]
    # In their order, each of them; another start of the application may have flown them again.
    numbers = [int(found[1]) for found in reached]
    wanted = list(range(1, len(waypoints) + 1))
    assert numbers[: len(wanted)] == wanted, lines
    assert all(float(found[2]) <= RADIUS_M for found in reached), lines
    assert any("finished: landed" in line for line in lines), lines

    def on_ground() -> bool:
        vehicle = site.get("edgedevice", "drone-bravo-002").get("status", {}).get("vehicle", {})
        return vehicle.get("armed") is False and vehicle.get("inAir") is False

    site.wait("the device's status has the vehicle on the ground", on_ground)
