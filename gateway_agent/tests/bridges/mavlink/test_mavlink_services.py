"""Offboard, time synchronisation, texts, events and the vehicle's state, without a network."""

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import IDS
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.events import Event, EventReceiver, StatusText, StatusTexts
from wasmbed.bridges.mavlink.modes import mode_command, mode_name, mode_names
from wasmbed.bridges.mavlink.offboard import (
    PRIMING_S,
    PROOF_OF_LIFE_S,
    AttitudeSetpoint,
    GlobalSetpoint,
    LocalSetpoint,
    Offboard,
    Phase,
    Setpoint,
    check_setpoint,
)
from wasmbed.bridges.mavlink.timesync import Timesync
from wasmbed.bridges.mavlink.vehicle_state import Change, Landed, VehicleMonitor, heartbeat

SETPOINT = LocalSetpoint(position=(1.0, 2.0, -10.0), yaw=0.5)


def item(name: str, *, system: int = 1, component: int = 1, **values: Any) -> Message:
    return full(Message(name, values, system, component))


def stream(control: Offboard, start: float, seconds: float, renew: bool = True) -> list[float]:
    """Let time pass in steps of 10 ms; when setpoints were sent."""
    times, now = [], start
    while now < start + seconds:
        if renew and control.phase is not Phase.ENDED:
            control.renew(SETPOINT, now)
        control.advance(now)
        times += [now] * len(control.take())
        now += 0.01
    return times


def test_the_stream_runs_before_the_mode_is_asked_for() -> None:
    control = Offboard(IDS)
    times = stream(control, 0.0, PRIMING_S - 0.1)
    assert (control.phase, control.wants_mode) == (Phase.PRIMING, False)
    assert len(times) >= 20
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.1
    stream(control, PRIMING_S - 0.1, 0.3)
    assert (control.phase, control.wants_mode) == (Phase.ENTERING, True)
    control.mode_changed(True, 1.6)
    assert control.phase is Phase.ACTIVE


def test_without_proof_of_life_the_stream_stops() -> None:
    control = Offboard(IDS)
    stream(control, 0.0, 1.5)
    control.mode_changed(True, 1.5)
    times = stream(control, 1.5, 5.0, renew=False)
    assert control.phase is Phase.ENDED
    assert times[-1] <= 1.5 + PROOF_OF_LIFE_S + 0.06
    with pytest.raises(RuntimeError, match="no setpoint came"):
        control.renew(SETPOINT, 9.0)


def test_a_pilot_who_leaves_the_mode_ends_it_for_good() -> None:
    control = Offboard(IDS)
    stream(control, 0.0, 1.5)
    control.mode_changed(True, 1.5)
    control.mode_changed(False, 2.0)
    assert control.phase is Phase.ENDED
    assert stream(control, 2.0, 1.0) == []
    control.mode_changed(True, 3.0)
    assert control.phase is Phase.ENDED


def test_a_vehicle_that_does_not_enter_ends_it() -> None:
    control = Offboard(IDS)
    stream(control, 0.0, 10.0)
    assert (control.phase, control.reason) == (Phase.ENDED, "the vehicle did not enter the mode")


def test_a_pause_is_not_made_up_for() -> None:
    control = Offboard(IDS, proof_of_life_s=10.0)
    control.renew(SETPOINT, 0.0)
    control.take()
    control.advance(5.0)
    assert len(control.take()) == 1
    assert control.deadline == pytest.approx(5.05)


def test_setpoints_control_what_is_set_and_nothing_else() -> None:
    values = SETPOINT.message(5).values
    assert values["type_mask"] == 0b1001_1111_1000 & ~(1 << 10) & 0xFFF
    assert (values["x"], values["z"], values["yaw"]) == (1.0, -10.0, 0.5)
    velocity = LocalSetpoint(velocity=(1.0, 0.0, 0.0), yaw_rate=0.1).message(5).values
    assert velocity["type_mask"] == 0b0101_1100_0111
    place = GlobalSetpoint(47.397742, 8.545594, 20.0).message(5).values
    assert (place["lat_int"], place["coordinate_frame"], place["type_mask"]) == (473977420, 6, 0b1101_1111_1000)
    rates = AttitudeSetpoint(0.5, rates=(0.1, 0.2, 0.3)).message(5).values
    assert rates["type_mask"] == 0b1000_0000
    for setpoint in (SETPOINT, GlobalSetpoint(1.0, 2.0, 3.0), AttitudeSetpoint(0.5, (1.0, 0.0, 0.0, 0.0))):
        full(setpoint.message(0))


@pytest.mark.parametrize(
    "setpoint",
    [
        LocalSetpoint(),
        LocalSetpoint(position=(math.nan, 0.0, 0.0)),
        LocalSetpoint(yaw=math.inf),
        GlobalSetpoint(91.0, 0.0, 10.0),
        GlobalSetpoint(0.0, 0.0, math.nan),
        AttitudeSetpoint(1.1),
        AttitudeSetpoint(0.5, (1.0, 1.0, 0.0, 0.0)),
    ],
)
def test_a_setpoint_that_cannot_be_flown_is_refused_and_does_not_renew(setpoint: Setpoint) -> None:
    with pytest.raises(ValueError, match=r"finite|place|thrust|length"):
        check_setpoint(setpoint)
    control = Offboard(IDS)
    with pytest.raises(ValueError, match=r"finite|place|thrust|length"):
        control.renew(setpoint, 0.0)
    assert control.phase is Phase.IDLE


def test_a_rate_the_vehicle_would_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="above 2"):
        Offboard(IDS, rate_hz=2.0)


@given(
    st.lists(st.tuples(st.floats(0.0001, 0.2), st.floats(0.0001, 0.2)), min_size=12, max_size=30), st.integers(0, 2**32)
)
@settings(max_examples=100, deadline=None)
def test_the_clock_offset_is_right_within_half_the_round_trip(delays: list[tuple[float, float]], seed: int) -> None:
    rng = random.Random(seed)
    sync, offset_ns, now = Timesync(IDS), rng.randint(-(10**15), 10**15), 10.0
    for there, back in delays:
        sync.advance(now, int(now * 1e9))
        (request,) = sync.take()
        answered = int((now + there) * 1e9) + offset_ns
        answer = item("TIMESYNC", tc1=answered, ts1=request["ts1"])
        sync.receive(answer, int((now + there + back) * 1e9))
        sync.receive(answer, int((now + there + back) * 1e9) + 10**6)
        now += 1.0
    assert sync.offset is not None
    assert abs(sync.offset.offset_ns - offset_ns) <= sync.offset.error_ns + 1000
    best = min(sum(pair) for pair in delays[-10:])
    assert sync.offset.round_trip_ns == pytest.approx(best * 1e9, abs=1000)


def test_answers_to_others_are_ignored_and_requests_are_answered() -> None:
    sync = Timesync(IDS)
    sync.advance(0.0, 1000)
    sync.take()
    sync.receive(item("TIMESYNC", tc1=5, ts1=999), 2000)
    sync.receive(item("TIMESYNC", tc1=5, ts1=1000, target_system=9), 2000)
    sync.receive(item("TIMESYNC", tc1=5, ts1=1000, system=2), 2000)
    assert sync.offset is None
    sync.receive(item("TIMESYNC", tc1=0, ts1=77), 3000)
    (answer,) = sync.take()
    assert (answer["ts1"], answer["tc1"], answer["target_system"]) == (77, 3000, 1)


def texts_of(chunks: list[tuple[float, Message]], end: float) -> list[str]:
    found: list[StatusText] = []
    texts = StatusTexts(1, found.append)
    for now, chunk in chunks:
        texts.receive(chunk, now)
    texts.advance(end)
    return [text.text for text in found]


def chunk(number: int, sequence: int, text: str) -> Message:
    return item("STATUSTEXT", severity=4, text=text, id=number, chunk_seq=sequence)


@given(st.text(alphabet="abc ", min_size=1, max_size=300), st.integers(0, 2**32))
@settings(deadline=None)
def test_long_texts_are_put_together_in_any_order(text: str, seed: int) -> None:
    parts = [text[at : at + 50] for at in range(0, len(text), 50)]
    if len(parts[-1]) == 50:
        parts.append("")
    chunks = [(0.0, chunk(7, number, part)) for number, part in enumerate(parts)] * 2
    random.Random(seed).shuffle(chunks)
    assert texts_of(chunks, 5.0) == [text]


def test_a_lost_chunk_is_marked() -> None:
    full_part = "x" * 50
    assert texts_of([(0.0, chunk(7, 0, full_part)), (0.0, chunk(7, 2, "end"))], 2.0) == [full_part + "[...]end"]
    assert texts_of([(0.0, chunk(7, 0, full_part))], 2.0) == [full_part + "[...]"]
    assert texts_of([(0.0, chunk(0, 0, "short\x07"))], 0.0) == ["short "]


class EventSource:
    """The vehicle's side of the event interface: keeps the last 30 events."""

    def __init__(self) -> None:
        self.events: dict[int, Message] = {}
        self.sequence = 65500

    def emit(self) -> Message:
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.events[self.sequence] = item("EVENT", id=self.sequence, sequence=self.sequence, log_levels=0x54)
        while len(self.events) > 30:
            self.events.pop(next(iter(self.events)))
        return self.events[self.sequence]

    def answer(self, request: Message) -> list[Message]:
        out, at = [], request["first_sequence"]
        while True:
            if at in self.events:
                out.append(self.events[at])
            else:
                oldest = next(iter(self.events))
                return [*out, item("RESPONSE_EVENT_ERROR", sequence=at, sequence_oldest_available=oldest)]
            if at == request["last_sequence"]:
                return out
            at = (at + 1) & 0xFFFF


@given(st.integers(0, 2**32), st.floats(0.0, 0.5))
@settings(max_examples=150, deadline=None)
def test_events_come_in_order_once_and_losses_are_counted(seed: int, loss: float) -> None:
    rng, source, got = random.Random(seed), EventSource(), list[Event]()
    receiver, now, first = EventReceiver(IDS, got.append), 0.0, source.emit()
    receiver.receive(first, now)

    def exchange() -> None:
        for request in receiver.take():
            for answer in source.answer(request):
                if rng.random() >= loss:
                    receiver.receive(answer, now)

    emitted = 1
    for _ in range(100):
        now += 0.2
        event = source.emit()
        emitted += 1
        for _ in range(rng.choice([1, 1, 2])):
            if rng.random() >= loss:
                receiver.receive(event, now)
        receiver.advance(now)
        exchange()
    for _ in range(40):
        now += 0.6
        if rng.random() >= loss:
            receiver.receive(item("CURRENT_EVENT_SEQUENCE", sequence=source.sequence), now)
        receiver.advance(now)
        exchange()
    steps = [(b.sequence - a.sequence) & 0xFFFF for a, b in itertools.pairwise(got)]
    assert all(step == 1 + event.lost_before for step, event in zip(steps, got[1:], strict=True))
    if loss == 0.0:
        assert len(got) == emitted
        assert (got[0].level, got[0].internal_level) == (4, 5)


def test_modes_have_the_same_names_both_ways() -> None:
    for autopilot, kind in ((12, 2), (3, 2), (3, 1), (3, 10)):
        for name in mode_names(autopilot, kind):
            command = mode_command(autopilot, kind, name)
            custom = command.custom << 16 | command.sub << 24 if autopilot == 12 else command.custom
            assert mode_name(autopilot, kind, custom) == name
    assert mode_name(12, 2, 99 << 16) == "mode 0x630000"
    with pytest.raises(ValueError, match="it has manual, altitude"):
        mode_command(12, 2, "warp")


def beat(armed: bool = False, custom: int = 0, **more: Any) -> Message:
    values = {"type": 2, "autopilot": 12, "base_mode": 128 * armed, "custom_mode": custom, "system_status": 3, **more}
    return item("HEARTBEAT", **values)


def test_changes_come_once_a_transition() -> None:
    monitor = VehicleMonitor(IDS)
    assert monitor.receive(beat(custom=4 << 16 | 3 << 24), 0.0) == [Change.CONNECTED, Change.MODE]
    assert monitor.receive(beat(custom=4 << 16 | 3 << 24), 1.0) == []
    assert monitor.receive(beat(armed=True, custom=4 << 16 | 3 << 24), 2.0) == [Change.ARMED]
    assert monitor.state.mode == "hold"
    assert [monitor.advance(at) for at in (3.0, 4.0, 5.0, 6.0, 6.9)] == [[]] * 5
    assert monitor.advance(7.0) == [Change.LOST]
    assert monitor.advance(8.0) == []
    assert not monitor.state.connected
    assert monitor.receive(beat(armed=True, custom=4 << 16 | 3 << 24), 9.0) == [Change.CONNECTED]


def test_a_gateway_that_stood_still_takes_no_vehicle_for_lost() -> None:
    # A hundred vehicles on a busy machine: the clock was looked at before the heartbeats that had come meanwhile.
    monitor = VehicleMonitor(IDS)
    monitor.receive(beat(), 0.0)
    assert monitor.advance(1.0) == []
    assert monitor.advance(9.0) == []
    monitor.receive(beat(), 9.1)
    assert [monitor.advance(at) for at in (10.0, 11.0, 12.0, 13.0, 14.0)] == [[]] * 5
    assert monitor.advance(14.2) == [Change.LOST]


def test_a_ground_station_or_a_camera_is_no_vehicle() -> None:
    monitor = VehicleMonitor(IDS)
    assert monitor.receive(beat(autopilot=8), 0.0) == []
    assert monitor.receive(item("HEARTBEAT", component=100, autopilot=12), 0.0) == []
    assert monitor.receive(item("HEARTBEAT", system=2, autopilot=12), 0.0) == []
    assert not monitor.state.connected


def test_the_state_has_units_and_unknown_values() -> None:
    monitor = VehicleMonitor(IDS)
    for message in (
        item("SYS_STATUS", voltage_battery=0xFFFF, battery_remaining=-1),
        item("GPS_RAW_INT", fix_type=3, satellites_visible=255),
        item("GLOBAL_POSITION_INT", lat=473977420, lon=85455940, alt=500_000, relative_alt=12_000, vz=-150),
        item("EXTENDED_SYS_STATE", landed_state=2),
        item("HOME_POSITION", latitude=473977420, longitude=85455940, altitude=488_000),
    ):
        monitor.receive(message, 0.0)
    state = monitor.state
    assert state.battery_percent is None
    assert math.isnan(state.battery_v)
    assert state.satellites is None
    assert state.has_position
    assert state.position is not None
    assert (state.position.altitude_m, state.position.height_m, state.position.down_m_s) == (500.0, 12.0, -1.5)
    assert state.landed is Landed.IN_AIR
    assert state.in_air
    assert state.home is not None


def test_a_reboot_forgets_the_time_before() -> None:
    monitor = VehicleMonitor(IDS)
    monitor.receive(item("SYSTEM_TIME", time_boot_ms=100_000), 0.0)
    monitor.receive(item("HOME_POSITION", latitude=1), 0.0)
    assert monitor.receive(item("SYSTEM_TIME", time_boot_ms=99_000), 0.0) == []
    assert monitor.receive(item("SYSTEM_TIME", time_boot_ms=500), 0.0) == [Change.REBOOTED]
    assert monitor.state.home is None


def test_an_armed_vehicle_that_does_not_say_where_it_is_may_fly() -> None:
    monitor = VehicleMonitor(IDS)
    monitor.receive(beat(armed=True), 0.0)
    assert monitor.state.in_air
    monitor.receive(item("EXTENDED_SYS_STATE", landed_state=1), 0.0)
    assert not monitor.state.in_air


def test_a_battery_warns_once_a_level() -> None:
    monitor = VehicleMonitor(IDS)
    levels = [monitor.receive(item("BATTERY_STATUS", charge_state=level), 0.0) for level in (1, 2, 2, 3, 1, 7)]
    assert levels == [[], [Change.BATTERY_WARNING], [], [Change.BATTERY_WARNING], [], []]


def test_the_gateway_is_no_autopilot() -> None:
    assert full(heartbeat()).values["autopilot"] == 8
