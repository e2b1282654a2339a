"""The indexes: after any changes they are what a search of everything gives, and a change touches only its own."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.api import (
    DeviceSlice,
    EdgeDevice,
    Gateway,
    Incident,
    LabelSelector,
    Link,
    Metadata,
    Target,
    Vehicle,
    WasmApplication,
)
from wasmbed.controller.controller import Controller
from wasmbed.controller.metrics import Metrics
from wasmbed.controller.observed import Observed
from wasmbed.controller.placements import Image, plan_placements
from wasmbed.controller.selection import gateway_of, selects
from wasmbed.controller.work import Do, Work
from wasmbed.kube import Kube, Recorder
from wasmbed.service import Health

IMAGE = Image("r.example/a:v1", "sha256:" + "0" * 64)

_version = iter(range(1, 10**9))


def meta(name: str, namespace: str = "ns", *, generation: int = 1, uid: str = "", **labels: str) -> Metadata:
    return Metadata(name, namespace, uid or f"uid-{name}", generation, str(next(_version)), labels)


def device(
    name: str, model: str = "a", endpoint: str = "gw1:1", device_type: str = "drone", gateway: str = ""
) -> EdgeDevice:
    return EdgeDevice(meta(name, model=model), device_type, gateway_endpoint=endpoint, gateway_name=gateway)


def application(name: str, model: str = "a", device_type: str = "drone", generation: int = 1) -> WasmApplication:
    target = Target(device_type, LabelSelector({"model": model}))
    return WasmApplication(meta(name, generation=generation), "r.example/a:v1", (target,))


def gateway(name: str, endpoint: str = "") -> Gateway:
    return Gateway(meta(name, ""), endpoint or f"{name}:1")


NAMES, MODELS, TYPES = (
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["drone", "rover"]),
)
GATEWAYS, ENDPOINTS = st.sampled_from(["gw1", "gw2"]), st.sampled_from(["gw1:1", "gw2:1"])
STEPS = st.one_of(
    st.tuples(st.just("device"), NAMES, MODELS, ENDPOINTS | st.just(""), TYPES, st.sampled_from(["", "gw2"])),
    st.tuples(st.just("no device"), NAMES),
    st.tuples(st.just("application"), NAMES, MODELS, TYPES),
    st.tuples(st.just("no application"), NAMES),
    st.tuples(st.just("gateway"), GATEWAYS, ENDPOINTS),
    st.tuples(st.just("no gateway"), GATEWAYS),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_indexes_are_what_a_search_gives(steps: list[tuple[str, ...]]) -> None:
    seen = Observed()
    for generation, (what, name, *rest) in enumerate(steps):
        match what:
            case "device":
                seen.set_device(("ns", name), device(name, *rest))
            case "no device":
                seen.set_device(("ns", name), None)
            case "application":
                seen.set_application(("ns", name), application(name, *rest, generation=generation))
            case "no application":
                seen.set_application(("ns", name), None)
            case "gateway":
                seen.set_gateway(name, gateway(name, *rest))
            case _:
                seen.set_gateway(name, None)
    endpoints: dict[str, set[str]] = {}
    for name, found in seen.gateways.items():
        endpoints.setdefault(found.endpoint, set()).add(name)
    served = {key: gateway_of(found, seen.gateways, endpoints) for key, found in seen.devices.items()}
    assert seen.gateway_of_device == served
    for where in ("", "gw1", "gw2"):
        assert seen.devices_of_gateway[where] == {key for key, name in served.items() if name == where}
        for key, wanted in seen.applications.items():
            expected = {k for k, found in seen.devices.items() if served[k] == where and selects(wanted, found)}
            assert {found.metadata.key for found in seen.selected(key, where)} == expected
            assert (where in seen.gateways_of(wanted)) is bool(expected)
            assert (key in seen.applications_on_gateway[where]) is bool(expected)
    for key in {("ns", name) for name in "xyz"} - set(seen.applications):
        assert seen.selected(key, "gw1") == []


def test_label_change_touches_the_applications_that_care() -> None:
    seen = Observed()
    seen.set_gateway("gw1", gateway("gw1"))
    for model in "abc":
        seen.set_application(("ns", model), application(model, model))
    seen.set_device(("ns", "d"), device("d", "a"))
    work = seen.set_device(("ns", "d"), device("d", "b"))
    assert work == {Work(Do.PLACEMENTS, ("ns", "a"), "gw1"), Work(Do.PLACEMENTS, ("ns", "b"), "gw1")}
    assert seen.set_device(("ns", "d"), device("d", "b")) == set()


def test_echo_of_a_write_leads_to_nothing() -> None:
    seen = Observed()
    seen.set_gateway("gw1", gateway("gw1"))
    wanted = application("app")
    seen.set_application(("ns", "app"), wanted)
    (written,) = plan_placements(wanted, "gw1", [device("d")], [], IMAGE).apply
    written = dataclasses.replace(written, metadata=dataclasses.replace(written.metadata, resource_version="100"))
    assert seen.set_placement(written.metadata.key, written)
    assert seen.set_placement(written.metadata.key, written) == set()
    older = dataclasses.replace(written, metadata=dataclasses.replace(written.metadata, resource_version="99"))
    assert seen.set_placement(written.metadata.key, older) == set()


def test_placement_of_an_unknown_application_is_an_orphan() -> None:
    seen = Observed()
    (placement,) = plan_placements(application("app"), "gw1", [device("d")], [], IMAGE).apply
    assert seen.set_placement(placement.metadata.key, placement) == {Work(Do.ORPHAN, placement.metadata.key)}


def test_link_change_touches_the_device_alone() -> None:
    seen = Observed()

    def links(**states: str) -> DeviceSlice:
        found = tuple(Link(name, "ns", state) for name, state in states.items())
        return DeviceSlice(meta("devices-0", "wasmbed-gw-gw1"), "gw1", links=found)

    key = ("wasmbed-gw-gw1", "devices-0")
    seen.set_slice(key, links(a="Connected", b="Connected"))
    assert seen.set_slice(key, links(a="Connected", b="Disconnected")) == {Work(Do.DEVICE, ("ns", "b"))}
    assert seen.links[("gw1", ("ns", "b"))].state == "Disconnected"
    seen.set_slice(key, None)
    assert seen.links == {}


def test_vehicle_and_incidents_of_a_link_lead_to_its_device() -> None:
    seen = Observed()

    def told(vehicle: Vehicle | None, *incidents: Incident) -> DeviceSlice:
        links = (Link("a", "ns", "Connected", vehicle=vehicle, incidents=incidents), Link("b", "ns", "Connected"))
        return DeviceSlice(meta("devices-0", "wasmbed-gw-gw1"), "gw1", links=links)

    key, device_key = ("wasmbed-gw-gw1", "devices-0"), ("ns", "a")
    seen.set_slice(key, told(None))
    assert seen.set_slice(key, told(Vehicle(True, False, "hold"))) == {Work(Do.DEVICE, device_key)}
    incident = Incident("2026-01-01T00:00:00Z", "OwnerLost", "why")
    work = seen.set_slice(key, told(Vehicle(True, False, "hold"), incident))
    assert work == {Work(Do.INCIDENTS, device_key, "gw1")}
    assert seen.incidents == {("gw1", device_key): (incident,)}
    seen.set_slice(key, None)
    assert (seen.vehicles, seen.incidents) == ({}, {})


def test_change_costs_by_what_it_touches_not_by_the_fleet() -> None:
    def cost(fleet: int) -> float:
        seen = Observed()
        for number in range(fleet // 100):
            seen.set_gateway(f"gw{number}", gateway(f"gw{number}"))
            seen.set_application(("ns", f"app{number}"), application(f"app{number}", f"m{number}", f"t{number}"))
        for number in range(fleet):
            where = number // 100
            seen.set_device(("ns", f"d{number}"), device(f"d{number}", f"m{where}", f"gw{where}:1", f"t{where}"))
        best = float("inf")
        for turn in range(20):
            changed = device("d5", "other" if turn % 2 else "m0", "gw0:1", "t0")
            started = time.perf_counter()
            assert len(seen.set_device(("ns", "d5"), changed)) == 1 or turn == 0
            best = min(best, time.perf_counter() - started)
        return best

    assert cost(10_000) < 10 * cost(500)


async def test_an_orphan_whose_application_came_after_it_is_no_question_for_the_api() -> None:
    """At a start Placements can be listed before their applications: one request for each, and all at once."""
    async with asyncio.timeout(60):
        away = Kube.from_kubeconfig(Path("/nonexistent"), user_agent="test")
        recorder = Recorder(away, controller="test", instance="test")
        controller = Controller(away, lambda _: asyncio.sleep(0, ""), recorder, Metrics(), Health())
        seen, wanted = controller.observed, application("app")
        (placement,) = plan_placements(wanted, "gw1", [device("d")], [], IMAGE).apply
        (work,) = seen.set_placement(placement.metadata.key, placement)
        seen.set_application(("ns", "app"), wanted)
        await controller._handle(work)
        assert placement.metadata.key in seen.placements
