"""Processes that run instances: what dies with one, what does not, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime_support import Agent, RuntimeProcess, application, connected, timer
from wasmbed.runtime import Delivery, LogEvent, Provision, Secret, StateEvent, abi, sealing

from tests.support.waiting import busy

if TYPE_CHECKING:
    from collections.abc import Callable

NEIGHBOUR = application(
    '(data (i32.const 0) "tick")',
    uses=("sys.log", "sys.timer_set"),
    init=timer(50),
    event="(call $sys.log (i32.const 2) (i32.const 0) (i32.const 4))",
)
OWNER = application(
    '(data (i32.const 0) "own?")',
    uses=("sys.log", "px4.acquire"),
    init="""(i32.store8 (i32.const 3) (i32.add (i32.const 48) (i32.eqz (call $px4.acquire))))
            (call $sys.log (i32.const 2) (i32.const 0) (i32.const 4))""",
)


LISTENER = application(
    uses=("sys.log", "sys.event_read"),
    event="""(drop (call $sys.event_read (i32.const 0) (i32.const 0) (i32.const 64)))
             (call $sys.log (i32.const 2) (i32.const 0) (local.get $length))""",
)


def workers(runtime: RuntimeProcess) -> dict[int, str]:
    """The runtime's children by their process ids, with their command lines."""
    children = Path(f"/proc/{runtime.process.pid}/task/{runtime.process.pid}/children").read_text().split()
    return {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children if Path(f"/proc/{pid}").exists()}


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait for what no event of ours tells."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.02)


async def crash(pid: int, number: signal.Signals) -> None:
    """Send a signal until the process is gone: wasmtime takes a first SIGSEGV that is no trap to reset it."""
    async with asyncio.timeout(60):
        while lives(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            await asyncio.sleep(0.02)


async def test_dedicated_applications_have_a_process_each_and_shared_ones_one(
    agent: Agent, runtime: RuntimeProcess
) -> None:
    (shared,) = workers(runtime)
    for number in range(2):
        await agent.run(f"shared{number}", NEIGHBOUR, application=f"default/shared{number}")
        await agent.run(f"own-a{number}", NEIGHBOUR, application="default/a", isolation="dedicated")
    await agent.run("own-b", NEIGHBOUR, application="default/b", isolation="dedicated")
    for name in ("shared0", "shared1", "own-a0", "own-a1", "own-b"):
        await agent.log(name, "tick")
    assert len(workers(runtime)) == 3
    assert shared in workers(runtime)
    await agent.client.stop("own-a0")
    await agent.client.stop("own-b")
    await until(lambda: len(workers(runtime)) == 2)
    await agent.client.stop("own-a1")
    await until(lambda: set(workers(runtime)) == {shared})
    assert {row.instance for row in await agent.client.list()} == {"shared0", "shared1"}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_a_worker_that_dies_fails_its_instances_alone_and_comes_back(
    agent: Agent, runtime: RuntimeProcess, number: signal.Signals
) -> None:
    before = set(workers(runtime))
    request = await agent.run("victim", NEIGHBOUR, application="default/a", isolation="dedicated")
    await agent.run("neighbour", NEIGHBOUR, application="default/b")
    for name in ("victim", "neighbour"):
        await agent.log(name, "tick")
    (pid,) = set(workers(runtime)) - before
    await crash(pid, number)
    failed = await agent.state("victim", "Failed")
    assert failed.reason == "DeviceError"
    assert failed.message.startswith(f"the process that ran it was ended by signal {number.value} (")
    # Listed all along, so that an agent that comes now does not start a second one.
    row = next(row for row in await agent.client.list() if row.instance == "victim")
    assert (row.key, row.state) == (request.key(), "Failed")
    seen = len(agent.events)
    await until(lambda: any(isinstance(e, LogEvent) and e.instance == "victim" for e in agent.events[seen:]))
    row = next(row for row in await agent.client.list() if row.instance == "victim")
    assert row.restarts == 1
    neighbour = next(row for row in await agent.client.list() if row.instance == "neighbour")
    assert (neighbour.state, neighbour.restarts) == ("Running", 0)
    ticks = [
        t
        for e, t in zip(agent.events, agent.times, strict=True)
        if isinstance(e, LogEvent) and e.instance == "neighbour"
    ]
    assert max(b - a for a, b in itertools.pairwise(ticks)) < 1.0 * busy()


async def test_the_shared_worker_comes_back_with_everything_it_had(socket_directory: Path, cache: Path) -> None:
    runtime = RuntimeProcess.start(socket_directory, cache)
    try:
        async with connected(runtime) as agent:
            await agent.client.provide(Provision("default/owner", ("px4",)))
            await agent.run("owner", OWNER, grants=("wasmbed:sys", "wasmbed:px4"))
            await agent.run("one", NEIGHBOUR)
            await agent.log("owner", "own1")
            await agent.log("one", "tick")
            (pid,) = workers(runtime)
            await crash(pid, signal.SIGSEGV)
            await agent.state("one", "Failed")
            # The lock of the dead worker's owner is free, and what is available is known again.
            await agent.wait_for(lambda e: isinstance(e, StateEvent) and e.instance == "owner" and e.restarts == 1)
            await until(lambda: sum(isinstance(e, LogEvent) and e.text == "own1" for e in agent.events) >= 2)
            assert {row.instance: row.restarts for row in await agent.client.list()} == {"owner": 1, "one": 1}
    finally:
        runtime.stop()


async def test_a_message_of_the_cloud_is_not_delivered_again_by_the_worker_after(
    agent: Agent, runtime: RuntimeProcess
) -> None:
    """A new worker knew no number, so a message that was recorded came to the application once more."""
    key, place, before = bytes(range(32)), ("default/a", "default/app"), set(workers(runtime))
    await agent.client.secret(Secret(*place, key, 1000, received=3))
    await agent.run("app", LISTENER, application=place[0], isolation="dedicated")
    await agent.state("app", "Running")

    def send(*numbers: int) -> None:
        agent.client.deliver(
            Delivery("app", abi.EventType.SECURE, 0, sealing.seal(key, *place, sealing.DOWN, n, b"number %d" % n))
            for n in numbers
        )

    send(3, 5)
    await agent.log("app", "number 5")
    (pid,) = set(workers(runtime)) - before
    await crash(pid, signal.SIGKILL)
    await agent.state("app", "Failed")
    await agent.wait_for(lambda e: isinstance(e, StateEvent) and e.state == "Running" and e.restarts == 1)
    send(5, 6)
    await agent.log("app", "number 6")
    said = [e.text for e in agent.events if isinstance(e, LogEvent) and e.text.startswith("number")]
    assert said == ["number 5", "number 6"]


async def test_a_worker_that_dies_in_the_trial_of_an_update_is_taken_back(
    agent: Agent, runtime: RuntimeProcess
) -> None:
    before = set(workers(runtime))
    old = await agent.run("app", NEIGHBOUR, application="default/a", isolation="dedicated")
    await agent.log("app", "tick")
    new = await agent.run(
        "app", application('(data (i32.const 0) "x")'), application="default/a", isolation="dedicated"
    )
    async with asyncio.timeout(60):
        while (await agent.client.list())[0].key != new.key():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    (pid,) = set(workers(runtime)) - before
    await crash(pid, signal.SIGSEGV)
    event = await agent.wait_for(lambda e: isinstance(e, StateEvent) and e.rolled_back == new.key())
    assert isinstance(event, StateEvent)
    assert event.message.startswith("update failed: the process that ran it was ended by signal 11")
    seen = len(agent.events)
    await until(lambda: any(isinstance(e, LogEvent) for e in agent.events[seen:]))
    (row,) = await agent.client.list()
    assert (row.key, row.previous) == (old.key(), new.key())


async def test_a_killed_main_process_leaves_no_worker(socket_directory: Path, cache: Path) -> None:
    runtime = RuntimeProcess.start(socket_directory, cache)
    async with connected(runtime) as agent:
        await agent.run("one", NEIGHBOUR)
        await agent.run("two", NEIGHBOUR, application="default/a", isolation="dedicated")
        await agent.log("two", "tick")
        pids = workers(runtime)
        assert len(pids) == 2
        runtime.stop(signal.SIGKILL)
    await until(
        lambda: (
            not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
        )
    )


async def test_a_service_manager_that_ends_all_processes_at_once_lets_applications_say_good_bye(
    socket_directory: Path, cache: Path
) -> None:
    """systemd sends SIGTERM to every process of a unit; a worker that died of it took `wasmbed_stop` with it."""
    runtime = RuntimeProcess.start(socket_directory, cache)
    polite = application(
        """(data (i32.const 0) "bye")
           (func (export "wasmbed_stop") (call $sys.log (i32.const 2) (i32.const 0) (i32.const 3)))""",
        uses=("sys.log",),
        init="(nop)",
    )
    async with connected(runtime) as agent:
        await agent.run("polite", polite)
        await agent.state("polite", "Running")
        (pid,) = workers(runtime)
        os.kill(pid, signal.SIGTERM)
        await agent.client.stop("polite")
        await agent.log("polite", "bye")
        assert lives(pid)
    assert runtime.stop() == 0
    assert not lives(pid)
