"""The command protocol over networks that lose, double, reorder and delay."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import BAD, CLEAN, IDS, Network, World
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.command_rules import SHORTLY_S, Resend, resend_rule
from wasmbed.bridges.mavlink.commands import QUIET_S, Command, CommandLane, CommandRun, Outcome, scaled
from wasmbed.bridges.mavlink.definitions import default_dialect

ARM, CALIBRATE, CAPTURE, REBOOT, REPOSITION, REQUEST = 400, 241, 2000, 246, 192, 512
DEAD = Network(loss=1.0)


def ack(command: int, result: int, *, system: int = 1, component: int = 1, **fields: int) -> Message:
    return full(Message("COMMAND_ACK", {"command": command, "result": result, **fields}, system, component))


def started(command: Command) -> CommandRun:
    run = CommandRun(IDS, command)
    run.start(0.0)
    return run


def test_a_command_is_accepted_and_sent_once() -> None:
    world = World(CLEAN)
    result = world.drive(CommandRun(IDS, Command(ARM, (1.0,))))
    assert result.ok
    assert (result.sent, world.vehicle.armed) == (1, True)
    assert str(result) == "MAV_CMD_COMPONENT_ARM_DISARM was accepted"


@pytest.mark.parametrize(
    ("arm", "force", "armed"),
    [(0.3, 21196.3, False), (0.3, 0.0, True), (0.5, 21196.0, True), (0.0, 21195.4, True), (2.0, 21196.0, True)],
)
def test_the_simulated_vehicle_rounds_arming_as_px4_does(arm: float, force: float, armed: bool) -> None:
    """So a flight shows what a wrong decision about such an order would do."""
    world = World(CLEAN)
    world.vehicle.lift(10.0)
    world.drive(CommandRun(IDS, Command(ARM, (arm, force))))
    assert world.vehicle.armed == armed


def test_resends_count_up_the_confirmation() -> None:
    world = World(DEAD)
    result = world.drive(CommandRun(IDS, Command(REQUEST, (0.0,))))
    assert result.outcome is Outcome.UNCONFIRMED
    assert [item["confirmation"] for _, item in world.sent] == list(range(result.sent))
    assert result.sent == 16


@pytest.mark.parametrize("command", [ARM, 22, 21, 20, 176, REPOSITION, 185])
def test_an_order_about_the_flight_is_never_sent_late(command: int) -> None:
    world = World(DEAD)
    result = world.drive(CommandRun(IDS, Command(command, (1.0,))))
    assert result.outcome is Outcome.UNCONFIRMED
    assert len(world.sent) == 4
    assert world.sent[-1][0] - world.sent[0][0] <= SHORTLY_S


@pytest.mark.parametrize("command", [REBOOT, CALIBRATE, CAPTURE, 211, 208, 300, 245, 209, 31010, 65000])
def test_a_command_that_does_its_thing_again_is_sent_once(command: int) -> None:
    assert resend_rule(command) is Resend.NEVER
    world = World(DEAD)
    assert world.drive(CommandRun(IDS, Command(command))).outcome is Outcome.UNCONFIRMED
    assert len(world.sent) == 1


def test_progress_extends_the_time_and_stops_resends() -> None:
    world = World(CLEAN)
    run = CommandRun(IDS, Command(CALIBRATE), give_up_s=1.0)
    assert world.drive(run).ok
    assert run.progress == 50
    assert len(world.sent) == 1


def test_a_running_command_can_be_cancelled() -> None:
    world = World(CLEAN)
    run = CommandRun(IDS, Command(CALIBRATE))
    run.start(world.now)
    world.on_message.append(run.receive)
    for item in run.take():
        world.send(item)
    world.run(0.5)
    run.cancel(world.now)
    for item in run.take():
        world.send(item)
    world.run(1.0)
    assert run.result is not None
    assert run.result.outcome is Outcome.CANCELLED
    assert world.vehicle.slow is None


def test_a_command_that_only_comes_as_int_is_sent_as_int() -> None:
    world = World(CLEAN)
    world.vehicle.height = 10.0
    place = (-1.0, 1.0, 0.0, math.nan, 47.3980, 8.5460, 500.0)
    result = world.drive(CommandRun(IDS, Command(REPOSITION, place)))
    assert result.ok
    assert [item.name for _, item in world.sent] == ["COMMAND_LONG", "COMMAND_INT"]
    assert world.sent[-1][1]["frame"] == 0, "above home it would be another height than the one that was judged"
    (_, _, params) = world.vehicle.executed[-1]
    assert params[4:] == pytest.approx((47.3980, 8.5460, 500.0))


@pytest.mark.parametrize(("frame", "outcome"), [(0, None), (3, Outcome.LONG_ONLY)])
def test_a_height_above_home_is_never_sent_as_one_above_the_sea(frame: int, outcome: Outcome | None) -> None:
    run = CommandRun(IDS, Command(22, (0.0, 0.0, 0.0, math.nan, 47.3980, 8.5460, 500.0), frame))
    run.start(0.0)
    run.receive(ack(22, 7), 0.1)
    assert (run.result.outcome if run.result else None) is outcome


def test_a_rejection_of_a_resend_does_not_hide_the_answer() -> None:
    run = started(Command(REQUEST, (0.0,)))
    run.advance(0.6)
    run.receive(ack(REQUEST, 1), 0.7)
    assert run.result is None
    run.receive(ack(REQUEST, 0), 0.8)
    assert run.result is not None
    assert run.result.ok


def test_a_rejection_counts_when_nothing_else_comes() -> None:
    run = started(Command(ARM, (1.0,)))
    run.advance(0.6)
    run.receive(ack(ARM, 1), 0.7)
    for now in (1.2, 3.0, 9.0):
        run.advance(now)
    assert run.result is not None
    assert run.result.outcome is Outcome.TEMPORARILY_REJECTED


@pytest.mark.parametrize(
    "item",
    [
        ack(ARM, 0, system=2),
        ack(ARM, 0, component=100),
        ack(22, 0),
        ack(ARM, 0, target_system=9),
        ack(ARM, 0, target_system=245, target_component=1),
    ],
)
def test_an_acknowledgement_of_something_else_is_ignored(item: Message) -> None:
    run = started(Command(ARM, (1.0,)))
    run.receive(item, 0.1)
    assert run.result is None


@pytest.mark.parametrize(("number", "outcome"), [(2, Outcome.DENIED), (3, Outcome.UNSUPPORTED), (4, Outcome.FAILED)])
def test_refusals_are_told_apart(number: int, outcome: Outcome) -> None:
    run = started(Command(ARM, (1.0,)))
    run.receive(ack(ARM, number, result_param2=7), 0.1)
    assert run.result is not None
    assert (run.result.outcome, run.result.detail, run.result.ok) == (outcome, 7, False)


def test_as_many_orders_are_acknowledged_as_the_loss_allows_and_answers_agree_with_the_vehicle() -> None:
    """Of four sendings one has to arrive and its answer too; less would be answers that we lose ourselves."""
    seeds, network = 300, Network(loss=0.3, jitter_s=0.12, delay_s=0.005, duplication=0.2)
    arrives = 1.0 - network.loss * (1.0 - network.duplication)
    share = 1.0 - (1.0 - arrives**2) ** 4
    outcomes: Counter[Outcome] = Counter()
    for seed in range(seeds):
        world = World(network, seed)
        result = world.drive(CommandRun(IDS, Command(ARM, (1.0,))))
        done = any(command == ARM for _, command, _ in world.vehicle.executed)
        assert world.vehicle.armed == done
        assert result.outcome is Outcome.UNCONFIRMED or (result.ok and done), seed
        outcomes[result.outcome] += 1
    fewest = seeds * share - 4 * math.sqrt(seeds * share * (1.0 - share))
    assert 0.96 < share < 0.98
    assert outcomes[Outcome.ACCEPTED] >= fewest, outcomes


@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_no_acknowledgement_is_lost_and_nothing_is_done_twice_on_a_bad_network(seed: int) -> None:
    """30 % loss, 20 % doubled, reordering: questions are answered, orders are done in time, deeds are sent once."""
    network = Network(loss=0.3, jitter_s=0.12, delay_s=0.005, duplication=0.2)
    world = World(network, seed)
    asked = world.drive(CommandRun(IDS, Command(REQUEST, (0.0,))))
    assert asked.ok
    begun = world.now
    armed = world.drive(CommandRun(IDS, Command(ARM, (1.0,))))
    assert armed.outcome in (Outcome.ACCEPTED, Outcome.UNCONFIRMED)
    if armed.ok:
        assert world.vehicle.armed
    world.run(20.0)
    times = [at for at, command, _ in world.vehicle.executed if command == ARM]
    assert all(at - begun <= SHORTLY_S + 0.125 for at in times)
    assert world.vehicle.armed == bool(times)
    world.drive(CommandRun(IDS, Command(CAPTURE, (0.0,))))
    world.run(20.0)
    assert sum(item["command"] == CAPTURE for _, item in world.sent) == 1


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_without_duplication_by_the_network_nothing_is_done_twice(seed: int) -> None:
    world = World(Network(loss=0.3, jitter_s=0.12), seed)
    for command in (CAPTURE, 211, 183):
        world.drive(CommandRun(IDS, Command(command)))
        world.run(10.0)
    done = Counter(command for _, command, _ in world.vehicle.executed)
    assert done[CAPTURE] <= 1
    assert done[211] <= 1


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_late_acknowledgement_is_not_taken_for_the_next_command(seed: int) -> None:
    """Arm and disarm share a number: the answer to one must not be the answer to the other."""
    world = World(BAD, seed)
    lane = CommandLane()
    for wanted in (True, False, True):
        world.run(lane.wait_s(ARM, world.now))
        run = CommandRun(IDS, Command(ARM, (float(wanted),)))
        result = world.drive(run)
        if result.ok:
            assert (world.now, world.vehicle.armed) == (world.now, wanted)
        lane.leave(run, world.now)


def test_an_equal_command_waits_for_late_answers() -> None:
    lane = CommandLane()
    run = started(Command(ARM, (1.0,)))
    run.advance(0.5)
    run.receive(ack(ARM, 0), 0.9)
    lane.leave(run, 0.9)
    assert lane.wait_s(ARM, 0.9) == pytest.approx(QUIET_S)
    assert lane.wait_s(ARM, 2.0) == 0.0
    assert lane.wait_s(22, 0.9) == 0.0


def test_coordinates_are_scaled_or_refused() -> None:
    assert scaled(47.397742, 1e7) == 473977420
    assert scaled(math.nan, 1e7) == 2**31 - 1
    with pytest.raises(ValueError, match="too large"):
        scaled(300.0, 1e7)
    with pytest.raises(ValueError, match="seven"):
        Command(1, (0.0,) * 8)


def test_every_rule_names_commands_that_exist() -> None:
    dialect = default_dialect()
    assert {resend_rule(number) for number in dialect.enums["MAV_CMD"]} == set(Resend)


@pytest.mark.parametrize("command", [(400, (1e39,)), (70_000, ()), (-1, ())])
def test_a_command_that_cannot_be_sent_is_refused_when_it_is_made(command: tuple[int, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"too large|0 to 65535"):
        Command(*command)
