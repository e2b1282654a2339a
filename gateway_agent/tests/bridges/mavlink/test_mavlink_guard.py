"""What an application may do: grants, geofence, rates, and that all of it is logged with its name."""

import logging
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.bridges.mavlink import (
    AttitudeSetpoint,
    Cause,
    Command,
    Geofence,
    GlobalSetpoint,
    Grant,
    Guard,
    LocalSetpoint,
    PlanItem,
    Rates,
    VehicleState,
)
from wasmbed.bridges.mavlink.vehicle_state import Landed, Position

HOME = (47.397742, 8.545594)
PLACE = Position(*HOME, 498.0, 10.0)
FLYING = VehicleState(
    connected=True, armed=True, landed=Landed.IN_AIR, fix=3, position=PLACE, home=Position(*HOME, 488.0, 0.0)
)
ORIGIN = VehicleState(position=PLACE, origin=Position(*HOME, 488.0, 0.0))
CIRCLE = Geofence(centre=HOME, radius_m=200.0, max_height_m=50.0)
EVERYTHING = frozenset(Grant)
NAN = math.nan


def guard(*grants: Grant, fence: Geofence | None = None) -> Guard:
    return Guard("patrol", frozenset(grants), fence, Rates(1e9, 1e9, 1e9))


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (Command(400, (1.0,)), {Grant.COMMAND}),
        (Command(400, (0.0,)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(400, (1.0, 21196.0)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(185, (1.0,)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(246, (1.0,)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(180, (1.0,)), {Grant.COMMAND, Grant.DANGEROUS, Grant.PARAMETERS}),
        (Command(31010), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(512, (0.0,)), {Grant.TELEMETRY}),
        (Command(511, (33.0, 200_000.0)), {Grant.TELEMETRY}),
        (Command(511, (33.0, -1.0)), {Grant.TELEMETRY, Grant.DANGEROUS}),
        (Command(511, (33.0, 6e7)), {Grant.TELEMETRY, Grant.DANGEROUS}),
        (Command(511, (33.0, NAN)), {Grant.TELEMETRY, Grant.DANGEROUS}),
        (Command(176, (1.0, 4.0, 3.0)), {Grant.COMMAND}),
        (Command(176, (1.0, 10.0, 0.0)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(176, (1.0, 4.0, 99.0)), {Grant.COMMAND, Grant.DANGEROUS}),
        (Command(176, (4.0, 4.0, 3.0)), {Grant.COMMAND, Grant.DANGEROUS}),
    ],
)
def test_a_command_passes_with_its_grants_and_with_none_less(command: Command, needed: set[Grant]) -> None:
    assert guard(*needed).command(command, FLYING, 0.0) is None
    for grant in needed:
        reason = guard(*(needed - {grant})).command(command, FLYING, 0.0)
        assert reason is not None
        assert grant.value in reason
    assert guard().command(command, FLYING, 0.0) is not None


@pytest.mark.parametrize(
    ("number", "params"),
    [
        *((400, (arm,)) for arm in (0.3, -0.4, 0.7, 2.0, 256.0, -1.0, NAN, math.inf, -math.inf)),
        *((400, (arm, 21196.3)) for arm in (0.0, 0.3, 1.0)),
        *((400, (0.0, force)) for force in (21195.6, -21196.0, 0.1, NAN, math.inf)),
        *((176, (1.0, mode, 0.0)) for mode in (5.7, 6.4, 262.0, 266.0, -246.0, NAN, math.inf)),
        *((176, (base, 4.0, 3.0)) for base in (1.5, 257.0, -1.0, NAN)),
        (176, (1.0, 4.0, 3.5)),
    ],
)
@pytest.mark.parametrize("frame", [None, 0, 3])
def test_a_choice_that_the_vehicle_would_round_or_cut_is_refused_whatever_is_granted(
    number: int, params: tuple[float, ...], frame: int | None
) -> None:
    """PX4 disarms in flight for (0.3, 21196.3), and goes to mode 6 for 262."""
    reason = guard(*EVERYTHING).command(Command(number, params, frame), FLYING, 0.0)
    assert reason is not None
    assert reason.cause is Cause.INVALID


def test_a_choice_is_judged_as_the_32_bit_float_that_goes_out() -> None:
    assert guard(Grant.COMMAND).command(Command(400, (1e-60,)), FLYING, 0.0) is not None, "0.0 disarms"
    assert guard(Grant.COMMAND).command(Command(400, (1.0 + 1e-12, 1e-60)), FLYING, 0.0) is None


def test_disarming_a_vehicle_that_is_not_heard_is_dangerous() -> None:
    assert guard(Grant.COMMAND).command(Command(400, (0.0,)), VehicleState(), 0.0) is not None


@pytest.mark.parametrize(
    "item", [PlanItem(400, 2, param1=0.0, param2=21196.0), PlanItem(176, 2, 1.0, 10.0), PlanItem(37)]
)
def test_a_plan_arms_nothing_and_enters_no_mode(item: PlanItem) -> None:
    reason = guard(Grant.COMMAND, Grant.MISSION).plan([item], FLYING, 0.0)
    assert reason is not None
    assert reason.cause is Cause.GRANT


def test_ardupilots_modes_are_its_own() -> None:
    copter = replace(FLYING, autopilot=3, type=2)
    assert guard(Grant.COMMAND).command(Command(176, (1.0, 16.0)), copter, 0.0) is None
    assert guard(Grant.COMMAND).command(Command(176, (1.0, 10.0)), copter, 0.0) is not None


def test_disarming_on_the_ground_is_no_danger() -> None:
    ground = VehicleState(connected=True, armed=True, landed=Landed.ON_GROUND)
    assert guard(Grant.COMMAND).command(Command(400, (0.0,)), ground, 0.0) is None


def reposition(north_m: float, altitude: float, frame: int | None = 0) -> Command:
    return Command(192, (-1.0, 1.0, 0.0, NAN, HOME[0] + north_m / 111_194.9, HOME[1], altitude), frame)


@pytest.mark.parametrize(
    ("command", "passes"),
    [
        (reposition(100.0, 500.0), True),
        (reposition(100.0, 500.0, None), True),
        (reposition(300.0, 500.0), False),
        (reposition(100.0, 560.0), False),
        (reposition(100.0, 40.0, 3), True),
        (reposition(100.0, 60.0, 3), False),
        (Command(192, (-1.0, 1.0, 0.0, NAN, 200.0, 8.5, 500.0)), False),
        (Command(22, (0.0, 0.0, 0.0, NAN, NAN, NAN, 498.0)), True),
        (Command(22, (0.0, 0.0, 0.0, NAN, NAN, NAN, 600.0)), False),
    ],
)
def test_a_command_to_a_place_stays_inside_of_the_fence(command: Command, passes: bool) -> None:
    assert (guard(*EVERYTHING, fence=CIRCLE).command(command, FLYING, 0.0) is None) == passes


def test_without_a_home_no_height_above_the_sea_is_allowed() -> None:
    unknown = VehicleState(connected=True, armed=True, landed=Landed.IN_AIR)
    assert guard(*EVERYTHING, fence=CIRCLE).command(reposition(0.0, 500.0), unknown, 0.0) is not None


@pytest.mark.parametrize(
    ("setpoint", "passes"),
    [
        (GlobalSetpoint(*HOME, 20.0), True),
        (GlobalSetpoint(*HOME, 60.0), False),
        (GlobalSetpoint(HOME[0] + 1.0, HOME[1], 20.0), False),
        (LocalSetpoint(position=(100.0, 0.0, -20.0)), True),
        (LocalSetpoint(position=(0.0, 250.0, -20.0)), False),
        (LocalSetpoint(position=(0.0, 0.0, -60.0)), False),
        (LocalSetpoint(position=(100.0, None, None)), True),
        (LocalSetpoint(position=(None, 250.0, None)), False),
        (LocalSetpoint(position=(0.0, 0.0, None), velocity=(None, None, -20.0)), False),
        (LocalSetpoint(position=(0.0, 0.0, -20.0), velocity=(5.0, 5.0, -2.0)), True),
        # A speed beside a place leads past it, and so does an acceleration.
        (LocalSetpoint(position=(0.0, 0.0, -20.0), velocity=(100.0, 0.0, 0.0)), False),
        (LocalSetpoint(position=(0.0, 0.0, -20.0), velocity=(0.0, 0.0, -20.0)), False),
        (LocalSetpoint(position=(0.0, 0.0, -20.0), acceleration=(0.0, 50.0, 0.0)), False),
        (LocalSetpoint(position=(0.0, 250.0, -20.0), velocity=(0.0, -20.0, 0.0)), False),
        (LocalSetpoint(acceleration=(2.0, 0.0, 0.0)), True),
        (LocalSetpoint(acceleration=(50.0, 0.0, 0.0)), False),
        (LocalSetpoint(acceleration=(0.0, 0.0, -10.0)), False),
        (LocalSetpoint(velocity=(0.0, 0.0, -10.0), acceleration=(0.0, 0.0, -5.0)), False),
        (LocalSetpoint(velocity=(10.0, 0.0, 0.0)), True),
        (LocalSetpoint(velocity=(100.0, 0.0, 0.0)), False),
        (LocalSetpoint(velocity=(0.0, 0.0, -20.0)), False),
        (LocalSetpoint(yaw=1.0), True),
        (LocalSetpoint(velocity=(1.0, 0.0, 0.0), frame=8), False),
        (AttitudeSetpoint(0.5, (1.0, 0.0, 0.0, 0.0)), False),
    ],
)
def test_a_setpoint_stays_inside_of_the_fence(
    setpoint: GlobalSetpoint | LocalSetpoint | AttitudeSetpoint, passes: bool
) -> None:
    assert (guard(Grant.OFFBOARD, fence=CIRCLE).setpoint(setpoint, ORIGIN, 0.0) is None) == passes
    assert guard(Grant.OFFBOARD).setpoint(setpoint, ORIGIN, 0.0) is None
    assert guard(Grant.COMMAND).setpoint(setpoint, ORIGIN, 0.0) is not None


def test_a_setpoint_is_refused_where_the_fence_cannot_be_checked() -> None:
    fenced = guard(Grant.OFFBOARD, fence=CIRCLE)
    assert fenced.setpoint(LocalSetpoint(position=(0.0, 0.0, -5.0)), VehicleState(position=PLACE), 0.0) is not None
    assert fenced.setpoint(LocalSetpoint(velocity=(0.0, 0.0, 0.0)), VehicleState(), 0.0) is not None


def test_a_plan_is_checked_item_by_item() -> None:
    inside, outside = PlanItem.position(16, *HOME, 20.0), PlanItem.position(16, HOME[0] + 1.0, HOME[1], 20.0)
    fenced = guard(Grant.MISSION, fence=CIRCLE)
    assert fenced.plan([inside, PlanItem(20)], FLYING, 0.0) is None
    reason = fenced.plan([inside, outside], FLYING, 0.0)
    assert reason is not None
    assert reason.startswith("item 1:")
    assert fenced.plan([PlanItem.position(16, 1.0, 1.0, -5.0, frame=1)], FLYING, 0.0) is not None


def test_a_plan_cannot_hide_a_dangerous_order() -> None:
    plan = [PlanItem.position(16, *HOME, 20.0), PlanItem(185, 2, param1=1.0)]
    assert guard(Grant.MISSION).plan(plan[:1], FLYING, 0.0) is None
    assert "dangerous" in (guard(Grant.MISSION).plan(plan, FLYING, 0.0) or "")
    assert guard(Grant.MISSION, Grant.DANGEROUS).plan(plan, FLYING, 0.0) is None


def test_rates_are_kept() -> None:
    limited = Guard("patrol", EVERYTHING, rates=Rates(commands_hz=5.0, setpoints_hz=20.0, writes_hz=1.0))
    passed = sum(limited.command(Command(512, (0.0,)), FLYING, n / 100) is None for n in range(1000))
    assert 50 <= passed <= 56
    passed = sum(limited.setpoint(GlobalSetpoint(*HOME, 5.0), FLYING, n / 100) is None for n in range(1000))
    assert 200 <= passed <= 221
    assert limited.write("A", 1.0, 0.0) is None
    assert "more than 1 writes" in (limited.write("A", 1.0, 0.1) or "")


def test_every_order_is_logged_with_the_application(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = guard(Grant.COMMAND, Grant.OFFBOARD)
    watched.command(Command(400, (1.0,)), FLYING, 0.0)
    watched.write("SYS_AUTOSTART", 1.0, 0.0)
    for number in range(10):
        watched.setpoint(GlobalSetpoint(*HOME, 5.0), FLYING, float(number))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all("application=patrol" in line for line in lines)
    assert "passed" in lines[0]
    assert "refused" in lines[1]


SQUARE = Geofence(polygon=((47.0, 8.0), (47.0, 9.0), (48.0, 9.0), (48.0, 8.0)))


@given(st.floats(46.0, 49.0), st.floats(7.0, 10.0))
@settings(deadline=None)
def test_a_polygon_contains_what_lies_between_its_sides(latitude: float, longitude: float) -> None:
    inside = 47.0 < latitude < 48.0 and 8.0 < longitude < 9.0
    outside = not (47.0 <= latitude <= 48.0 and 8.0 <= longitude <= 9.0)
    refused = SQUARE.refuses(latitude, longitude, None) is not None
    assert refused == outside or not (inside or outside)


@pytest.mark.parametrize(
    "fence",
    [{}, {"polygon": ((0.0, 0.0), (1.0, 1.0))}, {"centre": (0.0, 0.0)}, {"centre": HOME, "polygon": SQUARE.polygon}],
)
def test_a_fence_that_is_none_is_refused(fence: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"geofence|polygon|radius"):
        Geofence(**fence)  # type: ignore[arg-type]
