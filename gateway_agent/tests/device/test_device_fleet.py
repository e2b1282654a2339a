"""Fifty devices on one gateway."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from device_site import lines_of
from gateway_site import eventually, good

from tests.support.processes import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_site import LinkSite, LinuxDevice

COUNT = 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_devices_run_an_application_and_come_back_together(
    link_site: LinkSite, new_device: Callable[..., LinuxDevice]
) -> None:
    devices = [new_device(f"fleet-{number}", register=False) for number in range(COUNT)]
    for device in devices:
        entry = {"name": device.name, "namespace": "default", "uid": f"uid-{device.name}", "class": "mpu"}
        link_site.devices[device.name] = {**entry, "publicKey": device.public_key}
    link_site.slice()
    script = Path(__file__).with_name("device_fleet.py")
    log = devices[0].folder / "fleet.log"
    command = [sys.executable, str(script), *(str(device.config) for device in devices)]
    fleet = Service("fleet", command, log)
    try:
        pulls = link_site.metric("wasmbed_agent_pulls_total")
        digest = link_site.push("fleet", good("version"))
        link_site.place_on("fleet", digest, *(device.name for device in devices))

        def running() -> int:
            states = link_site.placement("fleet").get("status", {}).get("devices", [])
            return sum(state["state"] == "Running" for state in states)

        began = time.monotonic()
        eventually(lambda: running() == COUNT, "all of them running", 300)
        print(f"{COUNT} devices from nothing to Running: {time.monotonic() - began:.1f} s")
        assert link_site.metric("wasmbed_agent_pulls_total") == pulls + 1
        eventually(lambda: len({line.device for _, line in lines_of(link_site, "fleet")}) == COUNT, "a line of each")
        writes = link_site.metric("wasmbed_agent_status_writes_total")
        beats = link_site.metric("wasmbed_agent_lease_renewals_total")
        eventually(lambda: link_site.metric("wasmbed_agent_lease_renewals_total") >= beats + 4, "some seconds")
        # Heartbeats of fifty devices are nobody's writes.
        assert link_site.metric("wasmbed_agent_status_writes_total") - writes <= 5
        assert link_site.agent is not None
        link_site.agent.kill()
        link_site.start_agent()
        link_site.agent.wait_ready(lambda: link_site.readyz()[0] == 200)
        began = time.monotonic()
        eventually(lambda: link_site.metric("wasmbed_agent_link_sessions_total") >= COUNT, "all sessions", 120)
        print(f"{COUNT} sessions after the agent's end: {time.monotonic() - began:.1f} s")
        eventually(lambda: running() == COUNT, "all of them running", 120)
    finally:
        fleet.stop()
        for device in devices:
            link_site.devices.pop(device.name)
        link_site.slice()
