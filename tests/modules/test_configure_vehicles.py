"""playbooks/configure_vehicles.yml over a fleet of simulated vehicles (ours) behind the bridge of a gateway."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.modules.test_px4 import HOME, Vehicle
from tests.support.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COUNT = 4
FENCE = {"command": "nav_fence_circle_inclusion", "latitude": HOME[0], "longitude": HOME[1], "altitude": 0}

pytestmark = pytest.mark.timeout(600)


class VehicleFleet:
    """The gateway's bridge, vehicles 1 to COUNT, and an inventory of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, station = free_ports(2)
        self.gateway = Vehicle(str(Path(__file__).with_name("vehicle_gateway.py")), str(self.port), str(station))
        self.vehicles = {number: self.start(number) for number in range(1, COUNT + 1)}
        (folder / "fleet.params").write_text("COM_OF_LOSS_T 9\nMIS_TAKEOFF_ALT 4.5\n")
        (folder / "patrol.waypoints").write_text(f"QGC WPL 110\n0\t1\t3\t16\t0\t0\t0\t0\t{HOME[0]}\t{HOME[1]}\t20\t1\n")
        self.variables: dict[str, Any] = {
            "vehicle_gateway": "gateway",
            "vehicle_address": f"tcp:127.0.0.1:{station}",
            "vehicle_python": sys.executable,
            "vehicle_timeout_s": 8,
            "vehicle_parameter_files": [str(folder / "fleet.params")],
            "vehicle_parameters": {"COM_OF_LOSS_T": 2.5},
            "vehicle_plans": {"fence": [{**FENCE, "params": [300]}], "mission": str(folder / "patrol.waypoints")},
            "configure_vehicles_batches": [1, 4],
        }

    def start(self, number: int) -> Vehicle:
        options = ("--port", str(self.port), "--system", str(number))
        return Vehicle("-m", "wasmbed_sitl", *options, cwd=ROOT / "roles/lab_vehicle/files")

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        hosts = {f"vehicle{number}": {"vehicle_system_id": number} for number in range(1, COUNT + 1)}
        inventory = {
            "all": {
                "hosts": {"gateway": {"ansible_connection": "local"}},
                "children": {"vehicles": {"hosts": hosts, "vars": self.variables}},
            }
        }
        path = self.folder / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory))
        configuration = self.folder / "ansible.cfg"
        configuration.write_text("[defaults]\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        }
        playbook = str(ROOT / "playbooks/configure_vehicles.yml")
        return ["ansible-playbook", "-i", str(path), playbook, "--diff", *arguments], environment

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], dict[str, dict[str, int]]]:
        """Run the playbook; return its status, its summary and what it counted by host."""
        command, environment = self.command(*arguments)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.stdout, done.stderr
        document = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
        tasks = [task for play in document["plays"] for task in play["tasks"]]
        shown = [task for task in tasks if task["task"]["name"] == "Show what was changed on each vehicle"]
        summary = shown[0]["hosts"]["localhost"]["__configure_vehicles_summary"] if shown else {}
        return done.returncode, summary, document["stats"]

    def close(self) -> None:
        for vehicle in self.vehicles.values():
            vehicle.close()
        self.gateway.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[VehicleFleet]:
    with contextlib.closing(VehicleFleet(tmp_path)) as made:
        yield made


def test_a_fleet_comes_to_its_state_and_who_is_away_or_flies_is_put_off(fleet: VehicleFleet) -> None:
    words = ["COM_OF_LOSS_T 1.0 -> 2.5", "MIS_TAKEOFF_ALT 2.5 -> 4.5", "fence", "mission"]
    status, looked, counts = fleet.run("--check")
    assert status == 0, looked
    assert looked["changed"] == {f"vehicle{number}": words for number in range(1, COUNT + 1)}

    fleet.vehicles[2].close()
    fleet.vehicles[3].tell("fly 10")
    status, done, counts = fleet.run()
    assert status != 0
    assert done["changed"] == {"vehicle1": words, "vehicle4": words}
    assert sorted(done["put_off"]) == ["vehicle2", "vehicle3"]
    assert "no heartbeat of system 2" in done["put_off"]["vehicle2"]
    assert "in the air, so nothing is written; land and disarm it" in done["put_off"]["vehicle3"]
    assert all(counts[f"vehicle{number}"]["failures"] == 0 for number in range(1, COUNT + 1))

    fleet.vehicles[2] = fleet.start(2)
    fleet.vehicles[3].tell("land")
    status, rest, _ = fleet.run()
    assert (status, rest["changed"]) == (0, {"vehicle2": words, "vehicle3": words}), rest
    assert rest["unchanged"] == ["vehicle1", "vehicle4"]
    status, nothing, counts = fleet.run()
    assert (status, nothing["changed"], len(nothing["unchanged"])) == (0, {}, COUNT), nothing
    assert all(counted["changed"] == 0 for counted in counts.values())


def test_a_run_that_was_cut_off_is_completed_by_the_next(fleet: VehicleFleet) -> None:
    # A reboot is known by a clock that goes back by more than 3 s: the autopilots have run for longer by then.
    fleet.variables["vehicle_parameters"] = {"SYS_AUTOSTART": 4010}
    command, environment = fleet.command("-v")
    environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.builtin.default"
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "vehicle1 -> gateway" in line and "changed:" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        status, rest, _ = fleet.run()
        assert status == 0, rest
        if len(rest["unchanged"]) == COUNT:
            break
    assert len(rest["unchanged"]) == COUNT, rest


def test_a_batch_that_fails_ends_the_rollout(fleet: VehicleFleet) -> None:
    fleet.variables["vehicle_parameters"] = {"COM_OBL_RC_ACT": 99}
    status, summary, counts = fleet.run()
    assert status != 0
    assert not summary
    assert counts["vehicle1"]["failures"] == 1
    assert "vehicle2" not in counts
