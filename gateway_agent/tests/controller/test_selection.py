"""Choosing devices and their gateway, chunks, Placements and DeviceSlices: pure functions, no cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.api import (
    DeviceSlice,
    EdgeDevice,
    LabelSelector,
    Metadata,
    Placement,
    Requirement,
    Target,
    WasmApplication,
)
from wasmbed.controller.chunks import assign, by_number
from wasmbed.controller.placements import (
    Image,
    grants_of,
    limits_of,
    placement_prefix,
    plan_placements,
    shrink_placements,
)
from wasmbed.controller.selection import NO_GATEWAY, gateway_of, selects
from wasmbed.controller.slices import plan_slices

IMAGE = Image("registry.example/a:v1", "sha256:" + "0" * 64)


def device(name: str = "d", namespace: str = "ns", **changes: Any) -> EdgeDevice:
    labels = changes.pop("labels", {})
    metadata = Metadata(name=name, namespace=namespace, uid=f"uid-{name}", generation=1, labels=labels)
    return EdgeDevice(metadata=metadata, **{"device_type": "drone", **changes})


def application(**changes: Any) -> WasmApplication:
    metadata = changes.pop("metadata", Metadata(name="app", namespace="ns", uid="uid-app", generation=1))
    return WasmApplication(metadata=metadata, wasm_image=IMAGE.reference, **{"targets": (Target("drone"),), **changes})


@pytest.mark.parametrize(
    ("requirement", "labels", "matches"),
    [
        (Requirement("k", "In", ("a", "b")), {"k": "b"}, True),
        (Requirement("k", "In", ("a", "b")), {}, False),
        (Requirement("k", "NotIn", ("a",)), {"k": "a"}, False),
        (Requirement("k", "NotIn", ("a",)), {}, True),
        (Requirement("k", "Exists"), {"k": ""}, True),
        (Requirement("k", "Exists"), {}, False),
        (Requirement("k", "DoesNotExist"), {}, True),
        (Requirement("k", "DoesNotExist"), {"k": "x"}, False),
    ],
)
def test_requirements_follow_kubernetes(requirement: Requirement, labels: dict[str, str], matches: bool) -> None:
    target = Target("drone", LabelSelector(match_expressions=(requirement,)))
    assert selects(application(targets=(target,)), device(labels=labels)) is matches


def test_targets_are_a_union_within_type_and_namespace() -> None:
    wanted = application(targets=(Target("drone", LabelSelector({"a": "1"})), Target("robot")))
    assert selects(wanted, device(labels={"a": "1", "b": "2"}))
    assert selects(wanted, device(device_type="robot"))
    assert not selects(wanted, device(labels={"a": "2"}))
    assert not selects(wanted, device(labels={"a": "1"}, namespace="other"))
    leaving = device(labels={"a": "1"})
    leaving = dataclasses.replace(leaving, metadata=dataclasses.replace(leaving.metadata, deletion_timestamp="now"))
    assert not selects(wanted, leaving)


def test_gateway_is_the_named_one_else_that_of_the_endpoint() -> None:
    names, endpoints = {"gw1", "gw2"}, {"host:1": {"gw2", "gw1"}}
    assert gateway_of(device(gateway_name="gw2", gateway_endpoint="host:1"), names, endpoints) == "gw2"
    assert gateway_of(device(gateway_endpoint="host:1"), names, endpoints) == "gw1"
    assert gateway_of(device(gateway_name="gw3", gateway_endpoint="host:1"), names, endpoints) == NO_GATEWAY
    assert gateway_of(device(gateway_endpoint="host:2"), names, endpoints) == NO_GATEWAY
    assert gateway_of(device(), names, endpoints) == NO_GATEWAY


KEYS = st.sets(st.integers(0, 40).map(lambda number: ("ns", f"d{number:02}")))


@given(st.lists(KEYS, max_size=8), st.integers(1, 7))
def test_devices_never_change_chunk_because_of_others(steps: list[set[tuple[str, str]]], limit: int) -> None:
    chunks: dict[int, list[tuple[str, str]]] = {}
    for wanted in steps:
        before = {key: number for number, keys in chunks.items() for key in keys}
        chunks = assign(wanted, chunks, limit)
        after = {key: number for number, keys in chunks.items() for key in keys}
        assert set(after) == wanted
        assert all(after[key] == before[key] for key in wanted & set(before))
        assert all(0 < len(keys) <= limit for keys in chunks.values())
        assert sum(map(len, chunks.values())) == len(wanted)


def test_gaps_are_filled_before_a_chunk_is_added() -> None:
    chunks = assign([("n", "a"), ("n", "c"), ("n", "d")], {0: [("n", "a"), ("n", "b")], 1: [("n", "c")]}, 2)
    assert chunks == {0: [("n", "a"), ("n", "d")], 1: [("n", "c")]}


def test_chunk_number_of_a_name() -> None:
    names = ["a-b-12", "a-b-0", "a-b-x", "a-b-٣", "a-b-012", "a-b-", "b-1"]
    items = [DeviceSlice(Metadata(name), "g") for name in names]
    numbered, others = by_number(items, "a-b-")
    assert numbered == {12: items[0], 0: items[1]}
    assert others == items[2:]


def test_placement_names_are_short_and_differ() -> None:
    def prefix(namespace: str, name: str, uid: str = "u") -> str:
        return placement_prefix(Metadata(name=name, namespace=namespace, uid=uid))

    assert len(prefix("n" * 63, "a" * 63) + "9999") <= 63
    assert prefix("a-b", "c") != prefix("a", "b-c")
    assert prefix("a", "b", "1") != prefix("a", "b", "2")
    assert prefix("n", "A.B".lower()).startswith("n-a-b-")


@pytest.mark.parametrize(
    ("changes", "memory", "stack", "cpu"),
    [
        ({}, 64 << 20, 8 << 20, 60_000),
        ({"memory_limit": 16 << 20}, 16 << 20, 8 << 20, 60_000),
        ({"memory_limit": 16 << 20, "max_memory": 8 << 20}, 8 << 20, 8 << 20, 60_000),
        ({"max_memory": 128 << 20, "max_stack": 4096, "max_cpu_millis_per_call": 5}, 128 << 20, 4096, 5),
    ],
)
def test_limits_are_the_smallest_that_are_named(changes: dict[str, Any], memory: int, stack: int, cpu: int) -> None:
    assert dataclasses.astuple(limits_of(application(**changes))) == (memory, stack, cpu)


@pytest.mark.parametrize(
    ("spec", "cpu_millis", "isolation"),
    [
        ({}, None, "shared"),
        ({"resources": {"limits": {"cpu": "100m"}}}, 100, "shared"),
        ({"resources": {"limits": {"cpu": 2}}, "runtime": {"isolation": "dedicated"}}, 2000, "dedicated"),
    ],
)
def test_cpu_share_and_isolation_reach_the_placement(
    spec: dict[str, Any], cpu_millis: int | None, isolation: str
) -> None:
    read = WasmApplication.from_dict(
        {
            "kind": "WasmApplication",
            "metadata": {"name": "app", "namespace": "ns", "uid": "uid-app", "generation": 1},
            "spec": {"wasmImage": IMAGE.reference, "targetDevices": [{"deviceType": "drone"}], **spec},
        }
    )
    (placement,) = plan_placements(read, "gw1", [device()], [], IMAGE).apply
    assert (placement.cpu_millis, placement.isolation) == (cpu_millis, isolation)
    again = Placement.from_dict(placement.to_dict())
    assert (again.cpu_millis, again.isolation) == (cpu_millis, isolation)


def test_grants_follow_communication_and_the_union_of_capabilities() -> None:
    from wasmbed.api import Px4, Ros2  # noqa: PLC0415 - only here

    devices = [device("a", capabilities=frozenset({"px4"})), device("b", capabilities=frozenset({"sensor-wind"}))]
    assert grants_of(application(), [device()]) == ("wasmbed:secure", "wasmbed:sys")
    assert grants_of(application(px4=Px4(enabled=True)), [device()]) == ("wasmbed:secure", "wasmbed:sys")
    assert grants_of(application(px4=Px4(enabled=True), ros2=Ros2(enabled=True)), devices) == (
        "wasmbed:px4",
        "wasmbed:ros2",
        "wasmbed:secure",
        "wasmbed:sensor",
        "wasmbed:sys",
    )


def test_routes_reach_the_placement_only_where_ros2_is_enabled() -> None:
    routes = {"topics": [{"topic": "/imu", "type": "sensor_msgs/Imu", "direction": "subscribe"}]}
    section = {"domainId": 3, "topics": routes["topics"], "services": []}
    read = WasmApplication.from_dict(
        {
            "kind": "WasmApplication",
            "metadata": {"name": "app", "namespace": "ns", "uid": "uid-app", "generation": 1},
            "spec": {
                "wasmImage": IMAGE.reference,
                "targetDevices": [{"deviceType": "drone"}],
                "communication": {"ros2": section | {"enabled": True}},
            },
        }
    )
    (placement,) = plan_placements(read, "gw1", [device()], [], IMAGE).apply
    assert placement.ros2 == placement.spec_to_dict()["ros2"] == routes | {"domainId": 3}
    disabled = dataclasses.replace(read, ros2=dataclasses.replace(read.ros2, enabled=False))
    (placement,) = plan_placements(disabled, "gw1", [device()], [], IMAGE).apply
    assert "ros2" not in placement.spec_to_dict()


def test_nothing_is_written_when_nothing_changed() -> None:
    devices = [device(f"d{number}") for number in range(3)]
    first = plan_placements(application(), "gw1", devices, [], IMAGE)
    assert len(first.apply) == 1
    assert plan_placements(application(), "gw1", reversed(devices), first.apply, IMAGE).apply == ()
    slices = plan_slices("gw1", devices, [])
    assert plan_slices("gw1", reversed(devices), slices.apply) == type(slices)()


def test_placement_of_another_form_or_without_devices_is_deleted() -> None:
    plan = plan_placements(application(), "gw1", [device()], [], IMAGE)
    (placement,) = plan.apply
    foreign = dataclasses.replace(placement, metadata=dataclasses.replace(placement.metadata, name="x-7"))
    assert plan_placements(application(), "gw1", [], [placement, foreign], IMAGE).delete == (placement, foreign)


def test_while_the_image_is_unknown_devices_only_go() -> None:
    devices = [device("a"), device("b")]
    (placement,) = plan_placements(application(), "gw1", devices, [], IMAGE).apply
    plan = shrink_placements([placement], {("ns", "a"), ("ns", "c")})
    assert [entry.name for entry in plan.apply[0].devices] == ["a"]
    assert plan.apply[0].digest == placement.digest
    assert shrink_placements([placement], set()).delete == (placement,)


def test_digest_reference_loses_its_digest_in_the_placement() -> None:
    image = Image(f"registry.example/a@{IMAGE.digest}", IMAGE.digest)
    (placement,) = plan_placements(application(), "gw1", [device()], [], image).apply
    assert placement.image == "registry.example/a"
