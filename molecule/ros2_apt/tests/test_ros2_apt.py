"""ROS 2 of an apt repository: its key, its source, its pinning, and rclpy after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_ros2 import backend_is_hardened_and_works
from lab_site import check_mode_changes

if TYPE_CHECKING:
    from lab_site import Site

SOURCE = "/etc/apt/sources.list.d/wasmbed-ros2.sources"


def test_second_run_would_change_nothing() -> None:
    check_mode_changes("ros2_apt")


def test_repository_is_trusted_by_its_key_alone(site: Site, gateway: str) -> None:
    source = site.host(gateway).file(SOURCE).content_string
    assert "Signed-By: /etc/apt/keyrings/wasmbed-ros2.asc" in source
    assert "Trusted" not in source
    only = (
        f"--option=Dir::Etc::SourceList={SOURCE} --option=Dir::Etc::SourceParts=- --option=APT::Get::List-Cleanup=false"
    )
    site.run(gateway, f"apt-get update {only} --error-on=any")


def test_repository_with_another_key_is_refused(site: Site, gateway: str) -> None:
    other = "/usr/share/keyrings/debian-archive-keyring.gpg"
    site.run(gateway, "mkdir -p /run/lists/partial")
    site.run(gateway, f"sed 's,/etc/apt/keyrings/wasmbed-ros2.asc,{other},' {SOURCE} > /run/other.sources")
    options = ("Dir::Etc::SourceList=/run/other.sources", "Dir::Etc::SourceParts=-", "Dir::State::Lists=/run/lists")
    refused = site.host(gateway).run(
        f"apt-get update --error-on=any {' '.join(f'--option={item}' for item in options)}"
    )
    assert refused.rc != 0
    assert "NO_PUBKEY" in refused.stdout + refused.stderr


def test_repository_replaces_nothing_of_the_system(site: Site, gateway: str) -> None:
    policy = site.run(gateway, "apt-cache policy base-files ros-jazzy-ros-base")
    system, ros = policy.split("ros-jazzy-ros-base:")
    assert "999" in system
    assert "Candidate: 999" not in system
    assert "Candidate: 1.0" in ros
    assert " 990" in ros


def test_rclpy_of_the_repository_works_in_the_hardened_unit(site: Site, gateway: str, controller_host: str) -> None:
    assert site.host(gateway).package("ros-jazzy-ros-base").is_installed
    assert site.host(gateway).package("ros-jazzy-rmw-fastrtps-cpp").is_installed
    backend_is_hardened_and_works(site, gateway, controller_host, 78)
