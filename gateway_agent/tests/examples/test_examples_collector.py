"""Data collection in the microcontrollers' interpreter: nothing is lost that need not be."""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from example_desk import HIFIVE1, Desk, Host, Sensor, result, sample
from hypothesis import given
from hypothesis import strategies as st
from wasmbed.runtime import abi
from wasmbed.runtime.abi import Code, EventType, SensorKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMU, GPS, TEMPERATURE = SensorKind.IMU, SensorKind.GPS, SensorKind.TEMPERATURE
SENSORS = [
    Sensor(IMU, "imu", values=6),
    Sensor(GPS, "gps", values=3),
    Sensor(SensorKind.CAMERA, "eye"),
    Sensor(TEMPERATURE, "t"),
]
RING = 48


@pytest.fixture
def collect(desk: Callable[..., Desk]) -> Callable[..., Desk]:
    def start(*, state: bytes | None = None, secure: Callable[[bytes], int | None] | None = None, **env: str) -> Desk:
        host = Host(env=env, sensors=list(SENSORS), state=state)
        if secure is not None:
            host.secure = secure
        return desk("collector", host)

    return start


def measure(desk: Desk, *values: float, pause_s: float = 0.0) -> None:
    for value in values:
        desk.event(EventType.SENSOR, 3, sample(TEMPERATURE, value, time_ns=desk.realtime_ns))
        desk.advance(pause_s)


def records(messages: list[bytes]) -> list[list[Any]]:
    return [record for message in messages for record in cbor2.loads(message)[3]]


def values(messages: list[bytes]) -> list[float]:
    return [record[4] for record in records(messages)]


def test_it_reads_every_sensor_but_cameras(collect: Callable[..., Desk]) -> None:
    one = collect(INTERVAL_S="0.25")
    assert one.subscriptions == {("sensor", 0): 250, ("sensor", 1): 250, ("sensor", 3): 250}
    assert one.logs == [(2, "collecting from default/board, sensors 3")]


def test_records_arrive_whole_and_in_order(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="5")
    one.event(EventType.SENSOR, 0, sample(IMU, 1, 2, 3, 4, 5, 6, time_ns=77))
    one.event(EventType.SENSOR, 1, sample(GPS, 45.4642031, 9.1900007, 120.5, time_ns=78, wide=True))
    measure(one, 21.5)
    assert one.sent == []
    one.advance(5)
    version, epoch, lost, sent = cbor2.loads(one.sent[0])
    assert (version, epoch, lost) == (1, 0x04030201, 0)
    assert sent[0] == [0, 77, IMU, 0, 1, 2, 3, 4, 5, 6]
    assert sent[1] == [1, 78, GPS, 1, 45.4642031, 9.1900007, 120.5]
    assert sent[2][2:] == [TEMPERATURE, 3, 21.5]


def test_a_full_batch_goes_at_once_and_a_small_one_waits(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="100")
    measure(one, *map(float, range(40)))
    assert len(one.sent) >= 2
    assert all(200 < len(message) <= abi.SMALL_MESSAGE_MAX for message in one.sent)
    before = len(one.sent)
    one.advance(101)
    assert len(one.sent) == before + 1
    assert values(one.sent) == list(map(float, range(40)))


def test_one_batch_is_under_way_at_a_time(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1", secure=lambda _message: None)
    measure(one, *map(float, range(30)), pause_s=0.5)
    assert len(one.sent) == 1
    one.event(EventType.RESULT, 1, result(0))
    assert len(one.sent) == 2


def test_it_sends_again_until_the_gateway_has_it_with_growing_pauses(collect: Callable[..., Desk]) -> None:
    times: list[float] = []
    one = collect(FLUSH_S="1")

    def refuse(_message: bytes) -> int:
        times.append(one.now_ns / 1e9)
        return Code.UNAVAILABLE if len(times) < 9 else 0

    one.host.secure = refuse
    measure(one, 1.0)
    one.advance(600)
    pauses = [round(b - a) for a, b in itertools.pairwise(times)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(set(one.sent)) == 1
    measure(one, 2.0)
    one.advance(2)
    assert values(one.sent[-1:]) == [2.0]


@pytest.mark.parametrize("code", [Code.RATE, Code.AGAIN, Code.UNAVAILABLE])
def test_back_pressure_of_the_host_is_waited_out(collect: Callable[..., Desk], code: Code) -> None:
    one = collect(FLUSH_S="1")
    one.host.secure_refuses = code
    measure(one, *map(float, range(20)), pause_s=1)
    assert one.sent == []
    one.host.secure_refuses = None
    one.advance(60)
    assert values(one.sent) == list(map(float, range(20)))


def test_a_lost_result_is_sent_again(collect: Callable[..., Desk]) -> None:
    outcomes = iter([None, 0])
    one = collect(FLUSH_S="1", secure=lambda _message: next(outcomes))
    measure(one, 5.0)
    one.advance(70)
    assert [values([message]) for message in one.sent] == [[5.0], [5.0]]


def test_a_result_that_comes_too_late_confirms_nothing(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1", secure=lambda _message: None)
    measure(one, 5.0)
    one.advance(70)
    assert len(one.sent) == 2
    one.event(EventType.RESULT, 1, result(0))
    one.event(EventType.RESULT, 2, result(Code.TIMEOUT))
    one.host.secure = lambda _message: 0
    one.advance(70)
    assert values(one.sent) == [5.0, 5.0, 5.0]


def test_a_link_that_is_back_ends_the_pause(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1")
    one.host.secure_refuses = Code.UNAVAILABLE
    measure(one, 1.0)
    one.advance(100)
    one.host.secure_refuses = None
    one.event(EventType.LINK, 1)
    assert values(one.sent) == [1.0]


def test_a_full_ring_loses_the_oldest_and_says_how_many(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1", REPORT_S="50")
    one.host.secure_refuses = Code.UNAVAILABLE
    measure(one, *map(float, range(RING + 10)))
    one.advance(51)
    assert f"delivered 0, waiting {RING}, lost 10, refused 0" in one.text()
    one.host.secure_refuses = None
    one.advance(70)
    assert values(one.sent) == [float(value) for value in range(10, RING + 10)]
    assert cbor2.loads(one.sent[0])[2] == 10


def test_records_that_leave_the_ring_while_under_way_are_not_confirmed_twice(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1", secure=lambda _message: None)
    measure(one, *map(float, range(5)))
    one.advance(1)
    measure(one, *map(float, range(5, RING + 20)))  # what is under way falls out of the ring
    one.host.secure = lambda _message: 0
    one.event(EventType.RESULT, 1, result(0))
    one.advance(10)
    assert values(one.sent[1:]) == [float(value) for value in range(20, RING + 20)]


def test_an_update_hands_over_what_waits(collect: Callable[..., Desk]) -> None:
    old = collect(FLUSH_S="100", secure=lambda _message: None)
    measure(old, 1.0, 2.0, 3.0)
    state = old.save()
    assert state is not None
    assert len(state) <= abi.SMALL_STATE_MAX
    new = collect(FLUSH_S="1", state=state)
    old.stop()
    assert old.sent == []
    assert "took over, waiting 3" in new.text()
    measure(new, 4.0)
    new.advance(1)
    assert values(new.sent) == [1.0, 2.0, 3.0, 4.0]
    assert [record[0] for record in records(new.sent)] == [0, 1, 2, 3]


def test_what_the_state_cannot_hold_is_sent_before_the_update(collect: Callable[..., Desk]) -> None:
    old = collect(FLUSH_S="100")
    old.host.secure_refuses = Code.UNAVAILABLE
    measure(old, *map(float, range(30)))
    old.host.secure_refuses = None
    old.host.secure = lambda _message: None
    state = old.save()
    new = collect(FLUSH_S="1", state=state)
    new.advance(1)
    assert sorted(values(old.sent) + values(new.sent)) == list(map(float, range(30)))


@given(st.binary(max_size=256))
def test_a_state_that_is_not_ours_is_not_taken(
    interpreter: Path, build: Callable[[str, str], bytes], state: bytes
) -> None:
    from example_desk import Desk  # noqa: PLC0415 - the name is a type above

    one = Desk(interpreter, build("collector", "mcu"), Host(env={"FLUSH_S": "1"}, sensors=list(SENSORS), state=state))
    try:
        one.start()
        measure(one, 7.0)
        one.advance(2)
        assert values(one.sent)[-1] == 7.0
    finally:
        one.close()


def test_a_forged_state_with_impossible_records_is_not_taken(collect: Callable[..., Desk]) -> None:
    head = struct.pack("<6I", 1, 9, 9, 0, 1, 0)
    one = collect(FLUSH_S="1", state=head + struct.pack("<qIBBBB24x", 0, 0, 0, 0, 255, 0))
    measure(one, 7.0)
    one.advance(2)
    assert records(one.sent) == [[0, records(one.sent)[0][1], TEMPERATURE, 3, 7.0]]


def test_a_stop_sends_what_is_there(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="100")
    measure(one, 1.0, 2.0)
    one.stop()
    assert values(one.sent) == [1.0, 2.0]
    assert one.logs[-1] == (2, "stopped: sent 2, lost 0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        sample(TEMPERATURE),
        sample(TEMPERATURE, 1.0)[:-1],
        sample(TEMPERATURE, math.nan),
        sample(IMU, *[1.0] * 5, math.inf),
        sample(IMU, *[1.0] * 7),
        sample(GPS, *[1.0] * 4, wide=True),
        abi.SAMPLE.pack(0, TEMPERATURE, 65535, 0, 0, 0, 4) + b"\0" * 4,
        abi.SAMPLE.pack(0, 999, 1, 0, 0, 0, 4) + b"\0" * 4,
        abi.SAMPLE.pack(0, TEMPERATURE, 1, 0, 0, 77, 4) + b"\0" * 4,
    ],
)
def test_damaged_samples_are_refused_and_counted(collect: Callable[..., Desk], data: bytes) -> None:
    one = collect(FLUSH_S="1", REPORT_S="2")
    one.event(EventType.SENSOR, 3, data)
    measure(one, 7.0)
    one.advance(3)
    assert values(one.sent) == [7.0]
    assert "refused 1" in one.text()


def test_sensors_that_come_later_are_read_too(desk: Callable[..., Desk]) -> None:
    one = desk("collector", Host(sensors=[SENSORS[2]], env={"FLUSH_S": "5"}))
    assert "collecting from default/board, sensors 0" in one.text()
    one.host.sensors += [SENSORS[3]]
    one.advance(5)
    assert one.subscriptions == {("sensor", 1): 1000}


def test_it_fits_the_smallest_board(collect: Callable[..., Desk]) -> None:
    one = collect(FLUSH_S="1")
    measure(one, *map(float, range(60)), pause_s=0.1)
    assert one.ram_bytes <= HIFIVE1.ram_bytes
    assert one.stack_used <= HIFIVE1.stack_bytes // 2
    assert one.most_fuel < 200_000
