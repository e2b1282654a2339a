"""Killing the gateway's processes at any moment loses no application and starts none twice.

WASMBED_KILLS sets how many kills there are, WASMBED_SEED their order; `make soak` sets many.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.site import artifacts
from tests.site.conftest import application, device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.site.conftest import Site

KILLS = int(os.environ.get("WASMBED_KILLS", "10"))
SEED = int(os.environ.get("WASMBED_SEED", "3"))
UNITS = ("wasmbed-agent", "wasmbed-runtime")


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[Site]:
    image = site.registry.push("site/kills", "v1", artifacts.counting("kills"))
    site.apply(*(device(f"site-kills-{number}", "kills") for number in range(3)), application("kills", image, "kills"))
    site.wait("3 running", lambda: site.application("kills").get("counts", {}).get("running") == 3)
    yield site
    site.kubectl("delete", "wasmapplication", "kills", "--timeout=40s")


def ticks_by_device(site: Site, since: int) -> dict[str, int]:
    """Count the ticks of each device from a second of the epoch on."""
    counts: dict[str, int] = {}
    for line in site.log("kills", f"@{since}"):
        if line["MESSAGE"] == "kills tick":
            counts[line["WASMBED_DEVICE"]] = counts.get(line["WASMBED_DEVICE"], 0) + 1
    return counts


def wait_for_ticks(site: Site, what: str, timeout_s: float = 40.0) -> None:
    """Wait until every device ticks again; what ticked in the second of the kill may have done so before it."""
    since = int(site.ssh("gw1", "date +%s")) + 1
    site.wait(f"ticks of all devices after {what}", lambda: len(ticks_by_device(site, since)) == 3, timeout_s)


@pytest.mark.timeout(60 + 60 * KILLS)
def test_killed_agent_or_runtime_comes_back_without_loss_or_duplicate(running: Site) -> None:
    choose = random.Random(SEED)
    for number in range(KILLS):
        unit = choose.choice(UNITS)
        # Somewhere within the second between two ticks.
        time.sleep(choose.uniform(0.0, 1.0))
        kill = f"systemctl kill --signal=KILL --kill-whom=main {unit}"
        # A unit that systemd is about to start again has no process to kill for a moment.
        running.ssh("gw1", f"timeout 20 sh -c 'until {kill} 2>/dev/null; do sleep 0.05; done'")
        print(f"kill {number + 1}/{KILLS}: {unit}")
        wait_for_ticks(running, f"killing {unit}")
    running.wait(
        "3 running and nothing failed",
        lambda: running.application("kills")["counts"] == {"selected": 3, "running": 3, "failed": 0, "pending": 0},
    )
    since = int(running.ssh("gw1", "date +%s")) + 1
    running.wait("6 seconds", lambda: int(running.ssh("gw1", "date +%s")) >= since + 6)
    counts = ticks_by_device(running, since)
    # One instance ticks once a second; two of one device would tick twice.
    assert set(counts.values()) <= {5, 6, 7, 8}, counts


def test_rebooted_gateway_runs_its_applications_again(running: Site) -> None:
    boot = running.ssh("gw1", "cat /etc/hostname; systemctl show --property=UserspaceTimestamp --value")
    running.ssh("gw1", "systemd-run --on-active=0.2 systemctl reboot")

    def rebooted() -> bool:
        try:
            now = running.ssh("gw1", "cat /etc/hostname; systemctl show --property=UserspaceTimestamp --value")
        except (AssertionError, subprocess.TimeoutExpired):
            return False
        return now != boot

    running.wait("gw1 booted again", rebooted, 60.0)
    wait_for_ticks(running, "the reboot", 60.0)
