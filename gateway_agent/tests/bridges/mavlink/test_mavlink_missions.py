"""Missions, fences and rally points: whole or refused, on any network and over reboots."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import BAD, CLEAN, IDS, Network, World
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.mission_items import (
    Frame,
    PlanItem,
    PlanOutcome,
    PlanType,
    parse_waypoints,
    same_plan,
    write_waypoints,
)
from wasmbed.bridges.mavlink.missions import ClearPlan, DownloadPlan, MissionProgress, UploadPlan

TAKEOFF, WAYPOINT, RETURN, FENCE_VERTEX, RALLY = 22, 16, 20, 5001, 5100


def plan_of(count: int, seed: int = 0) -> list[PlanItem]:
    return [
        PlanItem.position(
            WAYPOINT, 47.0 + (number + seed) / 1e4, 8.0 - number / 1e4, 10.0 + number, param1=number * 0.1
        )
        for number in range(count)
    ]


def on_vehicle(world: World, plan: PlanType = PlanType.MISSION) -> list[PlanItem]:
    names = ("command", "frame", "param1", "param2", "param3", "param4", "x", "y", "z")
    return [PlanItem(**{name: item[name] for name in names}) for item in world.vehicle.plans[plan].items]


@pytest.mark.parametrize("plan", [PlanType.MISSION, PlanType.FENCE, PlanType.RALLY])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_a_plan_goes_up_and_comes_back(plan: PlanType, count: int) -> None:
    world = World(CLEAN)
    items = plan_of(count)
    result = world.drive(UploadPlan(IDS, items, plan))
    assert result.ok, result
    assert same_plan(on_vehicle(world, plan), items) is None
    found = world.drive(DownloadPlan(IDS, plan))
    assert found.ok
    assert same_plan(found.items, items) is None
    others = [server for kind, server in world.vehicle.plans.items() if kind != plan]
    assert not any(server.items for server in others)
    assert world.drive(ClearPlan(IDS, plan)).ok
    assert on_vehicle(world, plan) == []


def test_a_vehicle_that_asks_with_the_old_message_gets_int_items() -> None:
    operation = UploadPlan(IDS, plan_of(1), verify=False)
    operation.start(0.0)
    operation.take()
    operation.receive(full(Message("MISSION_REQUEST", {"seq": 0, "target_system": 245}, 1, 1)), 0.1)
    assert [item.name for item in operation.take()] == ["MISSION_ITEM_INT"]


@given(st.integers(0, 2**32), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_an_upload_on_a_bad_network_is_whole_or_refused(seed: int, count: int) -> None:
    """Loss 30 %, duplication 20 %, reordering: the vehicle has the old plan or the new one, and success means new."""
    world = World(BAD, seed)
    old, new = plan_of(5, seed=500), plan_of(count)
    world.vehicle.plans[0].items = [item.values(n, PlanType.MISSION, False) for n, item in enumerate(old)]
    result = world.drive(UploadPlan(IDS, new))
    world.run(5.0)
    there = on_vehicle(world)
    assert same_plan(there, new) is None or same_plan(there, old) is None
    if result.ok:
        assert same_plan(there, new) is None
        assert same_plan(result.items, new) is None


def test_uploads_on_a_bad_network_succeed_often() -> None:
    succeeded = sum(World(BAD, seed).drive(UploadPlan(IDS, plan_of(8))).ok for seed in range(100))
    assert succeeded >= 75


@given(st.integers(0, 2**32), st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_a_download_on_a_bad_network_is_right_or_refused(seed: int, count: int) -> None:
    world = World(BAD, seed)
    items = plan_of(count)
    world.vehicle.plans[0].items = [item.values(n, PlanType.MISSION, False) for n, item in enumerate(items)]
    found = world.drive(DownloadPlan(IDS))
    if found.ok:
        assert same_plan(found.items, items) is None
    else:
        assert found.outcome is not PlanOutcome.DONE
        assert found.reason


@given(st.integers(0, 2**32), st.floats(0.01, 1.0))
@settings(max_examples=100, deadline=None)
def test_a_reboot_in_the_middle_of_an_upload_leaves_a_whole_plan(seed: int, after: float) -> None:
    world = World(Network(delay_s=0.03), seed)
    old, new = plan_of(3, seed=500), plan_of(12)
    world.vehicle.plans[0].items = [item.values(n, PlanType.MISSION, False) for n, item in enumerate(old)]
    world._at(world.now + after, lambda: world.vehicle.power_on(world.now))
    result = world.drive(UploadPlan(IDS, new))
    there = on_vehicle(world)
    assert same_plan(there, new if result.ok else there) is None
    assert same_plan(there, new) is None or same_plan(there, old) is None


def test_an_acknowledgement_of_an_earlier_transfer_is_no_success() -> None:
    operation = UploadPlan(IDS, plan_of(2), verify=False)
    operation.start(0.0)
    accepted = full(Message("MISSION_ACK", {"type": 0, "target_system": 245, "target_component": 191}, 1, 1))
    operation.receive(accepted, 0.1)
    assert operation.result is None


@pytest.mark.parametrize(("number", "reason"), [(4, "no_space"), (14, "denied"), (10, "invalid_param5_x")])
def test_a_refusal_is_told_with_its_reason(number: int, reason: str) -> None:
    operation = UploadPlan(IDS, plan_of(2))
    operation.start(0.0)
    operation.receive(full(Message("MISSION_ACK", {"type": number, "target_system": 245}, 1, 1)), 0.1)
    assert operation.result is not None
    assert (operation.result.outcome, operation.result.reason) == (PlanOutcome.REFUSED, reason)


@pytest.mark.parametrize(
    "fields",
    [{"mission_type": 1}, {"target_system": 9}, {"target_component": 7}],
)
def test_messages_of_other_transfers_are_ignored(fields: dict[str, Any]) -> None:
    operation = UploadPlan(IDS, plan_of(2))
    operation.start(0.0)
    base = {"type": 4, "target_system": 245, "target_component": 191}
    operation.receive(full(Message("MISSION_ACK", {**base, **fields}, 1, 1)), 0.1)
    operation.receive(full(Message("MISSION_ACK", base, 2, 1)), 0.1)
    assert operation.result is None


def test_a_plan_that_changes_while_it_is_read_is_told() -> None:
    operation = DownloadPlan(IDS)
    operation.start(0.0)
    for count in (3, 4):
        operation.receive(full(Message("MISSION_COUNT", {"count": count, "target_system": 245}, 1, 1)), 0.1)
    assert operation.result is not None
    assert operation.result.outcome is PlanOutcome.CHANGED


def test_a_vehicle_that_changes_an_item_is_noticed() -> None:
    world = World(CLEAN)
    server = world.vehicle.plans[0]
    store = server._store

    def changed() -> Any:
        out = store()
        server.items[1] = {**server.items[1], "z": 99.0}
        return out

    server._store = changed  # type: ignore[method-assign]
    result = world.drive(UploadPlan(IDS, plan_of(3)))
    assert result.outcome is PlanOutcome.DIFFERENT
    assert "item 1" in result.reason


def test_cancelling_tells_the_vehicle() -> None:
    world = World(CLEAN)
    operation = UploadPlan(IDS, plan_of(3))
    operation.start(world.now)
    for item in operation.take():
        world.send(item)
    world.run(0.03)
    assert world.vehicle.plans[0].count == 3
    operation.cancel(world.now)
    for item in operation.take():
        world.send(item)
    world.run(0.1)
    assert world.vehicle.plans[0].count is None
    assert operation.result is not None
    assert operation.result.outcome is PlanOutcome.CANCELLED


def test_the_published_times_and_retries_are_kept() -> None:
    world = World(Network(loss=1.0))
    result = world.drive(UploadPlan(IDS, plan_of(2)))
    assert result.outcome is PlanOutcome.NO_ANSWER
    times = [at - world.sent[0][0] for at, item in world.sent if item.name == "MISSION_COUNT"]
    assert times == pytest.approx([0.0, 1.5, 3.0, 4.5, 6.0, 7.5])


def test_progress_follows_the_vehicle() -> None:
    progress = MissionProgress()
    for name, values in (
        ("MISSION_CURRENT", {"seq": 1, "total": 3}),
        ("MISSION_ITEM_REACHED", {"seq": 0}),
        ("MISSION_ITEM_REACHED", {"seq": 0}),
        ("MISSION_CURRENT", {"seq": 2, "total": 0xFFFF}),
    ):
        progress.receive(full(Message(name, values, 1, 1)))
    assert (progress.current, progress.total, progress.reached) == (2, 3, {0})


def test_places_are_checked_and_kept_to_a_centimetre() -> None:
    item = PlanItem.position(WAYPOINT, 47.397742, 8.545594, 12.5)
    assert item.place == pytest.approx((47.397742, 8.545594), abs=1e-7)
    local = PlanItem.position(WAYPOINT, 12.5, -3.25, -10.0, frame=Frame.LOCAL_NED)
    assert (local.x, local.y) == (125_000, -32_500)
    with pytest.raises(ValueError, match="not a place"):
        PlanItem.position(WAYPOINT, 147.0, 8.0, 10.0)
    with pytest.raises(ValueError, match="not a place"):
        PlanItem.position(WAYPOINT, math.nan, 8.0, 10.0)


@given(st.integers(0, 40), st.integers(0, 1000))
@settings(deadline=None)
def test_a_waypoint_file_that_is_written_and_read_has_the_same_items(count: int, seed: int) -> None:
    items = plan_of(count, seed)
    assert same_plan(parse_waypoints(write_waypoints(items)), items) is None


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text_is_a_waypoint_file_or_is_refused(text: str) -> None:
    for candidate in (text, "QGC WPL 110\n" + text):
        try:
            parse_waypoints(candidate)
        except ValueError:
            continue


def test_too_many_items_are_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        UploadPlan(IDS, plan_of(1) * 65_001)


@pytest.mark.parametrize("values", [{"command": 70_000}, {"command": 16, "frame": 300}, {"command": 16, "z": 1e39}])
def test_an_item_that_cannot_be_sent_is_refused_when_it_is_made(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no plan item|too large"):
        PlanItem(**values)
