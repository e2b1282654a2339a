"""A hundred vehicles on one gateway, for WASMBED_SOAK_SECONDS (10 when it is not set)."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from peers import gateway, simulator, until
from wasmbed.bridges.mavlink.endpoints import Endpoint
from wasmbed.bridges.mavlink.vehicle_state import Change

SECONDS = float(os.environ.get("WASMBED_SOAK_SECONDS", "10"))
COUNT = 100


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(SECONDS + 120)
async def test_a_hundred_vehicles_are_kept_and_memory_stays() -> None:
    async with (
        gateway(Endpoint("fleet", "udpin:127.0.0.1:0", max_peers=128, isolate_peers=True)) as made,
        simulator("--port", made.port_of("fleet"), "--count", COUNT, "--rate", 5),
    ):
        vehicles = [made.fleet.vehicle(system) for system in range(1, COUNT + 1)]
        lost: list[int] = []
        for vehicle in vehicles:
            vehicle.on_change.append(
                lambda change, _, system=vehicle.ids.system: lost.append(system) if change is Change.LOST else None
            )
        await until(lambda: all(vehicle.state.connected for vehicle in vehicles), 30.0)
        results = await asyncio.gather(*(vehicle.request("AUTOPILOT_VERSION") for vehicle in vehicles))
        assert all(result.ok for result in results)
        await asyncio.sleep(min(5.0, SECONDS))
        before, started = resident_bytes(), time.process_time()
        await asyncio.sleep(SECONDS)
        grown, used = resident_bytes() - before, time.process_time() - started
        frames = sum(port.statistics.received_frames for port in made.hub.switch.ports)
        print(
            f"{COUNT} vehicles, {SECONDS:g} s: grown {grown / 1e6:.2f} MB, {100 * used / SECONDS:.1f} % CPU, {frames}"
        )
        assert lost == []
        assert len(made.hub.switch.ports) == COUNT
        assert sum(port.statistics.lost for port in made.hub.switch.ports) <= frames * 0.01
        assert grown < 8 * 1024 * 1024
