"""The gateway's key of the serial link, and what its agent is told of lines."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from lab_site import check_mode_changes, playbook

if TYPE_CHECKING:
    from lab_site import Site

AGENT = "wasmbed-agent.service"
KEY = "/etc/wasmbed/pki/serial.key"


def test_the_key_is_for_root_alone_and_its_public_half_for_all(site: Site, gateway: str) -> None:
    assert site.modes(gateway, f"{KEY} {KEY}.pub") == {KEY: "600 root:root", f"{KEY}.pub": "644 root:root"}
    assert len(base64.b64decode(site.run(gateway, f"cat {KEY}.pub"), validate=False)) == 32


def test_the_key_reaches_the_agent_as_a_credential(site: Site, gateway: str) -> None:
    assert f"LoadCredential=serial.key:{KEY}" in site.run(gateway, f"systemctl cat {AGENT}").splitlines()
    part = site.host(gateway).file("/etc/wasmbed/agent.d/lines.yaml")
    assert (part.user, part.group, part.mode) == ("root", "wasmbed-agent", 0o640)
    assert f"/run/credentials/{AGENT}/serial.key" in part.content_string


def test_the_lines_are_those_that_the_inventory_serves(site: Site, gateway: str) -> None:
    text = site.host(gateway).file("/etc/wasmbed/agent.d/lines.yaml").content_string
    for host in site.group("qemu_hosts"):
        address = site.variable("ansible_host", host)
        for device in site.variable("qemu_host_devices", host):
            assert f"tcp:{address}:{device['port']}" in text


def test_a_gateway_without_serial_devices_opens_none(site: Site, gateway: str) -> None:
    assert site.run(gateway, f"systemctl show --property=PrivateDevices --value {AGENT}").strip() == "yes"
    assert site.exposure(gateway, AGENT) <= 2.0


def test_a_line_that_cannot_be_is_named() -> None:
    result = playbook("molecule/mcu_link/converge.yml", "--check", "-e", '{"mcu_link_lines": ["serial:/dev/ttyACM0"]}')
    assert result.returncode != 0
    assert "must be serial:/dev/NAME@BAUD or tcp:HOST:PORT" in " ".join(result.stdout.split())


def test_check_mode_reports_no_change() -> None:
    assert check_mode_changes("mcu_link") == {}
