"""The gateway's bridge: its configuration, its keys, what its unit may open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab_site import wait

if TYPE_CHECKING:
    from lab_site import Site

AGENT = "wasmbed-agent.service"


def test_the_agent_says_that_its_bridge_runs(site: Site, gateway: str) -> None:
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9080/readyz', timeout=5).read().decode())"
    wait("the bridge runs", lambda: "mavlink: ok" in site.host(gateway).run(f'python3 -c "{script}"').stdout)


def test_configuration_is_for_the_agent_alone(site: Site, gateway: str) -> None:
    part = site.host(gateway).file("/etc/wasmbed/agent.d/mavlink.yaml")
    assert (part.user, part.group, part.mode) == ("root", "wasmbed-agent", 0o640)
    assert "udpin:0.0.0.0:14540" in part.content_string


def test_the_port_is_open_and_only_that(site: Site, gateway: str) -> None:
    listening = site.run(gateway, "cat /proc/net/udp")
    assert f":{14540:04X} " in listening


def test_ground_stations_of_the_gateway_itself_are_heard_on_loopback_alone(site: Site, gateway: str) -> None:
    listening = [line.split()[1] for line in site.run(gateway, "cat /proc/net/tcp /proc/net/tcp6").splitlines()]
    assert [address for address in listening if address.endswith(f":{5760:04X}")] == [f"0100007F:{5760:04X}"]


def test_a_gateway_without_serial_endpoints_opens_no_device(site: Site, gateway: str) -> None:
    assert site.run(gateway, f"systemctl show --property=PrivateDevices --value {AGENT}").strip() == "yes"
    assert site.exposure(gateway, AGENT) <= 2.0
