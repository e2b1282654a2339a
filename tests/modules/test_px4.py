"""px4_parameter and px4_mission against a simulated vehicle (ours) and MAVSDK's server plugins, both as processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.modules.conftest import Play

ROOT = Path(__file__).resolve().parents[2]
HOME = (47.397742, 8.545594)
PATROL = [
    {"command": "nav_takeoff", "latitude": HOME[0], "longitude": HOME[1], "altitude": 15},
    {"command": "16", "latitude": HOME[0] + 0.001, "longitude": HOME[1], "altitude": 20, "params": [2]},
    {"command": "nav_return_to_launch"},
]


class Vehicle:
    """A program that prints `ready` and takes orders by lines."""

    def __init__(self, *command: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert any(line.strip() == "ready" for line in self.process.stdout)

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def simulated(port: int, *options: str) -> Vehicle:
    return Vehicle("-m", "wasmbed_sitl", "--port", str(port), *options, cwd=ROOT / "roles/lab_vehicle/files")


@pytest.fixture
def vehicle(port: int) -> Iterator[Vehicle]:
    with contextlib.closing(simulated(port)) as made:
        yield made


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.key"
    path.touch(mode=0o600)
    path.write_text("5a" * 32 + "\n")
    return path


def task(module: str, port: int, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    where = {"address": f"udpin:127.0.0.1:{port}", "system_id": 1}
    found: dict[str, Any] = {"name": f"Run {module}", f"wasmbed.edge.{module}": {**where, **options}}
    return found | ({"check_mode": True} if check_mode else {})


def test_parameters_come_to_their_values_once(play: Play, port: int, vehicle: Vehicle) -> None:
    values = {"COM_OF_LOSS_T": 2.6, "CAL_MAG0_ID": -4200000, "COM_OBL_RC_ACT": "3"}
    looked, written, again, read = play.run(
        task("px4_parameter", port, check_mode=True, values=values),
        task("px4_parameter", port, content="COM_OF_LOSS_T 9\nMIS_TAKEOFF_ALT 2.5\n", values=values),
        task("px4_parameter", port, values=values),
        task("px4_parameter_info", port, names=["COM_OF_LOSS_T", "CAL_MAG0_ID", "COM_OBL_RC_ACT"]),
    )
    assert (looked["changed"], looked["rebooted"]) == (True, False), looked
    assert looked["changed_parameters"]["CAL_MAG0_ID"] == {"before": -5000000, "after": -4200000}
    assert written["changed_parameters"] == looked["changed_parameters"]
    assert "CAL_MAG0_ID -4200000" in written["diff"]["after"]
    assert again["changed"] is False
    assert read["parameters"] == pytest.approx({"COM_OF_LOSS_T": 2.6, "CAL_MAG0_ID": -4200000, "COM_OBL_RC_ACT": 3})


def test_a_parameter_that_asks_for_it_reboots_the_autopilot_but_never_in_the_air(
    play: Play, port: int, vehicle: Vehicle
) -> None:
    # A reboot is known by a clock that goes back by more than 3 s, so the autopilot must have run for longer.
    older = {"name": "Let the autopilot run for a while", "ansible.builtin.pause": {"seconds": 5}}
    _, rebooted = play.run(older, task("px4_parameter", port, values={"SYS_AUTOSTART": 4010}))
    assert "rebooted" in rebooted, rebooted
    assert (rebooted["changed"], rebooted["rebooted"]) == (True, True), rebooted
    vehicle.tell("fly 10")
    refused, same, never = play.run(
        task("px4_parameter", port, values={"SYS_AUTOSTART": 4001}),
        task("px4_parameter", port, values={"SYS_AUTOSTART": 4010}),
        task("px4_parameter", port, values={"COM_OF_LOSS_T": 7.0}, reboot="never"),
    )
    assert refused["failed"]
    assert "in the air, so nothing is written; land and disarm it" in refused["msg"]
    assert (same["changed"], same.get("failed", False)) == (False, False)
    assert never["failed"], "writing is no matter of a flight either"


def test_a_reboot_that_was_due_when_a_run_was_cut_off_comes_with_the_next(
    play: Play, port: int, vehicle: Vehicle
) -> None:
    values = {"SYS_AUTOSTART": 4010}
    # The value arrives and the order to reboot does not: the value alone does not say then that a reboot is due.
    vehicle.tell("deaf 600")
    (cut_off,) = play.run(task("px4_parameter", port, values=values))
    assert cut_off["failed"], cut_off
    assert cut_off["cause"] == "refused"
    vehicle.tell("deaf 0")
    looked, completed, again = play.run(
        task("px4_parameter", port, check_mode=True, values=values),
        task("px4_parameter", port, values=values),
        task("px4_parameter", port, values=values),
    )
    assert (looked["changed"], looked["rebooted"]) == (True, True), looked
    assert (completed["changed"], completed["rebooted"]) == (True, True), completed
    assert completed["changed_parameters"] == {}
    assert (again["changed"], again["rebooted"]) == (False, False), again


def test_a_signed_vehicle_takes_what_its_key_signed_and_the_key_is_in_no_output(
    play: Play, port: int, key: Path
) -> None:
    with contextlib.closing(simulated(port, "--signing-key-file", str(key))):
        written, planned, without = play.run(
            task("px4_parameter", port, values={"CAL_MAG0_ID": -77}, signing_key_path=str(key)),
            task("px4_mission", port, items=PATROL, signing_key_path=str(key)),
            task("px4_parameter_info", port, names=["CAL_MAG0_ID"]),
            arguments=("-vvv",),
        )
    assert written["changed"], written
    assert planned["changed"], planned
    assert without["failed"], "a vehicle answers nothing that is not signed"
    assert "5a" * 32 not in play.output


def test_a_vehicle_without_the_key_is_not_believed(play: Play, port: int, key: Path, vehicle: Vehicle) -> None:
    (lost,) = play.run(task("px4_parameter_info", port, timeout=3, signing_key_path=str(key)))
    assert (lost["failed"], lost["cause"]) == (True, "not_heard")
    assert "whether the vehicle has the same key" in lost["msg"]
    key.chmod(0o640)
    (readable,) = play.run(task("px4_parameter_info", port, signing_key_path=str(key)))
    assert "others can read it (mode 0640); set it to 0600" in readable["msg"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"NO_SUCH": 1}, "parameter NO_SUCH: unknown parameter"),
        ({"SYS_AUTOSTART": 1.5}, "whole number"),
        ({"SYS_AUTOSTART": "many"}, "parameter SYS_AUTOSTART: 'many' is not a number"),
        ({"COM_OBL_RC_ACT": 99}, "COM_OBL_RC_ACT: refused"),
    ],
)
def test_what_cannot_be_written_is_named(
    play: Play, port: int, vehicle: Vehicle, values: dict[str, Any], message: str
) -> None:
    (result,) = play.run(task("px4_parameter", port, values=values))
    assert result["failed"]
    assert message in result["msg"]


def test_a_mission_is_there_once_and_gone_once(play: Play, port: int, vehicle: Vehicle) -> None:
    looked, there, again, read, gone, empty = play.run(
        task("px4_mission", port, check_mode=True, items=PATROL),
        task("px4_mission", port, items=PATROL),
        task("px4_mission", port, items=PATROL),
        task("px4_mission_info", port),
        task("px4_mission", port, state="absent"),
        task("px4_mission_info", port),
    )
    assert looked["changed"], looked
    assert there["changed"], there
    assert not again["changed"]
    assert [item["command"] for item in read["plan_items"]] == ["nav_takeoff", "nav_waypoint", "nav_return_to_launch"]
    assert read["plan_items"][1]["latitude"] == pytest.approx(HOME[0] + 0.001, abs=1e-7)
    assert read["plan_items"][1]["params"] == [2.0, 0.0, 0.0, None]
    assert read["content"].startswith("QGC WPL 110\n")
    assert there["diff"]["after"] == read["content"]
    assert gone["changed"]
    assert empty["plan_items"] == []


def test_a_file_is_a_plan_too_and_a_fence_is_another_plan(play: Play, port: int, vehicle: Vehicle) -> None:
    text = "QGC WPL 110\n0\t1\t3\t16\t0\t0\t0\t0\t47.398\t8.5456\t20\t1\n"
    fence = [
        {
            "command": "nav_fence_circle_inclusion",
            "latitude": HOME[0],
            "longitude": HOME[1],
            "altitude": 0,
            "params": [300],
        }
    ]
    placed, again, fenced, both = play.run(
        task("px4_mission", port, content=text),
        task("px4_mission", port, content=text),
        task("px4_mission", port, plan="fence", items=fence),
        task("px4_mission_info", port),
    )
    assert (placed["changed"], again["changed"], fenced["changed"]) == (True, False, True), (placed, again, fenced)
    assert [item["command"] for item in both["plan_items"]] == ["nav_waypoint"]


def test_a_plan_is_not_replaced_in_flight_unless_it_is_said(play: Play, port: int, vehicle: Vehicle) -> None:
    vehicle.tell("fly 10")
    refused, placed = play.run(
        task("px4_mission", port, items=PATROL),
        task("px4_mission", port, items=PATROL, in_flight=True),
    )
    assert "in the air, so its mission is not replaced (see in_flight)" in refused["msg"]
    assert placed["changed"], placed


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"command": "nav_nowhere"}, "item 0: MAVLink has no command 'nav_nowhere'"),
        ({"command": "16", "latitude": 91, "longitude": 0, "altitude": 1}, "item 0: 91.0, 0.0 is not a place on Earth"),
        ({"command": "16", "latitude": 1}, "item 0: a place is latitude, longitude and altitude"),
        ({"command": "16", "params": [1, 2, 3, 4, 5]}, "item 0: params are the first four"),
    ],
)
def test_an_item_that_makes_no_sense_is_named(
    play: Play, port: int, vehicle: Vehicle, item: dict[str, Any], message: str
) -> None:
    (result,) = play.run(task("px4_mission", port, items=[item]))
    assert message in result["msg"]


def test_a_vehicle_that_is_not_there_is_told_with_what_to_look_at(play: Play, port: int) -> None:
    (result,) = play.run(task("px4_parameter_info", port, timeout=1.0))
    assert f"no heartbeat of system 1, component 1 came through udpin:127.0.0.1:{port} within 1 s" in result["msg"]
    assert "(nobody is connected there)" in result["msg"]


def test_a_vehicle_with_other_ids_is_told_with_those_that_are_heard(play: Play, port: int, vehicle: Vehicle) -> None:
    (result,) = play.run(task("px4_parameter_info", port, system_id=7, timeout=5.0))
    assert "no heartbeat of system 7" in result["msg"]
    assert "frames came, of systems 1)" in result["msg"]


def test_all_parameters_are_transferred_again_only_when_one_has_changed(
    play: Play, port: int, vehicle: Vehicle, tmp_path: Path
) -> None:
    kept = {"cache_dir": str(tmp_path / "kept")}
    first, again, _, changed = play.run(
        task("px4_parameter_info", port, **kept),
        task("px4_parameter_info", port, **kept),
        task("px4_parameter", port, values={"COM_OF_LOSS_T": 2.75}, reboot="never"),
        task("px4_parameter_info", port, **kept),
    )
    assert (first["cached"], again["cached"], changed["cached"]) == (False, True, False)
    assert again["parameters"] == first["parameters"]
    assert changed["parameters"] == {**first["parameters"], "COM_OF_LOSS_T": 2.75}


def test_parameters_of_an_independent_autopilot(play: Play, port: int) -> None:
    pytest.importorskip("mavsdk")
    script = ROOT / "gateway_agent/tests/bridges/mavlink/mavsdk_autopilot.py"
    with contextlib.closing(Vehicle(str(script), f"udpout://127.0.0.1:{port}", "1")):
        written, again, everything = play.run(
            task("px4_parameter", port, values={"CAL_MAG0_ID": -77, "TEST_07": 3.25}, reboot="never"),
            task("px4_parameter", port, values={"CAL_MAG0_ID": -77, "TEST_07": 3.25}, reboot="never"),
            task("px4_parameter_info", port),
        )
        assert written["changed_parameters"]["TEST_07"] == {"before": 1.75, "after": 3.25}, written
        assert not again["changed"], again
        assert everything["parameters"]["CAL_MAG0_ID"] == -77
        assert len(everything["parameters"]) == 22
