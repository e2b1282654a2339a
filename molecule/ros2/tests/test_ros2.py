"""The gateway's part in ROS 2: its configuration, what its unit may do, and that it is a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_site import wait

if TYPE_CHECKING:
    from lab_site import Site

AGENT = "wasmbed-agent.service"
METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/metrics', timeout=5).read().decode())"


def figures(site: Site, gateway: str) -> str:
    return str(site.host(gateway).run(f'python3 -c "{METRICS}"').stdout)


def test_the_bridge_runs_in_its_domain(site: Site, gateway: str) -> None:
    wait("the bridge runs", lambda: 'wasmbed_ros2_up{domain="77"} 1.0' in figures(site, gateway))
    assert "wasmbed_ros2_nodes" in figures(site, gateway)


def test_configuration_is_for_the_agent_alone(site: Site, gateway: str) -> None:
    part = site.host(gateway).file("/etc/wasmbed/agent.d/ros2.yaml")
    assert (part.user, part.group, part.mode) == ("root", "wasmbed-agent", 0o640)
    assert "/molecule/*" in part.content_string


def test_the_unit_gets_what_dds_needs_and_stays_shut_off(site: Site, gateway: str) -> None:
    families = site.run(gateway, f"systemctl show --property=RestrictAddressFamilies --value {AGENT}")
    assert "AF_NETLINK" in families
    assert site.exposure(gateway, AGENT) <= 2.0


def test_another_node_on_the_host_is_seen(site: Site, gateway: str) -> None:
    """A participant of the services' own environment, found on the loopback interface."""
    program = (
        "import asyncio; from wasmbed.bridges.ros2.config import BridgeConfig; "
        "from wasmbed.bridges.ros2.dds import DdsBackend, Discovery; "
        "backend = DdsBackend(BridgeConfig().codecs(), domain_id=77, node='molecule', discovery=Discovery(('lo',))); "
        "import time; time.sleep(30)"
    )
    site.run(gateway, f'systemd-run --quiet --unit=molecule-ros2 /opt/wasmbed/venv/bin/python -c "{program}"')
    try:
        wait("the node is seen", lambda: 'wasmbed_ros2_nodes{domain="77"} 1.0' in figures(site, gateway))
    finally:
        site.run(gateway, "systemctl stop molecule-ros2 || true")
