"""The keys of the serial links are rotated over the whole site by its playbooks, and what runs on the boards runs on.

The keys are others afterwards; everything else is as it was, which a run of the site in check mode shows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.site.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.site.conftest import Site

pytestmark = pytest.mark.timeout(900)

KEY = "/etc/wasmbed/pki/serial.key"
ROTATE, REPLACE, SITE = (f"playbooks/{name}.yml" for name in ("rotate_link_keys", "replace_device_keys", "site"))
MANIFEST = yaml.safe_load((ROOT / "examples/environment/application-mcu.yaml").read_text())
APPLICATION = MANIFEST["metadata"]["name"]
CONNECTED_S = 120.0
# The application reports once a minute.
REPORTED_S = 180.0
CHANGED = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=([1-9]\d*)", re.MULTILINE)


def playbook(path: str, *arguments: str, **variables: Any) -> str:
    """Run a playbook on the site; its output."""
    result = subprocess.run(
        ["ansible-playbook", path, *arguments, "-e", json.dumps(variables)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    return result.stdout


def would_change() -> dict[str, str]:
    """What a run of the site would change of the lines and the boards, by host."""
    output = playbook(SITE, "--check", "--tags", "mcu_link,qemu_host")
    assert "PLAY RECAP" in output
    return dict(CHANGED.findall(output))


def devices(site: Site) -> dict[str, dict[str, Any]]:
    """The EdgeDevices of the boards by name."""
    found = site.get("edgedevices", "--selector=wasmbed.io/board")["items"]
    return {device["metadata"]["name"]: device for device in found}


def moment(site: Site) -> str:
    """The gateway's time, as `Site.log` takes it."""
    return f"@{site.ssh('gw1', 'date +%s').strip()}"


def wait_running(site: Site, names: list[str]) -> None:
    """Wait until every board is connected and runs the application."""

    def connected() -> bool:
        phases = {name: one.get("status", {}).get("phase") for name, one in devices(site).items()}
        return phases == dict.fromkeys(names, "Connected")

    site.wait("all boards are connected", connected, CONNECTED_S)
    site.wait(
        f"{APPLICATION} runs on all boards",
        lambda: site.application(APPLICATION).get("counts", {}).get("running") == len(names),
        CONNECTED_S,
    )


def wait_reports(site: Site, names: list[str], since: str) -> None:
    """Wait until the application on every board has reported its samples since a time."""
    wanted = {f"default/{name}" for name in names}

    def reported() -> bool:
        lines = site.log(APPLICATION, since)
        return {line["WASMBED_DEVICE"] for line in lines if ", samples " in line["MESSAGE"]} >= wanted

    site.wait("a report of every board", reported, REPORTED_S)


def starts(site: Site, since: str) -> list[str]:
    """The devices whose application was started since a time."""
    lines = site.log(APPLICATION, since)
    return sorted(line["WASMBED_DEVICE"] for line in lines if line["MESSAGE"].startswith("watching the environment"))


@pytest.fixture(scope="module")
def boards(site: Site) -> Iterator[list[str]]:
    """The names of the site's boards, which all run the application; no rotation is left behind, whatever happens."""
    names = sorted(devices(site))
    assert len(names) >= 2
    wait_running(site, names)
    yield names
    if ".previous" in site.ssh("gw1", f"ls {KEY}*"):
        playbook(ROTATE, rotate_step="end", rotate_leave_behind=True)
    playbook(SITE, "--tags", "mcu_link,qemu_host")
    wait_running(site, names)


def test_the_gateways_key_is_rotated_and_nothing_is_started_anew(site: Site, boards: list[str]) -> None:
    before, known, began = site.ssh("gw1", f"cat {KEY}.pub"), devices(site), moment(site)
    assert "not told yet: none" in " ".join(playbook(ROTATE, rotate_wait_s=120).split())
    after = site.ssh("gw1", f"cat {KEY}.pub")
    assert after != before
    playbook(ROTATE, rotate_step="end")
    assert ".previous" not in site.ssh("gw1", f"ls {KEY}*")
    assert site.ssh("gw1", f"cat {KEY}.pub") == after
    wait_reports(site, boards, moment(site))
    wait_running(site, boards)
    assert starts(site, began) == []
    assert {name: one["spec"] for name, one in devices(site).items()} == {name: known[name]["spec"] for name in boards}
    assert would_change() == {}


def test_every_board_gets_a_key_that_it_made_itself_and_runs_its_application(site: Site, boards: list[str]) -> None:
    before = devices(site)
    playbook(REPLACE, replace_devices=boards, replace_wait_s=120)
    after = devices(site)
    for name in boards:
        old, new = before[name], after[name]
        assert new["spec"]["publicKey"] != old["spec"]["publicKey"]
        assert new["spec"] == {**old["spec"], "publicKey": new["spec"]["publicKey"]}
        assert new["metadata"]["labels"] == old["metadata"]["labels"]
    wait_running(site, boards)
    wait_reports(site, boards, moment(site))
    assert "replace_device_keys" not in site.ssh("gw1", "cat /etc/wasmbed/agent.d/lines.yaml")
    assert would_change() == {}
