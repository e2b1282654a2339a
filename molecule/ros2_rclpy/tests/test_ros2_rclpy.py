"""rclpy of the bundle's wheels as the gateway's way into ROS 2, inside the agent's hardened unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_ros2 import AGENT, WHEELS, backend_is_hardened_and_works, parameter_of_the_bridge
from lab_site import ROOT, check_mode_changes, playbook

if TYPE_CHECKING:
    from lab_site import Site


def test_second_run_would_change_nothing() -> None:
    check_mode_changes("ros2_rclpy")


def test_rclpy_works_in_the_hardened_unit(site: Site, gateway: str, controller_host: str) -> None:
    backend_is_hardened_and_works(site, gateway, controller_host, 78)


def test_nodes_without_shared_memory_are_served_too(site: Site, gateway: str) -> None:
    assert parameter_of_the_bridge(site, gateway, 78, FASTDDS_BUILTIN_TRANSPORTS="UDPv4") == "rclpy"


def test_worker_runs_as_the_agent(site: Site, gateway: str) -> None:
    """Of the agent's user and control group, so that the unit's limits are its own."""
    worker = site.run(gateway, f"pgrep --full --newest {WHEELS}.*worker.py").strip()
    assert site.run(gateway, f"stat --format=%U /proc/{worker}").strip() == "wasmbed-agent"
    assert AGENT in site.run(gateway, f"cat /proc/{worker}/cgroup")


def test_packages_that_the_wheels_cannot_build_are_refused() -> None:
    workspace = f"ros2_workspace={ROOT / 'molecule/ros2/workspace'}"
    result = playbook("molecule/ros2_rclpy/converge.yml", "--check", "--extra-vars", workspace)
    assert result.returncode != 0
    assert "wheels have no rosidl_default_generators" in " ".join(result.stdout.split())
