"""The patrol in the microcontrollers' interpreter, with a vehicle that moves: every way a flight can go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from example_desk import HIFIVE1, Host, ModuleFailedError
from example_vehicle import HOME, METRES_A_DEGREE, Vehicle, fly
from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType, FlightMode, OwnerLoss, Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_desk import Desk


def north(metres: float, height: float = 20.0) -> tuple[float, float, float]:
    return (round(HOME[0] + metres / METRES_A_DEGREE, 7), HOME[1], height)


WAYPOINTS = [north(60), north(120, 25.0), north(80)]


def route(points: list[tuple[float, float, float]]) -> str:
    return ";".join(f"{latitude:.7f},{longitude:.7f},{height:g}" for latitude, longitude, height in points)


class Patrol:
    """An application and its vehicle."""

    def __init__(self, desk: Callable[..., Desk], vehicle: Vehicle | None = None, **options: Any) -> None:
        self.vehicle = vehicle or Vehicle()
        env = {"WAYPOINTS": route(WAYPOINTS), **options.pop("env", {})}
        self.desk = desk("patrol", Host(env=env, vehicle=self.vehicle, **options))

    def until(self, text: str, most_s: float = 900) -> None:
        fly(self.vehicle, self.desk.advance, self.desk.event, lambda: text in self.desk.text(), most_s=most_s)

    def go_on(self, seconds: float) -> None:
        end = self.desk.now_ns + int(seconds * 1e9)
        fly(self.vehicle, self.desk.advance, self.desk.event, lambda: self.desk.now_ns >= end)


@pytest.fixture
def patrol(desk: Callable[..., Desk]) -> Callable[..., Patrol]:
    return lambda vehicle=None, **options: Patrol(desk, vehicle, **options)


def near(got: list[tuple[float, float, float]], wanted: list[tuple[float, float, float]]) -> bool:
    return len(got) == len(wanted) and all(
        math.dist((a[0] * METRES_A_DEGREE, a[2]), (b[0] * METRES_A_DEGREE, b[2])) < 4
        for a, b in zip(got, wanted, strict=True)
    )


def test_it_flies_its_waypoints_and_comes_home(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("finished: landed")
    assert one.vehicle.names == ["arm", "takeoff", "goto", "goto", "goto", "return"]
    text = one.desk.text()
    for number in (1, 2, 3):
        assert f"waypoint {number} reached, off by metres " in text
    assert not one.vehicle.armed
    assert not one.vehicle.owned
    assert abs(one.vehicle.latitude - HOME[0]) * METRES_A_DEGREE < 1


def test_rounds_are_flown_again(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"ROUNDS": "3"})
    one.until("finished: landed", 2000)
    assert one.vehicle.names.count("goto") == 9


def test_as_a_mission_the_vehicle_flies_it_by_itself(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"FLY": "mission", "ROUNDS": "2"})
    one.until("finished: landed", 2000)
    assert one.vehicle.names == ["upload", "arm", "takeoff", "mission", "mission", "return"]
    assert near(one.vehicle.visited, WAYPOINTS * 2)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("fix", 2, "no position fix"),
        ("remaining", 0.4, "the battery is not charged enough"),
        ("remaining", math.nan, "the battery is not charged enough"),
        ("failsafe", True, "the autopilot is in failsafe"),
        ("acquired", Code.BUSY, "another application owns the autopilot"),
        ("acquired", Code.UNAVAILABLE, "no autopilot"),
    ],
)
def test_it_waits_until_all_checks_pass(patrol: Callable[..., Patrol], field: str, value: Any, why: str) -> None:
    vehicle = Vehicle()
    good = getattr(vehicle, field)
    setattr(vehicle, field, value)
    one = patrol(vehicle)
    one.until(f"waiting: {why}", 30)
    one.go_on(60)
    assert vehicle.names == []
    setattr(vehicle, field, good)
    one.until("taking off", 30)


def test_an_autopilot_that_comes_later_is_flown(patrol: Callable[..., Patrol]) -> None:
    one = patrol(px4=False)
    one.desk.advance(60)
    assert "waiting: no autopilot" in one.desk.text()
    one.desk.host.px4 = True
    one.until("finished: landed")


def test_without_telemetry_nothing_is_ordered(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.desk.advance(60)
    assert one.vehicle.names == []
    assert "no telemetry" in one.desk.text()


def test_a_waypoint_out_of_range_is_not_flown(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"WAYPOINTS": route([north(60), north(1500)])})
    one.until("failed: a waypoint is further from home", 30)
    assert one.vehicle.names == []


def test_a_vehicle_in_flight_is_left_to_whom_it_belongs(patrol: Callable[..., Patrol]) -> None:
    vehicle = Vehicle()
    vehicle.armed, vehicle.height, vehicle.mode = True, 20.0, FlightMode.MISSION
    one = patrol(vehicle)
    one.until("taken over: the vehicle is armed or in the air already", 30)
    assert vehicle.names == []
    assert not vehicle.owned


@pytest.mark.parametrize("name", ["arm", "takeoff", "upload"])
def test_an_order_refused_on_the_ground_ends_the_patrol_there(patrol: Callable[..., Patrol], name: str) -> None:
    vehicle = Vehicle()
    vehicle.refuse = {name: Code.REJECTED}
    one = patrol(vehicle, env={"FLY": "mission"})
    one.until("failed: the order was refused", 60)
    assert vehicle.names.count(name) == 3
    assert not vehicle.armed
    assert not vehicle.owned


@pytest.mark.parametrize("code", [Code.REJECTED, Code.TIMEOUT, Code.UNAVAILABLE, Code.RATE])
def test_a_refused_waypoint_brings_it_home(patrol: Callable[..., Patrol], code: Code) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.vehicle.refuse = {"goto": code}
    one.until("finished: landed")
    assert one.vehicle.names[-4:] == ["goto", "goto", "goto", "return"] or one.vehicle.names[-1] == "return"
    assert "waypoint 3 reached" not in one.desk.text()


def test_it_lands_where_it_is_when_it_cannot_return(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.vehicle.refuse = {"goto": Code.REJECTED, "return": Code.REJECTED}
    one.until("finished: landed")
    assert one.vehicle.names[-4:] == ["return", "return", "return", "land"]


def test_an_order_without_an_answer_and_effect_ends_by_time(patrol: Callable[..., Patrol]) -> None:
    vehicle = Vehicle()
    vehicle.refuse = {"takeoff": None}
    one = patrol(vehicle)
    one.until("failed: it takes too long", 120)
    assert not vehicle.armed


def test_a_return_that_is_accepted_and_not_done_is_ordered_again(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 3 reached")
    one.vehicle.ignore = {"return"}
    one.go_on(20)
    assert 2 <= one.vehicle.names.count("return") <= 6
    one.vehicle.ignore = set()
    one.until("finished: landed")


def test_a_low_battery_brings_it_home(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"BATTERY_RETURN": "0.3"})
    one.until("waypoint 1 reached")
    one.vehicle.remaining = 0.29
    one.until("flying: the battery is low", 10)
    one.until("finished: landed")
    assert "waypoint 2 reached" not in one.desk.text()


def test_one_low_value_is_no_low_battery(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    for value in (0.1, 0.9, 0.1, math.nan, 0.9, math.nan):
        one.vehicle.remaining = value
        one.desk.event(EventType.TELEMETRY, Telemetry.BATTERY, one.vehicle.record(Telemetry.BATTERY) or b"")
        one.desk.advance(0.6)  # a look at what is known
    one.vehicle.remaining = 0.9
    one.until("finished: landed")
    assert "low" not in one.desk.text()


def test_a_lost_gateway_brings_it_home_after_a_grace(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"LINK_GRACE_S": "10", "WAYPOINTS": route([north(900)])})
    one.until("to waypoint 1")
    one.desk.event(EventType.LINK, 0)
    one.go_on(8)
    one.desk.event(EventType.LINK, 1)
    one.go_on(10)
    assert "returning" not in one.desk.text()
    one.desk.event(EventType.LINK, 0)
    one.until("flying: the gateway is lost", 12)
    one.until("finished: landed")


def test_a_silent_vehicle_is_ordered_home(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.desk.advance(8)
    assert "position is not known any more" in one.desk.text()
    assert one.vehicle.names[-1] == "return"
    one.until("finished: landed")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_impossible_positions_are_no_position(patrol: Callable[..., Patrol], value: float) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    record = abi.TELEMETRY[Telemetry.POSITION].pack(0, value, value, math.nan, math.nan, 0, 0, 0, 0)
    for _ in range(40):
        one.desk.event(EventType.TELEMETRY, Telemetry.POSITION, record)
        one.desk.advance(0.2)
    assert "waypoint 2 reached" not in one.desk.text()
    assert "position is not known any more" in one.desk.text()


@pytest.mark.parametrize("reason", list(OwnerLoss))
def test_after_the_autopilot_was_taken_nothing_is_ordered(patrol: Callable[..., Patrol], reason: OwnerLoss) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.vehicle.owned = False
    one.desk.event(EventType.OWNER, 0, bytes([reason]))
    ordered = len(one.vehicle.names)
    one.go_on(120)
    assert len(one.vehicle.names) == ordered
    assert one.desk.logs[-1] == (1, "taken over: the autopilot was taken away")


def test_a_pilot_who_takes_over_is_left_alone(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.vehicle.mode = FlightMode.POSITION
    ordered = len(one.vehicle.names)
    one.go_on(60)
    assert "taken over: a pilot flies" in one.desk.text()
    assert len(one.vehicle.names) <= ordered + 1
    assert not one.vehicle.owned


def test_a_pilots_mode_on_the_ground_is_no_pilot(patrol: Callable[..., Patrol]) -> None:
    vehicle = Vehicle()
    vehicle.mode = FlightMode.POSITION
    one = patrol(vehicle)
    one.until("finished: landed")


def test_a_failsafe_return_of_the_autopilot_is_followed(patrol: Callable[..., Patrol]) -> None:
    one = patrol()
    one.until("waypoint 1 reached")
    one.vehicle._do("return", 0, 0, 0)
    one.until("returning: the autopilot does so by itself", 10)
    one.until("finished: landed")
    assert "return" not in one.vehicle.names


def test_a_vehicle_that_does_not_disarm_by_itself_is_disarmed(patrol: Callable[..., Patrol]) -> None:
    vehicle = Vehicle()
    vehicle.disarms = False
    one = patrol(vehicle)
    one.until("finished: landed")
    assert vehicle.names[-1] == "disarm"


def test_an_update_in_flight_goes_on_with_the_next_version(desk: Callable[..., Desk]) -> None:
    old = Patrol(desk)
    old.until("to waypoint 2")
    state = old.desk.save()
    old.vehicle.owned = False
    new = Patrol(desk, old.vehicle, state=state)
    old.desk.stop()
    assert "stopped in flight" in old.desk.text()
    new.until("finished: landed")
    text = new.desk.text()
    assert "goes on with waypoint 2" in text
    assert "waypoint 1 reached" not in text
    assert "waypoint 3 reached" in text


@pytest.mark.parametrize("state", [b"", b"\0" * 16, b"\xff" * 16, b"\1\0\0\0\4\0\0\0\x63\0\0\0\0\0\0\0"])
def test_a_state_that_is_not_ours_is_a_new_patrol(patrol: Callable[..., Patrol], state: bytes) -> None:
    assert "patrol, waypoints 3" in patrol(state=state).desk.text()


@pytest.mark.parametrize(
    "text",
    [
        "", "47.4", "47.4,8.5", "47.4,8.5,20;", ";47.4,8.5,20", "47.4;8.5;20", "91,8.5,20", "47.4,181,20", "47.4,8.5,1",
        "47.4,8.5,121", "47.4,8.5,nan", "47.4,8.5,20 ", "47.4,8.5,1e1", ";".join(["47.4,8.5,20"] * 17), "x" * 600,
    ],
)  # fmt: skip
def test_waypoints_that_are_none_end_the_start(desk: Callable[..., Desk], text: str) -> None:
    one = desk("patrol", Host(env={"WAYPOINTS": text}, vehicle=Vehicle()), run=False)
    with pytest.raises(ModuleFailedError, match="returned -22"):
        one.start()
    assert one.text().startswith("WAYPOINTS must be")


@pytest.mark.parametrize("kind", [0, *Telemetry, 9, 31, 32, 1000, -1])
@pytest.mark.parametrize("data", [b"", b"\xff" * 15, b"\xff" * 200])
def test_damaged_records_order_nothing(patrol: Callable[..., Patrol], kind: int, data: bytes) -> None:
    one = patrol()
    for _ in range(10):
        one.desk.event(EventType.TELEMETRY, kind, data)
        one.desk.advance(1)
    assert one.vehicle.names == []


def test_it_fits_the_smallest_board(patrol: Callable[..., Patrol]) -> None:
    one = patrol(env={"FLY": "mission"})
    one.until("finished: landed")
    assert one.desk.ram_bytes <= HIFIVE1.ram_bytes
    assert one.desk.stack_used <= HIFIVE1.stack_bytes // 2
    assert one.desk.most_fuel < 200_000
