"""The gateway's part in ROS 2: its configuration, what its unit may do, and that it is a node."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lab_ros2 import AGENT, ENVIRONMENT, figure, figures, recorded_from
from lab_site import check_mode_changes, wait

if TYPE_CHECKING:
    from lab_site import Site

DOCTOR = f"{ENVIRONMENT}/bin/wasmbed ros2 doctor"


def test_second_run_would_change_nothing() -> None:
    check_mode_changes("ros2")


def test_the_bridge_runs_in_its_domain(site: Site, gateway: str) -> None:
    wait("the bridge runs", lambda: figure(site, gateway, 'wasmbed_ros2_up{domain="77"}') == 1.0)
    assert "wasmbed_ros2_nodes" in figures(site, gateway)


def test_configuration_is_for_the_agent_alone(site: Site, gateway: str) -> None:
    part = site.host(gateway).file("/etc/wasmbed/agent.d/ros2.yaml")
    assert (part.user, part.group, part.mode) == ("root", "wasmbed-agent", 0o640)
    assert "/molecule/*" in part.content_string


def test_the_unit_gets_what_dds_needs_and_stays_shut_off(site: Site, gateway: str) -> None:
    families = site.run(gateway, f"systemctl show --property=RestrictAddressFamilies --value {AGENT}")
    assert "AF_NETLINK" in families
    assert site.exposure(gateway, AGENT) <= 2.0


def test_messages_of_your_packages_come_from_another_host(site: Site, gateway: str, controller_host: str) -> None:
    """The definitions that the role brought to the gateway, published by a node of the controller's host."""
    folder = site.run(gateway, "echo /var/lib/wasmbed/ros2-packages/*").strip()
    definitions = site.run(gateway, f"cat {folder}/src/molecule_msgs/msg/Alarm.msg")
    site.run(controller_host, "mkdir -p /run/molecule/molecule_msgs/msg")
    site.run(controller_host, f"printf %s {shlex.quote(definitions)} > /run/molecule/molecule_msgs/msg/Alarm.msg")
    recorded_from(
        *(site, controller_host, gateway, 77, "/molecule/alarm"),
        type="molecule_msgs/msg/Alarm",
        values={"level": 2, "text": "fire"},
        packages="/run/molecule",
    )


def test_doctor_says_what_is_wrong_and_what_helps(site: Site, gateway: str, controller_host: str) -> None:
    good = site.run(controller_host, f"{DOCTOR} --domain 77 --node /wasmbed_{gateway}")
    assert "multicast on host0: passes" in good
    assert f"/wasmbed_{gateway}" in good
    missing = site.host(controller_host).run(f"{DOCTOR} --domain 77 --node /nobody --timeout 1")
    assert missing.rc == 1
    assert "problem: nodes: /nobody is not seen in domain 77" in missing.stdout
    interface = site.host(controller_host).run(f"{DOCTOR} --interface can7 --timeout 1")
    assert interface.rc == 1
    assert "problem: interfaces: can7: " in interface.stdout
