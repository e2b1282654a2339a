"""The spool: any sequence of events ends with everything arrived once, in order, and what gave way counted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasmbed.device.spool import BLOCK, Spool, SpoolFull
from wasmbed.device.store import Store

SMALL = 64 * 1024
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 9000)),
        st.tuples(st.just("keep"), st.integers(0, 2), st.integers(0, 9000)),
        st.tuples(st.just("send")),
        st.tuples(st.just("take")),
        st.tuples(st.just("cut")),
        st.tuples(st.just("stop")),
        st.tuples(st.just("crash")),
    ),
    max_size=60,
)


class Gateway:
    """The other end: takes each number once, and may not have told so before the link is cut."""

    def __init__(self) -> None:
        self.taken = 0
        self.received: list[tuple[int, bytes]] = []
        self.dropped = 0

    def take(self, batch: list[tuple[int, bytes, int]]) -> None:
        for number, data, dropped in batch:
            if number > self.taken:
                self.taken = number
                self.received.append((number, data[:4]))
                self.dropped += dropped


class World:
    """A spool, its store and the other end."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.gateway = Gateway()
        self.count = 0
        self.offered = 0
        self.dropped_before = 0
        self.crashed = False

    async def open(self) -> None:
        self.spool = Spool("logs", self.store, SMALL)
        await self.spool.open()
        self.spool.rewind(self.gateway.taken)

    @property
    def dropped(self) -> int:
        return self.dropped_before + self.spool.dropped

    async def step(self, kind: str, instance: int = 0, size: int = 0) -> None:
        spool, gateway = self.spool, self.gateway
        if kind in ("add", "keep"):
            self.count += 1
            data = self.count.to_bytes(4, "big") + bytes(size)
            if kind == "add":
                spool.add(f"i{instance}", data)
                self.offered += 1
            else:
                with contextlib.suppress(SpoolFull):
                    await spool.keep(f"i{instance}", data)
                    self.offered += 1
        elif kind == "send" and spool.waiting:
            gateway.take(await spool.next())
        elif kind == "take":
            spool.taken(gateway.taken)
        elif kind == "cut":
            spool.rewind(gateway.taken)
        elif kind in ("stop", "crash"):
            # What was added a moment before a crash, and not kept, is not on disk.
            self.crashed |= kind == "crash"
            if kind == "stop":
                await spool.close()
            self.dropped_before += spool.dropped
            await self.open()
        assert self.spool.bytes <= SMALL


async def run(folder: Path, steps: list[tuple[Any, ...]]) -> None:
    store = await Store.open(folder)
    world = World(store)
    await world.open()
    for step in [*steps, ("stop",)]:
        await world.step(*step)
    while world.spool.waiting:
        await world.step("send")
        await world.step("take")
    for column in zip(*world.gateway.received, strict=True):
        assert list(column) == sorted(set(column))
    if not world.crashed:
        # What gave way, and nothing else, is missing, and was counted.
        missing = world.offered - len(world.gateway.received)
        assert missing == world.dropped
        assert world.gateway.dropped <= missing
    await store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_everything_arrives_once_and_in_order_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(prefix="wbs-") as folder:
        asyncio.run(run(Path(folder), steps))


async def test_what_was_kept_outlives_a_crash_at_once(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    spool = Spool("sealed", store, SMALL)
    await spool.open()
    await spool.keep("i", b"first")
    await spool.keep("i", b"second")
    again = Spool("sealed", store, SMALL)
    await again.open()
    assert [data for _, data, _ in await again.next()] == [b"first", b"second"]
    await store.close()


async def test_a_full_spool_refuses_what_may_not_be_dropped_and_drops_the_oldest_of_the_rest(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    sealed, logs = Spool("sealed", store, SMALL), Spool("logs", store, SMALL)
    await sealed.open()
    await logs.open()
    for _ in range(6):
        await sealed.keep("i", bytes(10_000))
    with pytest.raises(SpoolFull, match="wait for the gateway already"):
        await sealed.keep("i", bytes(10_000))
    for number in range(8):
        logs.add("i", bytes([number]) * 10_000)
    batch = await logs.next()
    assert [data[0] for _, data, _ in batch] == [2, 3, 4, 5, 6, 7]
    # The first one that is left tells how many there were before it.
    assert [dropped for _, _, dropped in batch] == [2, 0, 0, 0, 0, 0]
    # What is under way does not give way: the gateway may have it already.
    logs.add("i", bytes(10_000))
    assert logs.dropped == 3
    await store.close()


async def test_numbers_are_never_used_again_after_a_crash(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    spool = Spool("logs", store, SMALL)
    await spool.open()
    spool.add("i", b"lost with the power")
    ((first, _, _),) = await spool.next()
    again = Spool("logs", store, SMALL)
    await again.open()
    again.add("i", b"after")
    ((second, _, _),) = await again.next()
    assert second > first
    assert second <= first + 2 * BLOCK
    await store.close()


async def test_a_disk_that_takes_nothing_costs_lines_and_no_number(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    spool = Spool("sealed", store, SMALL)
    await spool.open()
    # The database is gone under it, as a file system that went read-only.
    await store.close()
    with pytest.raises((sqlite3.Error, RuntimeError)):
        await spool.keep("i", b"x")
    assert spool.bytes == 0
    assert not spool.waiting
