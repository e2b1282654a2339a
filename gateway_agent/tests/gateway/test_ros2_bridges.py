"""What the agent's loop posts to the loop of the ROS 2 bridge."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from wasmbed.gateway.ros2_bridges import Ros2Bridges
from wasmbed.gateway.ros2_config import Ros2Config, Ros2DiscoveryConfig, Ros2PolicyConfig

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONFIG = Ros2Config(
    domain=0, packages=(), discovery=Ros2DiscoveryConfig(interfaces=("lo",)), policy=Ros2PolicyConfig((), ())
)


async def test_what_is_posted_runs_in_order_woken_once_a_turn_and_a_fault_stops_nobody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bridges = Ros2Bridges(CONFIG, "gw", tmp_path, lambda _domain, _up: None)
    bridges._thread.start()  # without a domain
    wakes = 0
    wake = bridges._wake

    def counted() -> None:
        nonlocal wakes
        wakes += 1
        wake()

    bridges._wake = counted  # type: ignore[method-assign]
    done = asyncio.Event()
    agent, found, threads = asyncio.get_running_loop(), list[int](), set[int]()

    def note(number: int) -> None:
        found.append(number)
        threads.add(threading.get_ident())
        if number % 10 == 3:
            raise ValueError(number)
        if number == 99:
            agent.call_soon_threadsafe(done.set)

    try:
        for number in range(50):
            bridges.post(lambda number=number: note(number))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert wakes == 1
        for number in range(50, 100):
            bridges.post(lambda number=number: note(number))  # type: ignore[misc]
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await done.wait()
    finally:
        await bridges.stop()
    assert found == list(range(100))
    assert threads == {bridges._thread.ident}
    assert caplog.text.count("failed on the bridge's loop") == 10
