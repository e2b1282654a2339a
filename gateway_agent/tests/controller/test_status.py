"""Statuses and liveness: pure functions, no cluster."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from wasmbed.api import (
    ApplicationDevice,
    ApplicationStatus,
    DeviceStatus,
    EdgeDevice,
    InstanceStatus,
    Link,
    Metadata,
    PlacementStatus,
    Target,
    Vehicle,
    WasmApplication,
    default_class,
)
from wasmbed.controller.applications import Resolution, Summary, application_status, summarize
from wasmbed.controller.devices import device_status
from wasmbed.controller.liveness import LeaseTracker, Liveness
from wasmbed.controller.placements import Image, plan_placements

NOW = "2026-01-01T00:00:00Z"
IMAGE = Image("registry.example/a:v1", "sha256:" + "0" * 64)
APPLICATION = WasmApplication(
    metadata=Metadata(name="app", namespace="ns", uid="u", generation=3),
    wasm_image=IMAGE.reference,
    targets=(Target("drone"),),
)


def device(name: str = "d", **changes: Any) -> EdgeDevice:
    return EdgeDevice(
        metadata=Metadata(name=name, namespace="ns", uid=f"u-{name}", generation=2), device_type="drone", **changes
    )


ENROLLED = device(cpu="arm64", public_key="k")


def summary(failed: int = 0, running: int = 0, pending: int = 0, reason: str = "DeviceError") -> Summary:
    failing = tuple(ApplicationDevice(f"f{n:03}", "Failed", "gw", reason, "boom") for n in range(failed))
    return Summary(failed + running + pending, running, failed, failing)


@pytest.mark.parametrize(
    ("summaries", "error", "phase", "reason"),
    [
        ([], "", "Pending", "NoMatchingDevice"),
        ([], "no such image", "Pending", "NoMatchingDevice"),
        ([summary(pending=1)], "no such image", "Failed", "ImagePullFailed"),
        ([summary(pending=2)], "", "Deploying", ""),
        ([summary(running=1, pending=1)], "", "Deploying", ""),
        ([summary(failed=1, pending=1)], "", "Deploying", ""),
        ([summary(running=2), summary(running=1)], "", "Running", ""),
        ([summary(running=1), summary(failed=1)], "", "Degraded", "DeviceError"),
        ([summary(failed=2, reason="InvalidModule")], "", "Failed", "InvalidModule"),
        ([summary(failed=1, reason="GatewayUnreachable"), summary(running=1)], "", "Degraded", "GatewayUnreachable"),
    ],
)
def test_phase_of_an_application(summaries: list[Summary], error: str, phase: str, reason: str) -> None:
    status = application_status(APPLICATION, Resolution(IMAGE, error), summaries, now=NOW)
    assert (status.phase, status.reason) == (phase, reason)
    assert status.observed_generation == 3
    assert [condition.type for condition in status.conditions] == ["ImageResolved", "Ready"]
    assert (status.conditions[1].status == "True") is (phase == "Running")
    assert all(condition.reason for condition in status.conditions)


def test_status_that_is_written_reads_back_equal() -> None:
    status = application_status(APPLICATION, Resolution(IMAGE), [summary(1, 1, 1)], now=NOW)
    document = {
        "metadata": {"name": "app", "namespace": "ns"},
        "spec": {"wasmImage": "r/a:v", "targetDevices": []},
        "status": status.to_dict(),
    }
    assert WasmApplication.from_dict(document).status == status
    later = application_status(
        dataclasses.replace(APPLICATION, status=status),
        Resolution(IMAGE),
        [summary(1, 1, 1)],
        now="2027-01-01T00:00:00Z",
    )
    assert later == status


def test_failing_devices_come_first_and_fifty_are_shown() -> None:
    entries = tuple(ApplicationDevice(f"h{n:02}", "Running", "gw") for n in range(50))
    status = application_status(
        APPLICATION, Resolution(IMAGE), [Summary(100, 98, 0, healthy=entries), summary(failed=2)], now=NOW
    )
    assert len(status.devices) == 50
    assert [entry.name for entry in status.devices[:3]] == ["f000", "f001", "h00"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "Running"),
        ({"observed": 0}, "Pending"),
        ({"instance_digest": "sha256:" + "1" * 64}, "Pending"),
        ({"placed_generation": 2}, "Pending"),
        ({"liveness": Liveness.EXPIRED}, "Failed"),
        ({"liveness": Liveness.SUSPECT}, "Running"),
        ({"liveness": Liveness.SUSPECT, "reason_before": "GatewayUnreachable"}, "Failed"),
        ({"image": None}, "Pending"),
        ({"state": "Failed"}, "Failed"),
        ({"state": "Starting"}, "Starting"),
    ],
)
def test_running_counts_only_for_what_is_asked_for_now(change: dict[str, Any], expected: str) -> None:
    (placement,) = plan_placements(APPLICATION, "gw1", [device()], [], IMAGE).apply
    instance = InstanceStatus("d", "ns", change.get("state", "Running"), change.get("instance_digest", IMAGE.digest))
    placement = dataclasses.replace(
        placement,
        metadata=dataclasses.replace(placement.metadata, generation=1),
        application=dataclasses.replace(placement.application, generation=change.get("placed_generation", 3)),
        status=PlacementStatus(change.get("observed", 1), (instance,)),
    )
    application = dataclasses.replace(APPLICATION, status=ApplicationStatus(reason=change.get("reason_before", "")))
    found = summarize(
        application,
        "gw1",
        [device()],
        [placement],
        change.get("image", IMAGE),
        change.get("liveness", Liveness.FRESH),
    )
    (entry,) = (*found.failing, *found.waiting, *found.healthy)
    assert entry.state == expected


@pytest.mark.parametrize(
    ("cpu", "key", "expected"),
    [
        ("cortex-m4", "", "mcu"),
        ("ARMv7M", "", "mcu"),
        ("riscv32", "", "riscv"),
        ("rv32imac", "", "riscv"),
        ("FE310", "", "riscv"),
        ("arm64", "", "gateway"),
        ("arm64", "k", "mpu"),
        ("", "", "gateway"),
    ],
)
def test_class_of_a_device_that_declares_none(cpu: str, key: str, expected: str) -> None:
    assert default_class(cpu, has_key=bool(key)) == expected


@pytest.mark.parametrize(
    ("found", "gateway", "liveness", "link", "phase", "reason"),
    [
        (device(), "", Liveness.FRESH, None, "Pending", "NoGateway"),
        (device(), "gw1", Liveness.FRESH, None, "Pending", "NotReported"),
        (device(), "gw1", Liveness.FRESH, "Connected", "Connected", ""),
        (device(), "gw1", Liveness.FRESH, "Disconnected", "Disconnected", "Disconnected"),
        (device(), "gw1", Liveness.EXPIRED, "Connected", "Unreachable", "GatewayUnreachable"),
        (device(), "gw1", Liveness.SUSPECT, "Connected", "Pending", "NotReported"),
        (device(cpu="cortex-m4"), "gw1", Liveness.FRESH, None, "Pending", "NotEnrolled"),
        (device(cpu="cortex-m4"), "gw1", Liveness.EXPIRED, None, "Pending", "NotEnrolled"),
        (ENROLLED, "gw1", Liveness.SUSPECT, None, "Pending", "NotReported"),
        (ENROLLED, "gw1", Liveness.FRESH, None, "Enrolled", ""),
        (ENROLLED, "gw1", Liveness.FRESH, "Connected", "Connected", ""),
        (ENROLLED, "gw1", Liveness.FRESH, "Disconnected", "Disconnected", "Disconnected"),
        (ENROLLED, "gw1", Liveness.EXPIRED, "Connected", "Unreachable", "GatewayUnreachable"),
        (ENROLLED, "", Liveness.FRESH, "Connected", "Pending", "NoGateway"),
    ],
)
def test_phase_of_a_device(
    found: EdgeDevice, gateway: str, liveness: Liveness, link: str | None, phase: str, reason: str
) -> None:
    told = None if link is None else Link("d", "ns", link, "2026-01-01T00:00:01Z")
    status = device_status(found, gateway, liveness, told, now=NOW)
    assert (status.phase, status.reason, status.gateway) == (phase, reason, gateway)
    assert status.observed_generation == 2
    assert (status.conditions[0].status == "True") is (phase == "Connected")
    assert ("since 2026-01-01T00:00:01Z" in status.message) is (phase == "Disconnected")


def test_device_keeps_its_phase_while_its_gateway_is_suspect() -> None:
    before = DeviceStatus(phase="Connected", gateway="gw1")
    status = device_status(device(status=before), "gw1", Liveness.SUSPECT, None, now=NOW)
    assert status.phase == "Connected"
    moved = device_status(device(status=before), "gw2", Liveness.SUSPECT, None, now=NOW)
    assert moved.phase == "Pending"


def test_device_that_is_suspended_says_so_and_shows_its_vehicle() -> None:
    vehicle = Vehicle(True, True, "offboard", 80, "3D")
    up = Link("d", "ns", "Connected")
    status = device_status(device(suspend=True), "gw1", Liveness.FRESH, up, now=NOW, vehicle=vehicle)
    assert (status.phase, status.reason, status.vehicle) == ("Connected", "Suspended", vehicle)
    away = device_status(device(status=status), "gw1", Liveness.EXPIRED, up, now=NOW, vehicle=vehicle)
    assert away.vehicle == dataclasses.replace(vehicle, mode="lost"), "nobody hears it"


def test_a_device_that_holds_a_roll_out_up_is_named() -> None:
    flying = ApplicationDevice("alpha", "Pending", "gw1", "InFlight", "waiting: default/alpha is in the air")
    status = application_status(APPLICATION, Resolution(IMAGE), [Summary(selected=1, waiting=(flying,))], now=NOW)
    assert (status.phase, status.reason) == ("Deploying", "InFlight")
    assert status.message == "runs on 0 of 1 device; alpha: waiting: default/alpha is in the air"


def lease(age_s: float = 0, *, holder: str = "gw1", duration: int = 40) -> dict[str, Any]:
    moment = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=age_s)
    return {"spec": {"holderIdentity": holder, "renewTime": moment.isoformat(), "leaseDurationSeconds": duration}}


WALL = datetime(2026, 1, 1, tzinfo=UTC)


def test_lease_expires_by_renewals_that_were_not_seen() -> None:
    tracker = LeaseTracker()
    assert tracker.observe("gw1", lease(), 100, wall=WALL)
    assert tracker.state("gw1") is Liveness.FRESH
    assert tracker.deadline("gw1", live_since=0) == 140
    assert not tracker.observe("gw1", lease(-10), 110, wall=WALL)
    assert tracker.deadline("gw1", live_since=0) == 150
    assert tracker.expire("gw1")
    assert tracker.deadline("gw1", live_since=0) is None
    assert not tracker.observe("gw1", lease(-10), 200, wall=WALL)
    assert tracker.observe("gw1", lease(-20), 210, wall=WALL)
    assert tracker.state("gw1") is Liveness.FRESH


def test_outage_of_the_watch_gives_one_lease_time_of_grace() -> None:
    tracker = LeaseTracker()
    tracker.observe("gw1", lease(), 100, wall=WALL)
    assert tracker.deadline("gw1", live_since=None) is None
    assert tracker.deadline("gw1", live_since=1000) == 1040


def test_old_or_missing_lease_is_suspect_at_first() -> None:
    tracker = LeaseTracker()
    tracker.observe("old", lease(3600), 0, wall=WALL)
    tracker.observe("none", None, 0, wall=WALL)
    for name in ("old", "none"):
        assert tracker.state(name) is Liveness.SUSPECT
        assert tracker.deadline(name, live_since=0) == 40
    assert tracker.observe("none", lease(3600), 1, wall=WALL)
    assert tracker.state("none") is Liveness.FRESH


def test_clock_of_the_gateway_does_not_matter_once_it_renews() -> None:
    tracker = LeaseTracker()
    tracker.observe("gw1", lease(86400), 0, wall=WALL)
    tracker.observe("gw1", lease(86390), 10, wall=WALL)
    assert tracker.state("gw1") is Liveness.FRESH
    assert tracker.deadline("gw1", live_since=0) == 50
