"""ROS 2 that is on the host already: its setup.bash is used, and what is missing there is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab_ros2 import backend_is_hardened_and_works
from lab_site import ROOT, check_mode_changes, playbook

if TYPE_CHECKING:
    from lab_site import Site

WORKSPACE = ROOT / "molecule/ros2/workspace"


def test_second_run_would_change_nothing() -> None:
    check_mode_changes("ros2_existing")


def test_existing_installation_works_in_the_hardened_unit(site: Site, gateway: str, controller_host: str) -> None:
    written = site.host(gateway).file("/etc/wasmbed/agent.d/ros2.yaml").content_string
    assert "setup: /opt/ros/jazzy/setup.bash" in written
    backend_is_hardened_and_works(site, gateway, controller_host, 78)


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("ros2_setup=/opt/none/setup.bash", "/opt/none/setup.bash is not on the host"),
        (f"ros2_workspace={WORKSPACE}", "lacks colcon, cmake, c++, ament_cmake, rosidl_default_generators"),
        ("ros2_source=none", "ros2_backend rclpy needs ros2_source wheels, apt or existing"),
        ("ros2_domain=500", "ros2_domain must be 0 to 232"),
    ],
)
def test_what_is_missing_is_named(variable: str, says: str) -> None:
    result = playbook("molecule/ros2_existing/converge.yml", "--check", "--extra-vars", variable)
    assert result.returncode != 0
    assert says in " ".join(result.stdout.split())
