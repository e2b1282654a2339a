"""The dispatcher's rules: grants, bounds, order, time limits, what happens at a trap, an update, a lost peer."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from wasmbed.hostcalls import (
    Dispatcher,
    Ended,
    HostCall,
    HostCallMetrics,
    HostInstance,
    Instance,
    Outcome,
    Outlet,
    RefusedError,
    Status,
)
from wasmbed.hostcalls.dispatcher import MAX_ACTIVE, MAX_BACKLOG_BYTES, MAX_QUEUED
from wasmbed.runtime import Delivery, HostRequest, Provision, Secret, Sensor
from wasmbed.runtime.abi import ROS2_HEADER, EventType, Ros2Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

SPEC = HostInstance("uid/default/one", "default/app", "uid", "default/one", frozenset({"wasmbed:px4"}))


def Request(  # noqa: N802 - a request with defaults
    op: str, token: int = 0, args: tuple[Any, ...] = (), data: bytes = b"", instance: str = "", module: str = "px4"
) -> HostRequest:
    return HostRequest(instance or SPEC.name, SPEC.application, SPEC.device, module, op, token, args, data)


@dataclass
class Runtime:
    """The other end of `deliver`, `provide` and `secret`."""

    backlog_bytes: int = 0
    events: list[Delivery] = field(default_factory=list)
    offers: list[Provision] = field(default_factory=list)
    batches: int = 0

    def deliver(self, events: Sequence[Delivery]) -> None:
        self.batches += 1
        self.events += events

    async def provide(self, offer: Provision) -> None:
        self.offers.append(offer)

    async def secret(self, secret: Secret) -> None:
        raise AssertionError

    def results(self) -> list[tuple[int, int, bytes]]:
        return [
            (event.source, struct.unpack_from("<i", event.data)[0], event.data[4:])
            for event in self.events
            if event.type == EventType.RESULT
        ]


class Autopilot:
    """A backend whose calls end when the test says so."""

    module = "px4"
    operations: ClassVar[Mapping[str, float]] = {"now": 1.0, "later": 30.0, "never": 0.05, "bad": 1.0, "broken": 1.0}

    def __init__(self) -> None:
        self.up = True
        self.seen: list[Any] = []
        self.life: list[str] = []
        self.go = asyncio.Event()
        self.opening = asyncio.Event()
        self.opening.set()
        self.refuse = ""
        self.outlet: Outlet | None = None

    def attach(self, outlet: Outlet) -> None:
        self.outlet = outlet

    def available(self, device: str) -> bool:
        return self.up

    def sensors(self, device: str) -> Sequence[Sensor]:
        return ()

    async def open(self, instance: Instance) -> None:
        await self.opening.wait()
        if self.refuse:
            raise RefusedError(self.refuse)
        self.life.append("open")

    async def close(self, instance: Instance, why: Ended) -> None:
        self.life.append(why.value)

    def handle(self, call: HostCall) -> Outcome | Awaitable[Outcome]:
        self.seen.append(call.args[0] if call.args else call.op)
        match call.op:
            case "now":
                return Outcome(detail=call.data)
            case "later":
                return self._later(call)
            case "never":
                return self._never()
            case "bad":
                return Outcome(call.number(0, 0, 10))
        raise KeyError(call.op)

    async def _later(self, call: HostCall) -> Outcome:
        await self.go.wait()
        return Outcome(Status.REJECTED, call.text(0).encode())

    async def _never(self) -> Outcome:
        await asyncio.Event().wait()
        return Outcome()


@dataclass
class Bench:
    dispatcher: Dispatcher
    backend: Autopilot
    runtime: Runtime
    registry: CollectorRegistry

    def submit(self, *requests: HostRequest) -> None:
        for request in requests:
            self.dispatcher.submit(request, self.runtime)

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a condition of another task
            await asyncio.sleep(0.002)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    backend, registry = Autopilot(), CollectorRegistry()
    dispatcher = Dispatcher([backend], HostCallMetrics(registry))
    task = asyncio.create_task(dispatcher.run())
    yield Bench(dispatcher, backend, Runtime(), registry)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_outcome_comes_back_as_result_of_its_token(bench: Bench) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    assert bench.runtime.offers == [Provision("default/one", ("px4",))]
    bench.submit(Request("later", 7, ("slow",)), Request("now", 8, data=b"detail"), Request("now", 0))
    bench.backend.go.set()
    await until(lambda: len(bench.runtime.events) == 2)
    assert bench.runtime.results() == [(8, 0, b"detail"), (7, -71, b"slow")]
    assert bench.figure("wasmbed_host_calls_total", module="px4", op="later", result="rejected") == 1
    assert bench.figure("wasmbed_host_calls_total", module="px4", op="now", result="ok") == 2
    assert bench.figure("wasmbed_host_call_seconds_count", module="px4") == 3


async def test_calls_reach_the_backend_in_their_order(bench: Bench) -> None:
    bench.backend.opening.clear()
    opening = asyncio.create_task(bench.dispatcher.open(SPEC, bench.runtime))
    await until(lambda: bench.figure("wasmbed_host_instances"))
    # What comes while the instance is being opened waits for it.
    bench.submit(*(Request("now", number, (number,)) for number in range(1, 100)))
    assert bench.backend.seen == []
    bench.backend.opening.set()
    await opening
    bench.submit(*(Request("now", number, (number,)) for number in range(100, 120)))
    assert bench.backend.seen == list(range(1, 120))
    await until(lambda: len(bench.runtime.events) == 119)
    assert bench.runtime.batches < 10


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("unknown", 1), Status.INVALID),
        (Request("bad", 1), Status.INVALID),
        (Request("bad", 1, (True,)), Status.INVALID),
        (Request("bad", 1, (11,)), Status.INVALID),
        (Request("bad", 1, ("x" * 1000,)), Status.INVALID),
        (Request("later", 1, (b"bytes",)), Status.INVALID),
        (Request("broken", 1), Status.IO),
        (Request("never", 1), Status.TIMEOUT),
        (Request("publish", 1, module="ros2"), Status.DENIED),
        (Request("x", 1, module="\x00" * 100), Status.DENIED),
        (Request("now", 1, instance="another/default/one"), Status.UNAVAILABLE),
    ],
)
async def test_what_cannot_be_done_has_a_code(bench: Bench, request_: HostRequest, status: Status) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    bench.backend.go.set()
    bench.submit(request_)
    await until(bench.runtime.results)
    assert bench.runtime.results() == [(1, status, b"")]


async def test_module_without_backend_or_living_one_is_unavailable(bench: Bench) -> None:
    spec = HostInstance("i", "default/app", "uid", "default/one", frozenset({"wasmbed:px4", "wasmbed:ros2"}))
    await bench.dispatcher.open(spec, bench.runtime)
    bench.backend.up = False
    assert bench.backend.outlet is not None
    bench.backend.outlet.changed("default/one")
    await until(lambda: len(bench.runtime.offers) == 2)
    assert bench.runtime.offers[-1] == Provision("default/one", ())
    bench.submit(Request("now", 1, instance="i"), Request("publish", 2, instance="i", module="ros2"))
    await until(lambda: len(bench.runtime.events) == 2)
    assert [status for _, status, _ in bench.runtime.results()] == [Status.UNAVAILABLE] * 2
    assert bench.backend.seen == []


async def test_failed_call_of_ros2_is_told_by_its_own_event(bench: Bench) -> None:
    spec = HostInstance("i", "default/app", "uid", "default/one", frozenset({"wasmbed:ros2"}))
    await bench.dispatcher.open(spec, bench.runtime)
    bench.submit(Request("call", 9, (4,), b"{}", "i", "ros2"), Request("call", 10, ("x",), b"{}", "i", "ros2"))
    await until(lambda: len(bench.runtime.events) == 2)
    assert [(event.type, event.source) for event in bench.runtime.events] == [(5, 4), (5, 0)]
    kind, status, token, _ = ROS2_HEADER.unpack(bench.runtime.events[0].data)
    assert (kind, status, token) == (Ros2Kind.FAILURE, Status.UNAVAILABLE, 9)


async def test_another_peer_cannot_speak_for_an_instance(bench: Bench) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    stranger = Runtime()
    bench.dispatcher.submit(Request("now", 3), stranger)
    await until(stranger.results)
    assert stranger.results() == [(3, Status.UNAVAILABLE, b"")]
    assert bench.backend.seen == []


async def test_calls_under_way_and_waiting_are_bounded(bench: Bench) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    bench.submit(*(Request("later", token, ("x",)) for token in range(1, MAX_ACTIVE + 11)))
    await until(lambda: len(bench.runtime.events) == 10)
    assert {status for _, status, _ in bench.runtime.results()} == {Status.AGAIN}
    bench.backend.opening.clear()
    bench.dispatcher.trapped(SPEC.name)
    bench.runtime.events.clear()
    bench.submit(*(Request("now", token) for token in range(1, MAX_QUEUED + 6)))
    await until(lambda: len(bench.runtime.events) == 5)
    bench.backend.opening.set()
    await until(lambda: len(bench.runtime.events) == MAX_QUEUED + 5)
    assert [status for _, status, _ in bench.runtime.results()] == [Status.AGAIN] * 5 + [Status.OK] * MAX_QUEUED


async def test_trap_ends_calls_and_begins_anew(bench: Bench) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    bench.submit(Request("later", 5, ("x",)))
    await until(lambda: bench.backend.seen)
    bench.dispatcher.trapped(SPEC.name)
    bench.dispatcher.trapped(SPEC.name)
    bench.submit(Request("now", 6))
    await until(lambda: bench.runtime.events)
    bench.backend.go.set()
    assert bench.runtime.results() == [(6, 0, b"")]
    assert bench.backend.life == ["open", "trapped", "open"]


async def test_update_closes_the_old_before_the_new_is_open(bench: Bench) -> None:
    await bench.dispatcher.open(SPEC, bench.runtime)
    await bench.dispatcher.open(SPEC, bench.runtime)
    assert bench.backend.life == ["open"]
    newer = HostInstance(SPEC.name, "default/app", "uid", "default/one", SPEC.grants, frozenset({"px4-command"}))
    await bench.dispatcher.open(newer, bench.runtime)
    await bench.dispatcher.close(SPEC.name, Ended.STOPPED)
    await bench.dispatcher.close(SPEC.name, Ended.STOPPED)
    assert bench.backend.life == ["open", "updated", "open", "stopped"]
    bench.submit(Request("now", 1))
    await until(bench.runtime.results)
    assert bench.runtime.results() == [(1, Status.UNAVAILABLE, b"")]


async def test_lost_peer_closes_its_instances_alone(bench: Bench) -> None:
    other = Runtime()
    await bench.dispatcher.open(SPEC, bench.runtime)
    await bench.dispatcher.open(HostInstance("two", "default/app", "uid", "default/two", SPEC.grants), other)
    bench.dispatcher.lost(bench.runtime)
    await until(lambda: "link lost" in bench.backend.life)
    assert bench.backend.life == ["open", "open", "link lost"]
    bench.dispatcher.submit(Request("now", 1, instance="two"), other)
    await until(other.results)
    assert other.results() == [(1, 0, b"")]


async def test_refused_instance_is_not_open(bench: Bench) -> None:
    bench.backend.refuse = "communication.px4.rights: nothing is allowed here"
    with pytest.raises(RefusedError, match=r"communication\.px4\.rights"):
        await bench.dispatcher.open(SPEC, bench.runtime)
    assert bench.figure("wasmbed_host_instances") == 0
    assert bench.backend.life == ["stopped"]


async def opened(bench: Bench) -> Instance:
    """Open an instance; as its backend sees it."""
    seen: list[Instance] = []
    original = bench.backend.open

    async def open_and_note(instance: Instance) -> None:
        seen.append(instance)
        await original(instance)

    bench.backend.open = open_and_note  # type: ignore[method-assign]
    await bench.dispatcher.open(SPEC, bench.runtime)
    return seen[0]


async def test_slow_peer_costs_events_that_are_counted_but_no_result(bench: Bench) -> None:
    instance = await opened(bench)
    bench.runtime.backlog_bytes = MAX_BACKLOG_BYTES
    for _ in range(100):
        instance.post(EventType.TELEMETRY, 1, bytes(100))
    bench.submit(Request("now", 1))
    await until(bench.runtime.results)
    assert len(bench.runtime.events) == 1
    assert bench.figure("wasmbed_host_events_dropped_total", module="px4") == 100


async def test_a_peer_that_becomes_slow_in_a_row_of_events_gets_what_may_not_be_lost(bench: Bench) -> None:
    instance = await opened(bench)
    message, reply = (ROS2_HEADER.pack(kind, 0, 7, 0) for kind in (Ros2Kind.MESSAGE, Ros2Kind.REPLY))
    large = message + bytes(MAX_BACKLOG_BYTES // 2)
    instance.post_all(EventType.ROS2, 3, [large, large, large, message, reply])
    await until(lambda: bench.runtime.events)
    assert [event.data for event in bench.runtime.events] == [large, large, reply]
    assert {(event.type, event.source) for event in bench.runtime.events} == {(EventType.ROS2, 3)}
    assert bench.figure("wasmbed_host_events_dropped_total", module="ros2") == 2
    assert bench.figure("wasmbed_host_events_total", type="ros2") == 3
