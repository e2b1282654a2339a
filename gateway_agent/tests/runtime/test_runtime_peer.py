"""Applications and the peer that carries out what they ask: requests, answers, events, and what is lost with either."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest
from runtime_support import Agent, RuntimeProcess, application, connected, timer
from wasmbed.runtime import Delivery, HostRequest, Limits, LogEvent, Provision, Secret, Sensor, abi, sealing
from wasmbed.runtime.abi import Code, EventType, OwnerLoss, Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = ("wasmbed:sys", "wasmbed:px4", "wasmbed:ros2", "wasmbed:sensor", "wasmbed:secure")
RIGHTS = ("px4-command", "px4-offboard", "px4-mission", "px4-parameters")
DEVICE = "default/app"
THERMOMETER = Sensor("thermometer", 5, 1, 1000, 28)
EVERYTHING = Provision(DEVICE, ("px4", "ros2", "secure", "sensor"), sensors=(THERMOMETER,))
# Logs the type, the source and four bytes of data of each event, as raw bytes of letters.
TELL = """
  (func $digit (param $at i32) (param $value i32)
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.and (local.get $value) (i32.const 63)))))
  (func $tell (param $type i32) (param $source i32)
    (i32.store (i32.const 100) (i32.const 0x3f3f3f3f))
    (drop (call $sys.event_read (i32.const 0) (i32.const 100) (i32.const 4)))
    (call $digit (i32.const 0) (local.get $type)) (i32.store8 (i32.const 1) (i32.const 32))
    (call $digit (i32.const 2) (local.get $source)) (i32.store8 (i32.const 3) (i32.const 32))
    (call $digit (i32.const 4) (i32.load8_s (i32.const 100)))
    (call $sys.log (i32.const 2) (i32.const 0) (i32.const 5)))"""
USES = (
    *("sys.log", "sys.event_read", "sys.timer_set", "px4.acquire", "px4.command", "px4.subscribe", "ros2.open"),
    *("ros2.publish", "ros2.call", "sensor.subscribe", "secure.send"),
)
EVENT = "(call $tell (local.get $type) (local.get $source))"


def telling(init: str, event: str = EVENT) -> bytes:
    return application(f'(data (i32.const 64) "route") {TELL}', uses=USES, init=init, event=event)


def told(kind: EventType, source: int, first: int = 0x3F) -> str:
    """The line of an event."""
    return f"{chr(48 + kind)} {chr(48 + (source & 63))} {chr(48 + (first & 63))}"


async def run(agent: Agent, module: bytes, **fields: object) -> None:
    await agent.run(
        *("app", module),
        grants=ALL,
        rights=RIGHTS,
        routes=(("route", "subscribe", "topic"),),
        application="default/own",
        **fields,  # type: ignore[arg-type]
    )


COMMAND = "(drop (call $px4.acquire)) (drop (call $px4.command (i32.const 256)))"


async def test_a_request_reaches_the_peer_and_its_result_the_application(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    await run(agent, telling(COMMAND))
    acquired = await agent.request("app", "acquire")
    assert (acquired.module, acquired.token, acquired.application, acquired.device) == ("px4", 0, "default/own", DEVICE)
    command = await agent.request("app", "command")
    assert (command.token, command.data) == (1, bytes(abi.COMMAND.size))
    result = struct.pack("<iBB", Code.REJECTED, 4, 0)
    agent.client.deliver([Delivery("app", EventType.RESULT, command.token, result)])
    await agent.log("app", told(EventType.RESULT, command.token, Code.REJECTED & 0xFF))


async def test_telemetry_samples_and_routes_become_events(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    init = """(drop (call $px4.subscribe (i32.const 1) (i32.const 0)))
      (drop (call $sensor.subscribe (i32.const 0) (i32.const 0)))
      (drop (call $ros2.open (i32.const 64) (i32.const 5)))"""
    await run(agent, telling(init))
    opened = await agent.request("app", "open")
    assert opened.args == ("route", 0)
    status = abi.TELEMETRY[Telemetry.STATUS].pack(7, 1, 1, 5, 0, 0, 2, 1, 99)
    sample = abi.SAMPLE.pack(9, 5, 1, 0, 0, 0, 4) + struct.pack("<f", 20.0)
    message = abi.ROS2_HEADER.pack(1, 0, 0, 0) + b"x"
    agent.client.deliver(
        [
            Delivery("app", EventType.TELEMETRY, 1, status),
            Delivery("app", EventType.SENSOR, 0, sample),
            Delivery("app", EventType.ROS2, 0, message),
        ]
    )
    await agent.log("app", told(EventType.TELEMETRY, 1, 7))
    await agent.log("app", told(EventType.SENSOR, 0, 9))
    await agent.log("app", told(EventType.ROS2, 0, 1))


async def test_a_change_of_the_link_is_an_event_and_a_lost_bridge_ends_ownership(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    await run(agent, telling(COMMAND))
    await agent.request("app", "command")
    await agent.client.provide(Provision(DEVICE, ("ros2",), link=False))
    await agent.log("app", told(EventType.LINK, 0))
    await agent.log("app", told(EventType.OWNER, 0, OwnerLoss.LOST))
    await agent.log("app", told(EventType.RESULT, 1, Code.UNAVAILABLE & 0xFF))


async def test_a_peer_that_is_lost_answers_what_was_open_and_the_next_is_told_what_stands(
    runtime: RuntimeProcess,
) -> None:
    init = COMMAND + "(drop (call $px4.subscribe (i32.const 2) (i32.const 500)))"
    async with connected(runtime) as first:
        await first.client.provide(EVERYTHING)
        await run(first, telling(init))
        await first.request("app", "subscribe")
    async with connected(runtime) as second:
        await second.log("app", told(EventType.RESULT, 1, Code.UNAVAILABLE & 0xFF))
        await second.client.provide(EVERYTHING)
        again = await second.request("app", "subscribe")
        assert again.args == (2, 500)
        assert not any(isinstance(e, HostRequest) and e.op in ("acquire", "command") for e in second.events)
        await second.stop_all()


async def test_an_application_that_fails_gives_the_autopilot_up_before_it_is_told_failed(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    await run(agent, telling(COMMAND + timer(10), event="unreachable"))
    released = await agent.request("app", "release")
    assert released.args == ("failed",)
    await agent.state("app", "Failed")
    kinds = [e.op if isinstance(e, HostRequest) else getattr(e, "state", "") for e in agent.events]
    assert kinds.index("release") < kinds.index("Failed")


async def test_a_stopped_owner_gives_the_autopilot_up(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    await run(agent, telling(COMMAND))
    await agent.request("app", "command")
    await agent.client.stop("app")
    assert (await agent.request("app", "release")).args == ("stopped",)


async def test_a_sealed_message_goes_up_and_one_comes_down(agent: Agent) -> None:
    key = bytes(range(32))
    await agent.client.provide(EVERYTHING)
    await agent.client.secret(Secret("default/own", DEVICE, key, 3000))
    await run(agent, telling("(drop (call $secure.send (i32.const 64) (i32.const 5)))"))
    sent = await agent.request("app", "send")
    assert sent.data is not None
    envelope = sealing.unseal(key, sent.data)
    assert (envelope.content, envelope.sequence, envelope.direction) == (b"route", 3000, sealing.UP)
    down = sealing.seal(key, "default/own", DEVICE, sealing.DOWN, 1, b"\x05")
    agent.client.deliver([Delivery("app", EventType.SECURE, 0, down), Delivery("app", EventType.SECURE, 0, down)])
    await agent.log("app", told(EventType.SECURE, 0, 5))
    assert (await agent.request("app", "refused")).module == "secure"
    assert [e.text for e in agent.events if isinstance(e, LogEvent)].count(told(EventType.SECURE, 0, 5)) == 1


STORMS: dict[str, Callable[[int], list[Delivery]]] = {
    "ROS 2 messages": lambda n: [Delivery("app", EventType.ROS2, 0, abi.ROS2_HEADER.pack(1, 0, 0, n) + bytes(2000))],
    "results nobody waits for": lambda n: [Delivery("app", EventType.RESULT, 1 + n, bytes(4))],
    "telemetry": lambda n: [
        Delivery("app", EventType.TELEMETRY, 2, abi.TELEMETRY[Telemetry.POSITION].pack(n, *[0] * 8))
    ],
    "link changes": lambda n: [Delivery("app", EventType.LINK, n % 2)],
}
NEIGHBOUR = application(
    '(data (i32.const 0) "tick")',
    uses=("sys.log", "sys.timer_set"),
    init=timer(50),
    event="(call $sys.log (i32.const 2) (i32.const 0) (i32.const 4))",
)


@pytest.mark.parametrize("what", STORMS)
async def test_an_event_storm_is_bounded_and_costs_the_neighbour_nothing(agent: Agent, what: str) -> None:
    await agent.client.provide(EVERYTHING)
    # Busy for a while with every event, so that its queue is full all the time.
    spin = """(loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000000))))"""
    init = (
        "(drop (call $px4.subscribe (i32.const 2) (i32.const 0))) (drop (call $ros2.open (i32.const 64) (i32.const 5)))"
    )
    await run(agent, telling(init, event=spin), limits=Limits())
    await agent.run("neighbour", NEIGHBOUR)
    await agent.log("neighbour", "tick")
    before = sum(isinstance(e, LogEvent) for e in agent.events)
    for number in range(20_000):
        agent.client.deliver(STORMS[what](number))
        if number % 500 == 0:
            await agent.client.list()
    rows = {row.instance: row for row in await agent.client.list()}
    assert {name: (row.state, row.restarts) for name, row in rows.items()} == {
        "app": ("Running", 0),
        "neighbour": ("Running", 0),
    }
    if what in ("ROS 2 messages", "telemetry"):
        assert rows["app"].dropped > 10_000
    async with asyncio.timeout(60):
        while sum(isinstance(e, LogEvent) for e in agent.events) < before + 3:  # noqa: ASYNC110 - of a neighbour's ticks
            await asyncio.sleep(0.02)


async def test_what_a_stopped_application_had_under_way_is_not_held_against_the_next(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    publish = "(call $ros2.publish (i32.const 0) (i32.const 0) (i32.const 16))"
    more = "(br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))"
    # Stopped in the middle of its requests, again and again, until as many could have been lost as may be under way.
    closed = "(i32.lt_s (call $ros2.open (i32.const 64) (i32.const 5)) (i32.const 0))"
    init = f"(if {closed} (then (return (i32.const 1)))){timer(10)}"
    for _ in range(12):
        seen = len(agent.events)
        await run(agent, telling(init, event=f"(loop (drop {publish}) {more})"))
        async with asyncio.timeout(20):
            while not any(isinstance(e, HostRequest) and e.op == "publish" for e in agent.events[seen:]):
                await agent.client.list()
        await agent.client.stop("app")


async def test_a_storm_of_requests_is_bounded_by_rate_and_tokens_and_none_is_lost_for_others(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    storm = "(loop (drop (call $ros2.publish (i32.const 0) (i32.const 0) (i32.const 60000))) (br 0))"
    init = "(drop (call $ros2.open (i32.const 64) (i32.const 5)))" + timer(10)
    await run(agent, telling(init, event=f"(if (i32.eqz (local.get $source)) (then {storm}))"))
    await agent.run("neighbour", NEIGHBOUR)
    await agent.log("neighbour", "tick")
    await agent.state("app", "Failed")
    published = [e for e in agent.events if isinstance(e, HostRequest) and e.op == "publish"]
    # A burst of 2,000 at most, and what was not yet on its way was dropped with its maker.
    assert 1 <= len(published) <= 2_500
    counters = await agent.client.metrics()
    assert counters["calls wasmbed:ros2.publish"] > len(published)


async def test_who_goes_on_above_a_rate_waits_and_publishes_evenly(agent: Agent) -> None:
    await agent.client.provide(EVERYTHING)
    one = "(drop (call $ros2.publish (i32.const 0) (i32.const 0) (i32.const 16)))"
    more = "(br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))"
    init = "(drop (call $ros2.open (i32.const 64) (i32.const 5)))" + timer(10)
    await run(agent, telling(init, event=f"(loop {one} {more})"))
    await agent.request("app", "publish")
    await asyncio.sleep(3)  # all of the first burst is used up
    before = await agent.client.metrics()
    await asyncio.sleep(2)
    after = await agent.client.metrics()
    calls, refused = (
        sum(after[name] - before[name] for name in after if name == f"{kind} wasmbed:ros2.publish")
        for kind in ("calls", "refused")
    )
    # As many as its rate lets through, but not the 100,000 calls a second that it would make.
    assert 3_000 <= calls - refused <= 5_000
    assert refused <= 17 * 2 * 1.1 * 1000
    assert (await agent.client.list())[0].state == "Running"


async def test_a_share_of_the_cpu_holds_over_time(agent: Agent) -> None:
    """Ten percent of a core: 100 ms at once, then events come as the share allows."""
    spin = """(loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 20000000))))"""
    module = application(uses=("sys.timer_set",), init=timer(10), event=spin)
    await agent.run("app", module, limits=Limits(), cpu_share=100)
    await agent.state("app", "Running")
    loop = asyncio.get_running_loop()
    began = loop.time()
    used_ms = passed = 0.0
    while passed < 4:
        await asyncio.sleep(0.1)
        used_ms = (await agent.client.list())[0].cpu_ms
        passed = loop.time() - began
    # One call more than the share and what was saved up; a busy machine gives it less.
    assert 0 < used_ms <= 100 + 100 * passed + 150
    await agent.client.stop("app")
