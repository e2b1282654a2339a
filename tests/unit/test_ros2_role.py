"""What the role ros2 says of an installation that is to build packages, and of what does not fit together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "roles/ros2/files/missing-builders.bash").read_text(encoding="utf-8")


def missing(setup: Path) -> list[str]:
    done = subprocess.run(
        ["/bin/bash", "-c", SCRIPT, str(setup)], capture_output=True, text=True, check=True, timeout=30, env={}
    )
    return done.stdout.split()


def test_every_program_and_package_that_is_missing_is_named(tmp_path: Path) -> None:
    setup = tmp_path / "setup.bash"
    setup.write_text(f"export PATH={tmp_path}/bin AMENT_PREFIX_PATH={tmp_path}/a:{tmp_path}/b\n")
    assert missing(setup) == ["colcon", "cmake", "c++", "ament_cmake", "rosidl_default_generators"]
    (tmp_path / "bin").mkdir()
    for program in ("colcon", "c++"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    (tmp_path / "b/share/ament_cmake").mkdir(parents=True)
    (tmp_path / "b/share/ament_cmake/package.xml").write_text("<package/>")
    assert missing(setup) == ["cmake", "rosidl_default_generators"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, True),
        ({"ros2_backend": "dds"}, False),
        ({"ros2_source": "apt"}, False),
        ({"mavlink_topics": {}}, False),
        ({"ros2_px4_release": ""}, False),
    ],
)
def test_vehicles_topics_are_refused_with_the_wheels_which_have_no_px4_msgs(
    tmp_path: Path, changes: dict[str, object], refused: bool
) -> None:
    """The agent was set up, said that it published, and nothing came."""
    values = {
        "ros2_backend": "rclpy",
        "ros2_source": "wheels",
        "ros2_px4_release": "1.16",
        "mavlink_topics": {"accept": ["VehicleCommand"]},
        # For the source apt.
        "ros2_apt_repository": "http://ros.example",
        "ros2_apt_key": str(tmp_path / "key.asc"),
    }
    (tmp_path / "key.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    tasks = [{"ansible.builtin.include_role": {"name": "wasmbed.edge.ros2", "tasks_from": "preflight"}}]
    play = {"hosts": "localhost", "gather_facts": False, "vars": values | changes, "tasks": tasks}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
    )
    said = " ".join(done.stdout.split())
    assert ("Use ros2_backend dds, which needs the definitions alone" in said) is refused
    assert (done.returncode != 0) is refused, said
