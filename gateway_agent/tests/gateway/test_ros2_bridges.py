"""What the agent's loop posts to the loop of the ROS 2 bridge."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ros2_support import domain
from wasmbed.bridges.ros2 import Bridge
from wasmbed.gateway import ros2_bridges
from wasmbed.gateway.ros2_bridges import Ros2Bridges
from wasmbed.gateway.ros2_config import Ros2Config, Ros2DiscoveryConfig, Ros2PolicyConfig

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONFIG = Ros2Config(
    domain=0, packages=(), discovery=Ros2DiscoveryConfig(interfaces=("lo",)), policy=Ros2PolicyConfig((), ())
)


class Member:
    """What takes part in a domain, and fails at what it is told to."""

    def __init__(self, key: str, *, fails: bool = False) -> None:
        self.key, self.domain = key, CONFIG.domain
        self.joined = 0
        self._fails = fails

    def join(self, _: Bridge) -> None:
        self.joined += 1

    def leave(self) -> None:
        if self._fails:
            raise ValueError("cannot leave")


async def test_bridge_that_fails_in_whatever_way_is_started_again_with_all_who_take_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that was none of the expected ones ended the domain until the agent was started again."""
    failed = threading.Event()

    def fail_once(_: Bridge) -> None:
        if good.joined and not failed.is_set():
            failed.set()
            raise ValueError("a fault")

    monkeypatch.setattr(ros2_bridges, "PROBLEMS_S", 0.05)
    monkeypatch.setattr(ros2_bridges, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(Bridge, "look", fail_once)
    bad, good = Member("bad", fails=True), Member("good")
    bridges = Ros2Bridges(replace(CONFIG, domain=domain()), "gw", tmp_path, lambda _domain, _up: None)
    bad.domain = good.domain = bridges.section.domain
    bridges.start()
    try:
        for member in (bad, good):
            await bridges.join(member)
        async with asyncio.timeout(20):
            while (bad.joined, good.joined) != (2, 2):  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.01)
        assert "the ROS 2 bridge has failed and is started again" in caplog.text
        assert "routes not closed application=bad" in caplog.text
    finally:
        await bridges.stop()


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
