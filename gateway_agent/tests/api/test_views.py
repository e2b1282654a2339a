"""Typed views: what is written reads back, what cannot be read is named, quantities, conditions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.api import (
    MESSAGE_BYTES,
    ApiObjectError,
    ApplicationRef,
    Condition,
    DeviceSlice,
    EdgeDevice,
    EnrolmentRequest,
    Gateway,
    GatewayStatus,
    Incident,
    InstanceStatus,
    Link,
    Metadata,
    Placement,
    PlacementDevice,
    PlacementLimits,
    PlacementPx4,
    PlacementStatus,
    SliceDevice,
    Vehicle,
    WasmApplication,
    gateway_namespace,
    gateway_of_namespace,
    parse_quantity,
    quantity_bytes,
    settle_condition,
    shorten,
)

METADATA = Metadata(name="p", namespace="wasmbed-gw-gw1", labels={"a": "b"})


def placement(status: PlacementStatus = PlacementStatus()) -> Placement:  # noqa: B008 - frozen
    return Placement(
        metadata=METADATA,
        gateway="gw1",
        application=ApplicationRef("ns", "app", "u", 3),
        image="r.example/a:v1",
        digest="sha256:" + "0" * 64,
        devices=(PlacementDevice("d", "ns", "u", "gateway", ("px4",)),),
        limits=PlacementLimits(65536, 1024, 5),
        grants=("wasmbed:sys",),
        allow_in_flight=True,
        px4=PlacementPx4(("command",), 3, None),
        env={"A": "1"},
        status=status,
    )


def test_placement_reads_back_as_written() -> None:
    condition = Condition("Ready", "True", "Running", "", 1, "2026-01-01T00:00:00Z")
    instance = InstanceStatus("d", "ns", "Failed", "sha256:1", "DeviceError", "trap", 2, "2026-01-01T00:00:00Z")
    written = placement(PlacementStatus(4, (instance,), (condition,)))
    assert Placement.from_dict(written.to_dict() | {"status": written.status.to_dict()}) == written


def test_message_of_an_instance_is_cut_to_its_limit() -> None:
    written = InstanceStatus("d", "ns", "Failed", message="é" * 300).to_dict()["message"]
    assert len(written.encode()) <= MESSAGE_BYTES
    assert written.endswith("…")


@given(st.text(max_size=400), st.integers(3, 300))
def test_shortened_text_fits_and_is_valid(text: str, limit: int) -> None:
    cut = shorten(text, limit)
    assert len(cut.encode()) <= limit


def test_slice_reads_back_as_written() -> None:
    written = DeviceSlice(
        metadata=Metadata(name="devices-0", namespace="wasmbed-gw-gw1"),
        gateway="gw1",
        devices=(
            SliceDevice("d", "ns", "u", "mpu", "key", revoked=True),
            SliceDevice("e", "ns", "u", "gateway", suspended=True, system_id=7),
        ),
        observed_generation=2,
        links=(
            Link("d", "ns", "Connected", "2026-01-01T00:00:00Z"),
            Link(
                *("e", "ns", "Connected", "", Vehicle(True, False, "hold", 85, "3D")),
                incidents=(Incident("2026-01-01T00:00:00Z", "OwnerLost", "it trapped", "ns/app"),),
            ),
        ),
    )
    assert DeviceSlice.from_dict(written.to_dict() | {"status": written.status_to_dict()}) == written


def test_gateway_and_enrolment_read_back_as_written() -> None:
    status = GatewayStatus(1, "0.1.0", "50.0", 3, (Condition("Ready", "False", "NoRuntime"),))
    document = {"metadata": {"name": "gw1"}, "spec": {"endpoint": "h:1"}, "status": status.to_dict()}
    gateway = Gateway.from_dict(document)
    assert gateway.status == status
    assert (gateway.max_artifact_bytes, gateway.max_modules) == (8388608, 64)
    request = EnrolmentRequest(Metadata(name="r", namespace="n"), "d", "key", "drone", "mcu", "proof")
    assert EnrolmentRequest.from_dict(request.to_dict()) == request


def test_application_is_read_with_its_limits_and_unknown_fields_ignored() -> None:
    document = {
        "kind": "WasmApplication",
        "metadata": {"name": "a", "namespace": "n", "generation": 2, "unknown": 1},
        "spec": {
            "wasmImage": "r.example/a:v1",
            "targetDevices": [
                {
                    "deviceType": "drone",
                    "selector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]},
                }
            ],
            "resources": {"limits": {"memory": "16Mi", "cpu": "100m"}},
            "runtime": {"config": {"maxMemory": 65536}},
            "communication": {"ros2": {"enabled": True, "domainId": 0}, "px4": {"enabled": True, "systemId": 7}},
            "allowInFlight": True,
            "env": [{"name": "A", "value": ""}],
            "rollout": {"later": True},
        },
    }
    application = WasmApplication.from_dict(document)
    assert (application.memory_limit, application.max_memory) == (16 << 20, 65536)
    assert application.ros2.domain_id == 0
    assert application.ros2.routes == {}
    assert application.px4.system_id == 7
    assert application.px4.rights == ("command", "offboard", "mission")
    assert application.allow_in_flight
    assert application.env == {"A": ""}
    assert application.targets[0].selector.matches({"k": "v"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spec": {}}, "EdgeDevice n/d: spec.deviceType is missing"),
        ({"spec": {"deviceType": 5}}, "EdgeDevice n/d: spec.deviceType must be a string, not int"),
        ({"spec": []}, "EdgeDevice n/d: spec must be a mapping, not list"),
        ({"spec": {"deviceType": "t", "capabilities": ["a", 1]}}, "spec.capabilities must hold strings, not int"),
        ({"spec": {"deviceType": "t", "px4": {"systemId": True}}}, "spec.px4.systemId must be an integer, not bool"),
        ({"spec": {"deviceType": "t", "deviceClass": "cpu"}}, "spec.deviceClass must be one of mpu, mcu"),
        ({"spec": {"deviceType": "t", "location": {"coordinates": ["N"]}}}, "must hold numbers, not str"),
        ({"status": {"conditions": [{"type": "Ready", "status": "yes"}]}}, "status must be True, False or Unknown"),
        ({"metadata": {"name": "d", "namespace": "n", "labels": {"a": 1}}}, "metadata.labels.a must be a string"),
        ({"metadata": None}, "metadata is missing"),
        ({"kind": "Pod"}, "expected EdgeDevice, got Pod"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], says: str) -> None:
    document = {"metadata": {"name": "d", "namespace": "n"}, "spec": {"deviceType": "t"}} | change
    with pytest.raises(ApiObjectError, match=says.replace(".", r"\.")):
        EdgeDevice.from_dict(document)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64Mi", "67108864"),
        ("1.5Gi", "1610612736"),
        ("100m", "0.1"),
        ("1e3", "1000"),
        ("2E", "2000000000000000000"),
        ("12E2", "1200"),
        ("512", "512"),
        ("10k", "10000"),
        ("-1", "-1"),
        (".5", "0.5"),
    ],
)
def test_quantities(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Mi", "1 Mi", "1KiB", "1e", "0x10", "٣", "1" * 65])
def test_what_is_not_a_quantity(text: str) -> None:
    with pytest.raises(ApiObjectError, match="is not a quantity"):
        parse_quantity(text)


def test_bytes_are_rounded_up() -> None:
    assert quantity_bytes("1500m") == 2


def test_transition_time_stays_while_the_status_is_the_same() -> None:
    old = Condition("Ready", "True", "Running", "a", 1, "2026-01-01T00:00:00Z")
    same = settle_condition([old], Condition("Ready", "True", "Running", "b", 2), now="2027-01-01T00:00:00Z")
    assert (same.message, same.last_transition_time) == ("b", old.last_transition_time)
    turned = settle_condition([old], Condition("Ready", "False", "Failed"), now="2027-01-01T00:00:00Z")
    assert turned.last_transition_time == "2027-01-01T00:00:00Z"


def test_namespace_of_a_gateway_and_back() -> None:
    assert gateway_of_namespace(gateway_namespace("gw1")) == "gw1"
    assert gateway_of_namespace("default") is None
    assert gateway_of_namespace("wasmbed-gw-") is None
