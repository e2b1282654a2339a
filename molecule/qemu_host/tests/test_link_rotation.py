"""Keys of serial links are rotated at the site, by its playbooks: those of the gateways, and that of a device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lab_site import ansible, check_mode_changes, playbook, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab_site import Site

KEY = "/etc/wasmbed/pki/serial.key"
ROTATE, REPLACE = "playbooks/rotate_link_keys.yml", "playbooks/replace_device_keys.yml"
CONNECTED_S = 120.0


@pytest.fixture(scope="module")
def sim(site: Site) -> str:
    return site.group("qemu_hosts")[0]


@pytest.fixture(scope="module")
def names(site: Site, sim: str) -> list[str]:
    return [device["name"] for device in site.variable("qemu_host_devices", sim)]


def connected(site: Site, names: list[str]) -> bool:
    return all(site.get("edgedevice", name).get("status", {}).get("phase") == "Connected" for name in names)


def run(path: str, **variables: object) -> str:
    """Run a playbook; its output."""
    result = playbook(path, "-e", json.dumps({"rotate_wait_s": 30, "replace_wait_s": 30, **variables}))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    return result.stdout


def switch(sim: str, device: str, state: str) -> None:
    """Stop or start a device as an operator does, by its name alone."""
    result = ansible(sim, "wasmbed.edge.qemu_device", devices=[{"name": device}], state=state)
    assert "CHANGED" in result.stdout, result.stdout + result.stderr


@pytest.fixture
def ended(site: Site, gateway: str) -> Iterator[None]:
    """No rotation is left behind, whatever happens."""
    yield
    if site.host(gateway).file(f"{KEY}.previous").exists:
        run(ROTATE, rotate_step="end", rotate_leave_behind=True)


def test_the_gateways_keys_are_rotated_and_a_device_that_is_off_holds_the_end_up(
    site: Site, sim: str, gateway: str, names: list[str], ended: None
) -> None:
    wait("all devices are connected", lambda: connected(site, names), CONNECTED_S)
    before = site.run(gateway, f"cat {KEY}.pub")
    checked = playbook(ROTATE, "--check")
    assert checked.returncode == 0, checked.stdout[-4000:]
    assert f"changed: [{gateway}]" in checked.stdout
    assert site.run(gateway, f"cat {KEY}.pub") == before

    away = names[-1]
    switch(sim, away, "stopped")
    said = run(ROTATE, rotate_overlap_days=2)
    assert f"not told yet: default/{away}" in said
    assert site.run(gateway, f"cat {KEY}.pub") != before
    assert site.modes(gateway, f"{KEY}.previous") == {f"{KEY}.previous": "600 root:root"}
    part = site.host(gateway).file("/etc/wasmbed/agent.d/lines.yaml").content_string
    assert site.run(gateway, f"cat {KEY}.previous.until").strip() in part
    # A run of the role leaves a rotation as it is.
    assert check_mode_changes("mcu_link") == {}

    held = playbook(ROTATE, "-e", "rotate_step=end")
    assert held.returncode != 0
    assert f"{gateway}: default/{away} may know the gateway by its previous key alone" in " ".join(held.stdout.split())
    switch(sim, away, "started")
    knows = f'wasmbed_agent_line_gateway_key{{device="default/{away}",key="current"}}'
    wait("the device knows the key", lambda: knows in site.metrics(gateway, 9080), CONNECTED_S)
    run(ROTATE, rotate_step="end")
    assert not site.host(gateway).file(f"{KEY}.previous").exists
    wait("all devices are connected by the new key alone", lambda: connected(site, names), CONNECTED_S)
    assert check_mode_changes("mcu_link") == {}
    # What devices know is what the role would give them.
    assert check_mode_changes("qemu_host") == {}


def test_a_device_gets_a_new_key_and_one_that_is_not_there_is_named(site: Site, names: list[str]) -> None:
    wait("all devices are connected", lambda: connected(site, names), CONNECTED_S)
    before = site.get("edgedevice", names[0])
    run(REPLACE, replace_devices=names[:1])
    after = site.get("edgedevice", names[0])
    assert after["spec"] == {**before["spec"], "publicKey": after["spec"]["publicKey"]}
    assert after["spec"]["publicKey"] != before["spec"]["publicKey"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    wait("the device is connected by its new key", lambda: connected(site, names), CONNECTED_S)
    assert check_mode_changes("qemu_host") == {}
    assert check_mode_changes("mcu_link") == {}
    wrong = playbook(REPLACE, "-e", json.dumps({"replace_devices": ["molecule-nobody"]}))
    assert wrong.returncode != 0
    assert "molecule-nobody; name devices of class mcu or riscv" in " ".join(wrong.stdout.split())
