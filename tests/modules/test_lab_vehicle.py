"""lab_vehicle_source=px4_sitl with stand-ins for PX4's two programs (tests/support/px4_stand_ins)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.modules.test_px4 import task
from tests.support.processes import Service, free_ports

if TYPE_CHECKING:
    from tests.modules.conftest import Play

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/lab_vehicle"
MODEL = "sihsim_quadx"


def px4_build(folder: Path, model: str = MODEL) -> Path:
    """A folder that looks like PX4's build."""
    airframes = folder / "etc/init.d-posix/airframes"
    airframes.mkdir(parents=True)
    (airframes / f"10040_{model}").touch()
    (folder / "etc/init.d-posix/rcS").touch()
    shutil.copytree(ROOT / "tests/support/px4_stand_ins", folder / "bin")
    return folder


def role(**variables: Any) -> dict[str, Any]:
    given = {"lab_vehicle_source": "px4_sitl", "lab_vehicle_gateway": "127.0.0.1", **variables}
    return {"name": "Fly PX4", "ansible.builtin.import_role": {"name": "wasmbed.edge.lab_vehicle"}, "vars": given}


@pytest.mark.parametrize(
    ("gone", "missing"),
    [("bin/px4-mavlink", "bin/px4-mavlink"), (f"etc/init.d-posix/airframes/10040_{MODEL}", "the model")],
)
def test_what_is_missing_of_px4_is_named(play: Play, tmp_path: Path, gone: str, missing: str) -> None:
    build = px4_build(tmp_path / "px4")
    (build / gone).unlink()
    results = play.run(role(lab_vehicle_px4_path=str(build)), arguments=("--check",))
    refused = next(result for result in results if "missing." in str(result.get("msg", "")))
    assert f"{missing} is missing. Build it (make px4_sitl)" in refused["msg"].replace(f"{build}/", "")
    assert f"the model {MODEL};" in refused["msg"]


def test_px4_is_started_as_its_scripts_do_and_is_heard_at_the_gateway(play: Play, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    build = px4_build(tmp_path / "px4")
    launcher = tmp_path / "px4-vehicles"
    variables = {
        "lab_vehicle_px4_path": str(build),
        "lab_vehicle_gateway": "127.0.0.1",
        "lab_vehicle_port": port,
        "lab_vehicle_system": 3,
        "lab_vehicle_count": 2,
    }
    (rendered,) = play.run(
        {
            "name": "Write the launcher",
            "ansible.builtin.template": {
                "src": str(ROLE / "templates/px4-vehicles.j2"),
                "dest": str(launcher),
                "mode": "0755",
            },
            "vars": {
                "lab_vehicle_home": [47.397742, 8.545594, 488.0],
                "lab_vehicle_speed": 1.0,
                "lab_vehicle_px4_model": MODEL,
                **variables,
            },
        }
    )
    assert rendered["changed"], rendered
    environment = {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "STAND_IN_PYTHON": sys.executable,
        "PYTHONPATH": str(ROLE / "files"),
        "PATH": os.environ["PATH"],
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    service = Service("px4-vehicles", ["env", "-i", *words, str(launcher)], tmp_path / "px4.log")
    with contextlib.ExitStack() as stack:
        # The launcher, PX4's stand-ins and their vehicles.
        stack.callback(os.killpg, service.pid, signal.SIGKILL)
        for system in (3, 4):
            found = task("px4_parameter_info", port, names=["SYS_AUTOSTART"], timeout=30)
            found["wasmbed.edge.px4_parameter_info"]["system_id"] = system
            (read,) = play.run(found)
            assert read["parameters"] == {"SYS_AUTOSTART": 4001}, read
        for instance in (2, 3):
            folder = tmp_path / "state" / str(instance)
            *arguments, home_alt, home_lat, home_lon, model, speed = (folder / "started").read_text().splitlines()
            assert arguments == ["-i", str(instance), "-d", f"{build}/etc"]
            assert (model, speed) == (f"PX4_SIM_MODEL={MODEL}", "PX4_SIM_SPEED_FACTOR=1.0")
            assert (home_alt, home_lat) == ("PX4_HOME_ALT=488.0", "PX4_HOME_LAT=47.397742")
            assert home_lon == "PX4_HOME_LON=8.545594"
            mavlink = (folder / "mavlink").read_text().split()
            assert mavlink[:6] == ["--instance", str(instance), "start", "-x", "-u", str(14600 + instance)]
            assert mavlink[-4:] == ["-t", "127.0.0.1", "-o", str(port)]
