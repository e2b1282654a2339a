"""What statuses say, and when they are written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from test_agent_plan import placement
from wasmbed.api import (
    PLACEMENT,
    DeviceSlice,
    Gateway,
    GatewayStatus,
    LinkState,
    Metadata,
    PlacementDevice,
    PlacementStatus,
    SliceDevice,
)
from wasmbed.gateway.metrics import Metrics
from wasmbed.gateway.model import Shown
from wasmbed.gateway.placements import Placements
from wasmbed.gateway.status import gateway_status, placement_status, settled, slice_status
from wasmbed.gateway.writer import StatusWriter, Target
from wasmbed.kube import ApiError, ApiUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST = "sha256:" + "a" * 64
A, B = PlacementDevice("a", "ns", "u", "gateway"), PlacementDevice("b", "ns", "u", "gateway")
RUNNING = Shown("Running", DIGEST)


def test_times_change_only_with_what_they_are_about() -> None:
    item = placement("p", A, B)
    shown = {"app-uid/ns/a": RUNNING, "app-uid/ns/b": Shown("Starting", DIGEST, message="pulling the image")}
    first = placement_status(item, shown, PlacementStatus(), now="t1")
    assert not settled(first)
    shown["app-uid/ns/b"] = Shown("Failed", DIGEST, "DeviceError", "trap", 2)
    second = placement_status(item, shown, first, now="t2")
    assert settled(second)
    assert [(d.state, d.since, d.restarts) for d in second.devices] == [("Running", "t1", 0), ("Failed", "t2", 2)]
    (ready,) = second.conditions
    assert (ready.status, ready.reason, ready.message, ready.last_transition_time) == (
        "False",
        "DeviceError",
        "1 of 2 running, 1 failed",
        "t1",
    )
    assert placement_status(item, shown, second, now="t3") == second


@given(st.text(max_size=400))
def test_a_message_is_cut_at_256_bytes_on_a_character(message: str) -> None:
    shown = {"app-uid/ns/a": Shown("Failed", DIGEST, "DeviceError", message)}
    status = placement_status(placement("p", A), shown, PlacementStatus(), now="t")
    text = status.devices[0].message
    assert len(text.encode()) <= 256
    assert placement_status(placement("p", A), shown, status, now="u") == status


def test_a_slice_keeps_since_when_its_devices_are_connected() -> None:
    devices = (SliceDevice("a", "ns", "u", "gateway"), SliceDevice("m", "ns", "u", "mpu"))
    view = DeviceSlice(Metadata("s", "ns-g", "uid", generation=4), "g", devices)
    first = slice_status(view, now="t1")
    assert first.observed_generation == 4
    assert [(link.name, link.state, link.since) for link in first.links] == [("a", "Connected", "t1")]
    assert slice_status(first, now="t2") == first
    linked = {("ns", "m"): (LinkState.DISCONNECTED, "t0")}
    second = slice_status(first, linked.get, now="t3")
    assert [(link.name, link.state, link.since) for link in second.links] == [
        ("a", "Connected", "t1"),
        ("m", "Disconnected", "t0"),
    ]


def test_a_device_that_is_away_keeps_its_last_state_and_says_since_when() -> None:
    item = placement("p", PlacementDevice("m", "ns", "u", "mpu"))
    fresh = placement_status(item, {}, PlacementStatus(), now="t1")
    assert [(d.state, d.message) for d in fresh.devices] == [("Pending", "waiting for the device")]
    away = "disconnected since t5"
    gone = placement_status(item, {}, fresh, now="t6", away=lambda _: away)
    assert gone.devices[0].message == "waiting for the device, disconnected since t5"
    failed = Shown("Failed", DIGEST, "DeviceError", "unreachable; at 7", 3)
    known = placement_status(item, {"app-uid/ns/m": failed}, fresh, now="t2")
    lost = placement_status(item, {}, known, now="t6", away=lambda _: away)
    (device,) = lost.devices
    assert (device.state, device.reason, device.restarts, device.since) == ("Failed", "DeviceError", 3, "t2")
    assert device.message == "last known state, the device is disconnected since t5; unreachable; at 7"
    assert placement_status(item, {}, lost, now="t7", away=lambda _: away) == lost
    back = placement_status(item, {}, lost, now="t8")
    assert back.devices[0].message == "unreachable; at 7"


def test_a_gateway_without_its_runtime_is_not_ready_and_says_why() -> None:
    gateway = Gateway(Metadata("g", generation=2), "g:8080")

    def status(previous: GatewayStatus, problem: str, now: str) -> GatewayStatus:
        return gateway_status(
            gateway,
            previous,
            agent_version="1",
            wasmtime_version="50",
            modules=3,
            runtime_problem=problem,
            now=now,
        )

    good = status(GatewayStatus(), "", "t1")
    assert (good.conditions[0].status, good.modules, good.observed_generation) == ("True", 3, 2)
    bad = status(good, "cannot connect", "t2")
    assert (bad.conditions[0].status, bad.conditions[0].reason, bad.conditions[0].message) == (
        "False",
        "RuntimeUnavailable",
        "cannot connect",
    )
    assert status(bad, "cannot connect", "t3") == bad


class Plans:
    """What Placements know of the fleet."""

    def __init__(self) -> None:
        self.shown = {"app-uid/ns/a": RUNNING}

    def away(self, _: object) -> str:
        return ""

    def planned(self, _: object) -> bool:
        return True

    def set_wanted(self, *_: object, **__: object) -> None:
        self.shown = {"app-uid/ns/a": Shown("Starting", DIGEST)}


class Told:
    """Notes the statuses that are to be written."""

    def __init__(self) -> None:
        self.statuses: list[tuple[int, str]] = []

    def put(self, _: object, status: dict[str, Any], **__: object) -> None:
        self.statuses.append((status["observedGeneration"], status["devices"][0]["state"]))


async def test_a_new_generation_is_never_told_with_the_states_of_the_one_before() -> None:
    """A state that came in the same turn of the loop as a change was told as that of the new generation."""
    plans, told = Plans(), Told()
    placements = Placements("g", None, plans, told, Metrics(CollectorRegistry()))  # type: ignore[arg-type]

    def generation(number: int) -> dict[str, Any]:
        item = placement("p", A).to_dict()
        item["metadata"] |= {"uid": "u", "generation": number, "resourceVersion": str(number)}
        item["spec"]["env"] = [{"name": "A", "value": str(number)}]
        return item

    placements.take_all([generation(1)])
    plans.shown = {"app-uid/ns/a": RUNNING}
    placements.on_shown({})
    placements.on_change(generation(1), generation(2))
    placements.on_shown({"app-uid/ns/a": RUNNING})
    assert told.statuses == [(1, "Running")]
    await asyncio.sleep(0)
    placements.on_shown({})
    assert told.statuses == [(1, "Running"), (2, "Starting")]


class Api:
    """Takes writes, and fails as it is told to."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.failures: list[ApiError] = []
        self.wake = asyncio.Event()

    async def send(self, _: object, body: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.wake.set()
        if self.failures:
            raise self.failures.pop(0)
        self.bodies.append(body)

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not check():
                self.wake.clear()
                await self.wake.wait()
                await asyncio.sleep(0)

    async def wait(self, count: int) -> None:
        await self.until(lambda: len(self.bodies) >= count)


TARGET = Target(PLACEMENT, "p", "uid", "ns")


@pytest.fixture
def api() -> Api:
    return Api()


async def test_quick_changes_are_one_write_and_equal_ones_none(api: Api) -> None:
    counted: list[tuple[str, str]] = []
    writer = StatusWriter(api.send, lambda kind, result: counted.append((kind, result)))
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(writer.run())
        writer.put(TARGET, {"a": 0}, known={"a": 0})
        for number in range(1, 6):
            writer.put(TARGET, {"a": number}, known={"a": 0})
        await api.wait(1)
        writer.put(TARGET, {"a": 5}, known=None)
        writer.put(TARGET, {"a": 6}, known=None)
        await api.wait(2)
        run.cancel()
    assert [body["status"] for body in api.bodies] == [{"a": 5}, {"a": 6}]
    assert api.bodies[0]["metadata"] == {"name": "p", "uid": "uid", "namespace": "ns"}
    assert counted == [("Placement", "written")] * 2


async def test_a_status_that_flaps_is_written_a_bounded_number_of_times(api: Api) -> None:
    writer = StatusWriter(api.send, lambda *_: None)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(writer.run())
        end, number = loop.time() + 1.5, 0
        while loop.time() < end:
            number += 1
            writer.put(TARGET, {"a": number}, known=None)
            await asyncio.sleep(0.005)
        last = {"a": number}
        await api.until(lambda: api.bodies[-1]["status"] == last)
        run.cancel()
    # 5 at once and 5 a second.
    assert len(api.bodies) <= 5 + 1.5 * 5 + 3


async def test_a_write_that_failed_is_repeated_with_the_latest_status(api: Api) -> None:
    writer = StatusWriter(api.send, lambda *_: None)
    api.failures = [ApiUnreachableError("away")] * 2
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(writer.run())
        writer.put(TARGET, {"a": 1}, known=None)
        await api.until(lambda: len(api.failures) == 1)
        writer.put(TARGET, {"a": 2}, known=None)
        writer.hurry()
        await api.wait(1)
        run.cancel()
    assert [body["status"] for body in api.bodies] == [{"a": 2}]


async def test_a_write_that_met_a_conflict_is_repeated(api: Api) -> None:
    """It was taken for one to an object that is gone, and the status stayed unwritten until it changed again."""
    writer = StatusWriter(api.send, lambda *_: None)
    api.failures = [ApiError(409, "Conflict", "the object has been modified")]
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(writer.run())
        writer.put(TARGET, {"a": 1}, known=None)
        await api.wait(1)
        run.cancel()


async def test_an_object_that_is_gone_is_not_written_again(api: Api) -> None:
    writer = StatusWriter(api.send, lambda *_: None)
    api.failures = [ApiError(404, "NotFound", "gone")]
    other = Target(PLACEMENT, "q", "uid", "ns")
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(writer.run())
        writer.put(TARGET, {"a": 1}, known=None)
        await api.until(lambda: not api.failures)
        writer.hurry()
        writer.put(other, {"a": 3}, known=None)
        await api.wait(1)
        run.cancel()
    assert [body["metadata"]["name"] for body in api.bodies] == ["q"]
