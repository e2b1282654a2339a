"""The work queue: keys once, one worker a key, back-off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from wasmbed.kube import WorkQueue
from wasmbed.kube import workqueue as workqueue_module

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest


@contextlib.asynccontextmanager
async def working(
    queue: WorkQueue[str], handler: Callable[[str], Awaitable[None]], workers: int = 2
) -> AsyncIterator[None]:
    task = asyncio.ensure_future(queue.run(handler, workers=workers))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_key_that_waits_is_done_once_and_in_order() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done: list[str] = []

    async def handle(key: str) -> None:
        done.append(key)

    for key in "abab":
        queue.add(key)
    assert len(queue) == 2
    async with working(queue, handle, workers=1):
        await queue.wait_idle()
    assert done == ["a", "b"]


async def test_no_two_workers_have_one_key_and_nothing_is_lost() -> None:
    queue: WorkQueue[str] = WorkQueue()
    busy: set[str] = set()
    done: list[str] = []
    gate = asyncio.Event()

    async def handle(key: str) -> None:
        assert key not in busy
        busy.add(key)
        await gate.wait()
        busy.discard(key)
        done.append(key)

    async with working(queue, handle, workers=3):
        queue.add("a")
        queue.add("b")
        await eventually(lambda: _true(busy == {"a", "b"}))
        for _ in range(3):
            queue.add("a")
        assert len(queue) == 0
        gate.set()
        await queue.wait_idle()
    assert sorted(done) == ["a", "a", "b"]


async def _true(value: bool) -> bool:
    return value


async def test_failure_comes_again_with_back_off_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue_module, "BACKOFF_S", (0.02, 1.0))
    observed: list[tuple[object, bool]] = []
    queue: WorkQueue[str] = WorkQueue(observer=lambda key, _s, error: observed.append((key, error is not None)))
    times: list[float] = []

    async def handle(key: str) -> None:
        if key == "bad":
            times.append(asyncio.get_running_loop().time())
            if len(times) < 4:
                raise RuntimeError("not yet")

    async with working(queue, handle):
        queue.add("bad")
        queue.add("good")
        await eventually(lambda: _true(len(times) == 4))
        await queue.wait_idle()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 0.015
    assert gaps[2] >= 0.07
    assert observed.count(("bad", True)) == 3
    assert ("good", False) in observed


async def test_change_during_a_failing_attempt_does_not_wait_for_the_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue_module, "BACKOFF_S", (60.0, 60.0))
    queue: WorkQueue[str] = WorkQueue()
    attempts = 0
    started, gate = asyncio.Event(), asyncio.Event()

    async def handle(_key: str) -> None:
        nonlocal attempts
        attempts += 1
        started.set()
        await gate.wait()
        if attempts == 1:
            raise RuntimeError("first")

    async with working(queue, handle):
        queue.add("a")
        await started.wait()
        queue.add("a")
        gate.set()
        await eventually(lambda: _true(attempts == 2))


async def test_earlier_of_two_timers_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done: list[str] = []

    async def handle(key: str) -> None:
        done.append(key)

    async with working(queue, handle):
        queue.add_after("a", 0.05)
        queue.add_after("a", 60)
        queue.add_after("b", 60)
        await eventually(lambda: _true(done == ["a"]))
        queue.add_after("a", 60)
        queue.add_after("a", 0.01)
        await eventually(lambda: _true(done == ["a", "a"]))
