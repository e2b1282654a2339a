"""What every command, plan item and mode can do to a vehicle's place and height, against a geofence."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmbed.bridges.mavlink import Cause, Command, Geofence, Grant, Guard, LocalSetpoint, PlanItem, Rates, VehicleState
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.ground import METRES_A_DEGREE, distance
from wasmbed.bridges.mavlink.modes import mode_command, mode_names
from wasmbed.bridges.mavlink.operations import Ids
from wasmbed.bridges.mavlink.vehicle_state import Landed, Position, VehicleMonitor

HOME = (47.397742, 8.545594)
SEA = 488.0
LANDINGS = (21, 85)
FLYING = VehicleState(
    connected=True,
    autopilot=12,
    type=2,
    armed=True,
    landed=Landed.IN_AIR,
    position=Position(*HOME, SEA + 10.0, 10.0),
    home=Position(*HOME, SEA, 0.0),
)
COPTER, PLANE = replace(FLYING, autopilot=3), replace(FLYING, type=1)
CIRCLE = Geofence(centre=HOME, radius_m=200.0, max_height_m=50.0)
NAN = math.nan
FAR = HOME[0] + 1.0
NEAR = HOME[0] + 100.0 / METRES_A_DEGREE
COMMANDS = [*default_dialect().enums["MAV_CMD"], 0, 15, 37, 79, 96, 999, 33333, 65535]


def words(text: str) -> set[str]:
    return set(text.split())


def name(number: int) -> str:
    return default_dialect().entry("MAV_CMD", number).removeprefix("MAV_CMD_")


def guard(*grants: Grant, fence: Geofence | None = CIRCLE) -> Guard:
    return Guard("patrol", frozenset(grants or Grant), fence, Rates(1e9, 1e9, 1e9))


def passes(order: Command | PlanItem, state: VehicleState = FLYING, *grants: Grant) -> bool:
    made = guard(*grants)
    refusal = made.command(order, state, 0.0) if isinstance(order, Command) else made.plan([order], state, 0.0)
    return refusal is None


# Each reviewed by hand: what it can do to where the vehicle is, or how high.
ORDINARY_WITHOUT_PLACE = words("""
NAV_RETURN_TO_LAUNCH DO_PAUSE_CONTINUE DO_CHANGE_SPEED MISSION_START DO_SET_MISSION_CURRENT DO_SET_ROI_LOCATION
DO_SET_ROI_NONE CONDITION_YAW DO_VTOL_TRANSITION DO_GIMBAL_MANAGER_PITCHYAW DO_GIMBAL_MANAGER_CONFIGURE
IMAGE_START_CAPTURE IMAGE_STOP_CAPTURE VIDEO_START_CAPTURE VIDEO_STOP_CAPTURE SET_CAMERA_MODE SET_CAMERA_ZOOM
SET_CAMERA_FOCUS
""")
CHECKED = words("""
NAV_TAKEOFF NAV_VTOL_TAKEOFF NAV_LAND NAV_VTOL_LAND DO_REPOSITION DO_ORBIT NAV_LOITER_UNLIM DO_CHANGE_ALTITUDE
""")
QUESTIONS = words("""
REQUEST_MESSAGE SET_MESSAGE_INTERVAL GET_MESSAGE_INTERVAL GET_HOME_POSITION REQUEST_AUTOPILOT_CAPABILITIES
REQUEST_PROTOCOL_VERSION REQUEST_FLIGHT_INFORMATION RUN_PREARM_CHECKS
""")
DANGEROUS_WITHOUT_PLACE = words("""
DO_FLIGHTTERMINATION DO_PARACHUTE DO_MOTOR_TEST DO_SET_PARAMETER DO_SET_RELAY DO_REPEAT_RELAY DO_SET_SERVO
DO_REPEAT_SERVO DO_GRIPPER DO_WINCH DO_SPRAYER DO_DIGICAM_CONFIGURE DO_DIGICAM_CONTROL DO_MOUNT_CONFIGURE
DO_MOUNT_CONTROL DO_SET_CAM_TRIGG_DIST DO_SET_CAM_TRIGG_INTERVAL DO_TRIGGER_CONTROL ILLUMINATOR_ON_OFF
PREFLIGHT_CALIBRATION PREFLIGHT_SET_SENSOR_OFFSETS PREFLIGHT_UAVCAN PREFLIGHT_STORAGE PREFLIGHT_REBOOT_SHUTDOWN
ACTUATOR_TEST CONFIGURE_ACTUATOR LOGGING_START LOGGING_STOP STORAGE_FORMAT
""")
ITEMS_WITHOUT_PLACE = words("""
NAV_ROI NAV_DELAY CONDITION_DELAY CONDITION_DISTANCE DO_JUMP DO_LAND_START DO_SET_CAM_TRIGG_DIST
""")
ITEMS_CHECKED = CHECKED | words("""
NAV_WAYPOINT NAV_LOITER_TURNS NAV_LOITER_TIME NAV_LOITER_TO_ALT NAV_PAYLOAD_PLACE NAV_RALLY_POINT
""")


def leading_outside(number: int) -> list[Command]:
    """Far away, and too high in every frame, in every form of a place; each is outside for whatever reads it so."""
    if number in (400, 176):
        return []
    places = [(FAR, HOME[1], SEA + 20.0), (HOME[0], FAR, SEA + 20.0), (0.0, 0.0, 5000.0), (NAN, NAN, 5000.0)]
    places += [(*HOME, 5000.0), (*HOME, 80.0 + SEA), (math.inf, HOME[1], SEA), (*HOME, math.inf)]
    places += [] if number in LANDINGS else [(*HOME, -50.0)]
    firsts = [(0.0, 0.0), (5000.0, 0.0), (5000.0, 3.0), (NAN, 0.0), (math.inf, 0.0), (1.0, 1.0)]
    return [
        Command(number, (*first, 0.0, 0.0, *place), frame)
        for first in firsts
        for place in places
        for frame in (None, 0, 3, 5, 6, 10, 11, 1, 2, 4, 8)
        if not (number == 511 and first != (0.0, 0.0))
    ]


@pytest.mark.parametrize("state", [FLYING, COPTER], ids=["px4", "ardupilot"])
def test_only_commands_without_a_place_pass_whatever_they_hold(state: VehicleState) -> None:
    """A command that is not on a list here, as a new one of the dialect, is refused with all rights there are."""
    passed = {name(n) for n in COMMANDS if any(passes(command, state) for command in leading_outside(n))}
    assert passed == ORDINARY_WITHOUT_PLACE | QUESTIONS | DANGEROUS_WITHOUT_PLACE


def test_every_command_is_ordinary_a_question_or_dangerous() -> None:
    free = guard(Grant.COMMAND, fence=None)
    ordinary = {name(n) for n in COMMANDS if n not in (400, 176) and free.command(Command(n), FLYING, 0.0) is None}
    assert ordinary == ORDINARY_WITHOUT_PLACE | CHECKED
    asked = guard(Grant.TELEMETRY, fence=None)
    assert {name(n) for n in COMMANDS if asked.command(Command(n), FLYING, 0.0) is None} == QUESTIONS


def items_leading_outside(number: int) -> list[PlanItem]:
    places = [(FAR, HOME[1], SEA + 20.0), (FAR, HOME[1], 20.0), (*HOME, 5000.0), (0.0, 0.0, 5000.0), (*HOME, NAN)]
    places.append((*HOME, math.inf))
    firsts = [(0.0, 0.0), (5000.0, 0.0), (5000.0, 3.0), (NAN, NAN)]
    made = []
    for frame in (0, 3, 5, 6, 10, 11, 1, 2, 4, 8):
        for latitude, longitude, z in places:
            scale = 1e7 if frame in (0, 3, 5, 6, 10, 11) else 1e4 if frame != 2 else 1
            x, y = int(latitude * scale), int(longitude * scale)
            made += [PlanItem(number, frame, one, two, x=x, y=y, z=z) for one, two in firsts]
    return made


@pytest.mark.parametrize("state", [FLYING, COPTER], ids=["px4", "ardupilot"])
def test_only_plan_items_without_a_place_pass_whatever_they_hold(state: VehicleState) -> None:
    """Waypoints at 0, 0 and 5000 m, local and terrain frames, fence and rally items, conditions and orders in plans."""
    ordinary, every = set(), set()
    for number in COMMANDS:
        for item in items_leading_outside(number):
            if passes(item, state, Grant.MISSION):
                ordinary.add(name(number))
            if passes(item, state):
                every.add(name(number))
    assert ordinary == ORDINARY_WITHOUT_PLACE | ITEMS_WITHOUT_PLACE
    assert every == ordinary | DANGEROUS_WITHOUT_PLACE | {"COMPONENT_ARM_DISARM"}


INSIDE = {
    "NAV_TAKEOFF": (0.0, 0.0, 0.0, NAN, NAN, NAN, SEA + 20.0),
    "NAV_VTOL_TAKEOFF": (0.0, 0.0, 0.0, NAN, *HOME, SEA + 20.0),
    "NAV_LAND": (0.0, 0.0, 0.0, NAN, NEAR, HOME[1], SEA),
    "NAV_VTOL_LAND": (0.0, 0.0, 0.0, NAN, NEAR, HOME[1], SEA),
    "DO_REPOSITION": (-1.0, 1.0, 0.0, NAN, NEAR, HOME[1], SEA + 20.0),
    "DO_ORBIT": (90.0, 3.0, 0.0, NAN, NEAR, HOME[1], NAN),
    "NAV_LOITER_UNLIM": (0.0, 0.0, 0.0, NAN, NEAR, HOME[1], SEA + 20.0),
    "DO_CHANGE_ALTITUDE": (SEA + 20.0, 0.0),
}


@pytest.mark.parametrize("kind", sorted(INSIDE))
def test_a_checked_command_passes_inside(kind: str) -> None:
    assert INSIDE.keys() == CHECKED
    assert passes(Command(default_dialect().value(f"MAV_CMD_{kind}"), INSIDE[kind]), FLYING, Grant.COMMAND)


@pytest.mark.parametrize("kind", sorted(ITEMS_CHECKED - {"DO_CHANGE_ALTITUDE", "DO_ORBIT"}))
@pytest.mark.parametrize("frame", [0, 3])
def test_a_checked_item_passes_inside(kind: str, frame: int) -> None:
    number = default_dialect().value(f"MAV_CMD_{kind}")
    z = 20.0 if frame == 3 else SEA + 20.0
    assert passes(PlanItem.position(number, NEAR, HOME[1], z, frame=frame), FLYING, Grant.MISSION)


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (Command(186, (5000.0, 0.0)), False),
        (Command(186, (5000.0, 3.0)), False),
        # PX4 takes this as 20 m above sea level.
        (Command(186, (20.0, 3.0)), False),
        (Command(186, (NAN, 0.0)), False),
        (Command(186, (SEA + 20.0, 0.4)), False),
        (Command(34, (20_000.0, 3.0, 0.0, NAN, *HOME, NAN)), False),
        (Command(34, (-150.0, 3.0, 0.0, NAN, NEAR, HOME[1], NAN)), False),
        (Command(34, (-150.0, 3.0, 0.0, NAN, *HOME, NAN)), True),
        (Command(34, (NAN, 3.0, 0.0, NAN, *HOME, NAN)), False),
        (Command(34, (50.0, 3.0, 0.0, NAN, NAN, NAN, NAN)), False),
        (Command(192, (-1.0, 1.0, 150.0, NAN, NEAR, HOME[1], SEA + 20.0)), False),
        (Command(192, (-1.0, 1.0, math.inf, NAN, *HOME, SEA + 20.0)), False),
        (Command(192, (-1.0, 1.0, 0.0, NAN, NAN, NAN, NAN)), True),
        (Command(192, (-1.0, 1.0, 0.0, NAN, NAN, HOME[1], SEA + 20.0)), False),
        (Command(192, (-1.0, 1.0, 0.0, NAN, 0.0, 0.0, SEA + 20.0)), False),
        (Command(22, (0.0, 0.0, 0.0, NAN, NAN, NAN, NAN)), False),
    ],
)
def test_heights_radii_and_half_places(command: Command, allowed: bool) -> None:
    assert passes(command) == allowed


@pytest.mark.parametrize("number", [17, 21, 85])
@pytest.mark.parametrize("place", [(NAN, NAN, NAN), (0.0, 0.0, 0.0)])
def test_holding_and_landing_in_place_are_allowed_outside_too(number: int, place: tuple[float, ...]) -> None:
    outside = replace(FLYING, position=Position(FAR, HOME[1], SEA + 300.0, 300.0))
    assert passes(Command(number, (0.0, 0.0, 0.0, NAN, *place)), outside)
    assert passes(Command(number, (0.0, 0.0, 0.0, NAN, *place)), replace(FLYING, position=None))


@pytest.mark.parametrize(
    ("item", "allowed"),
    [
        (PlanItem.position(18, NEAR, HOME[1], 20.0, param3=150.0), False),
        (PlanItem.position(18, NEAR, HOME[1], 20.0, param3=-90.0), True),
        (PlanItem.position(31, NEAR, HOME[1], 20.0, param2=150.0), False),
        (PlanItem.position(16, NEAR, HOME[1], 20.0, param3=150.0), False),
        (PlanItem.position(34, NEAR, HOME[1], 20.0, param1=90.0), True),
        (PlanItem.position(34, NEAR, HOME[1], 20.0), False),
        (PlanItem.position(21, NEAR, HOME[1], 0.0, param1=60.0), False),
        (PlanItem.position(21, NEAR, HOME[1], 0.0, param1=40.0), True),
        (PlanItem.position(5100, FAR, HOME[1], 20.0), False),
        (PlanItem.position(5001, *HOME, 0.0), False),
        (PlanItem(186, 2, param1=SEA + 20.0), True),
        (PlanItem(186, 2, param1=5000.0), False),
        (PlanItem.position(30, *HOME, 20.0), False),
        (PlanItem.position(113, *HOME, 20.0), False),
    ],
)
def test_radii_going_around_and_rally_points_of_a_plan(item: PlanItem, allowed: bool) -> None:
    assert passes(item) == allowed


def test_a_plane_needs_its_radius_told() -> None:
    """Its own is a setting that is not known here."""
    for order in (PlanItem.position(19, NEAR, HOME[1], 20.0), Command(192, INSIDE["DO_REPOSITION"])):
        assert passes(order)
        assert not passes(order, PLANE)
    assert passes(PlanItem.position(19, NEAR, HOME[1], 20.0, param3=80.0), PLANE)


def test_ardupilot_reads_0_0_as_where_it_is_and_its_take_off_above_home() -> None:
    assert passes(PlanItem.position(22, 0.0, 0.0, 20.0), COPTER)
    assert not passes(PlanItem.position(22, 0.0, 0.0, 20.0), FLYING)
    assert not passes(PlanItem.position(18, 0.0, 0.0, 20.0, param3=10.0), COPTER)
    assert passes(Command(22, (0.0,) * 6 + (20.0,)), COPTER)
    assert not passes(Command(22, (0.0,) * 6 + (80.0,)), COPTER)
    low = replace(COPTER, home=Position(*HOME, -60.0, 0.0))
    assert not passes(Command(22, (0.0,) * 6 + (-20.0,)), low), "40 m above home only to others"


HELD = {"hold", "position", "position_slow", "ready", "mission", "return", "land", "precision_land", "offboard"}
HELD_COPTER = {"hold", "brake", "position", "mission", "return", "smart_return", "auto_return", "land", "offboard"}


@pytest.mark.parametrize(("state", "held"), [(FLYING, HELD | {"termination"}), (COPTER, HELD_COPTER)])
def test_modes_in_which_something_else_flies_are_refused(state: VehicleState, held: set[str]) -> None:
    allowed = set()
    for mode in mode_names(state.autopilot, state.type):
        asked = mode_command(state.autopilot, state.type, mode)
        if passes(Command(176, (float(asked.base), float(asked.custom), float(asked.sub))), state):
            allowed.add(mode)
    assert allowed == held


SQUARE = Geofence(polygon=((47.0, 8.0), (47.0, 8.01), (47.01, 8.01), (47.01, 8.0)))


@given(st.floats(47.0005, 47.0095), st.floats(8.0005, 8.0095), st.floats(1.0, 600.0))
@settings(deadline=None)
def test_a_circle_stays_inside_of_a_polygon(latitude: float, longitude: float, radius: float) -> None:
    sides = ((47.0, longitude), (47.01, longitude), (latitude, 8.0), (latitude, 8.01))
    margin = min(distance(latitude, longitude, *side) for side in sides)
    refused = SQUARE.refuses(latitude, longitude, None, radius) is not None
    assert refused == (radius > margin) or abs(radius - margin) < 1.0


def test_an_old_position_is_none() -> None:
    """An application that has the vehicle's position stop would be judged from where it was."""
    monitor = VehicleMonitor(Ids(245, 191, 1, 1))
    monitor.receive(full(Message("HEARTBEAT", {"autopilot": 12, "type": 2, "base_mode": 128}, 1, 1)), 10.0)
    values = {"lat": round(HOME[0] * 1e7), "lon": round(HOME[1] * 1e7), "alt": 498_000, "relative_alt": 10_000}
    monitor.receive(full(Message("GLOBAL_POSITION_INT", values, 1, 1)), 10.0)
    setpoint = LocalSetpoint(velocity=(1.0, 0.0, 0.0))
    assert guard().setpoint(setpoint, monitor.state, 12.9) is None
    refusal = guard().setpoint(setpoint, monitor.state, 13.1)
    assert refusal is not None
    assert refusal.cause is Cause.FENCE
