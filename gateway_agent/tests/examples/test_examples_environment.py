"""The environmental monitor in the microcontrollers' interpreter, with a board's limits."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING

import pytest
from example_desk import HIFIVE1, Host, ModuleFailedError, Sensor, sample
from wasmbed.runtime.abi import Code, EventType, SensorKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_desk import Desk

TEMPERATURE, HUMIDITY, PRESSURE = SensorKind.TEMPERATURE, SensorKind.HUMIDITY, SensorKind.BAROMETER
SENSORS = [Sensor(TEMPERATURE, "t"), Sensor(HUMIDITY, "h"), Sensor(PRESSURE, "p", values=2)]


@pytest.fixture
def monitor(desk: Callable[..., Desk]) -> Callable[..., Desk]:
    def start(sensors: int = 1, **env: str) -> Desk:
        return desk("environment", Host(env=env, sensors=SENSORS[:sensors], routes=("alarms",)))

    return start


def feed(desk: Desk, *values: float, sensor: int = 0) -> None:
    for value in values:
        desk.event(EventType.SENSOR, sensor, sample(SENSORS[sensor].kind, value, *([20.0] if sensor == 2 else [])))
        desk.advance(1)


def states(desk: Desk) -> list[tuple[str, str]]:
    return [(message["quantity"], message["state"]) for message in map(json.loads, desk.sent)]


def test_it_subscribes_to_one_sensor_of_each_quantity(desk: Callable[..., Desk]) -> None:
    sensors = [Sensor(SensorKind.CAMERA, "c"), *SENSORS, Sensor(TEMPERATURE, "second")]
    one = desk("environment", Host(env={"INTERVAL_S": "2.5"}, sensors=sensors))
    assert one.subscriptions == {("sensor", 1): 2500, ("sensor", 2): 2500, ("sensor", 3): 2500}
    assert one.logs == [(2, "watching the environment of default/board")]


def test_an_alarm_begins_and_ends_once_around_its_limit(monitor: Callable[..., Desk]) -> None:
    one = monitor(TEMPERATURE_HIGH="30", TEMPERATURE_HYSTERESIS="2")
    noise = random.Random(7)
    around = [30 + noise.gauss(0, 0.5) for _ in range(200)]
    feed(one, *[25.0] * 10, *[35.0] * 20, *around, *[25.0] * 20)
    assert states(one) == [("temperature", "high"), ("temperature", "normal")]
    assert [alias for alias, _ in one.published] == ["alarms", "alarms"]
    inner = json.loads(json.loads(one.published[0][1])["data"])
    assert inner["state"] == "high"
    assert 30 < inner["value"] < 36
    assert [topic for topic, _ in one.messages] == ["alarm", "alarm"]
    assert any(level == 1 and text.startswith("temperature high: 3") for level, text in one.logs)


def test_single_outliers_raise_no_alarm(monitor: Callable[..., Desk]) -> None:
    one = monitor()
    feed(one, *([21.0] * 6 + [149.0]) * 30)
    assert one.sent == []


def test_what_is_over_before_it_lasted_is_no_alarm(monitor: Callable[..., Desk]) -> None:
    one = monitor(TEMPERATURE_HIGH="30")
    feed(one, 31.0, 10.0, 10.0, 10.0)  # smoothed 31, 31, 25.75, ...
    assert one.sent == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -91.0, 151.0])
def test_what_cannot_be_a_temperature_is_refused_and_counted(monitor: Callable[..., Desk], value: float) -> None:
    one = monitor(REPORT_S="10")
    feed(one, 20.0, *[value] * 5, 20.0, 20.0, 20.0)
    one.advance(2)
    assert one.sent == []
    assert "temperature 20.00 (20.00 to 20.00), samples 4, refused 5, events lost 0" in one.text()


def test_each_quantity_has_its_own_alarm(monitor: Callable[..., Desk]) -> None:
    one = monitor(3, PRESSURE_LOW="90000", HUMIDITY_HIGH="80")
    feed(one, *[101_325.0] * 5, *[80_000.0] * 30, sensor=2)
    feed(one, *[50.0] * 5, *[99.0] * 30, sensor=1)
    assert ("pressure", "low") in states(one)
    assert ("humidity", "high") in states(one)
    assert not any(quantity == "temperature" and state in ("high", "low") for quantity, state in states(one))


def test_a_silent_sensor_is_an_alarm_until_it_speaks_again(monitor: Callable[..., Desk]) -> None:
    one = monitor(3, SILENT_S="30")
    for _ in range(60):
        for sensor in (1, 2):
            feed(one, 50.0 if sensor == 1 else 100_000.0, sensor=sensor)
    assert states(one) == [("temperature", "silent")]
    feed(one, 20.0)
    assert states(one)[-1] == ("temperature", "normal")


def test_a_sensor_that_only_says_nonsense_counts_as_silent(monitor: Callable[..., Desk]) -> None:
    one = monitor(SILENT_S="10")
    feed(one, 20.0, *[math.nan] * 20)
    assert ("temperature", "silent") in states(one)


def test_an_alarm_is_sent_again_until_the_cloud_has_it(monitor: Callable[..., Desk]) -> None:
    one = monitor(TEMPERATURE_HIGH="30", SILENT_S="40")
    outcomes = iter([Code.UNAVAILABLE, Code.TIMEOUT, 0])
    one.host.secure = lambda _message: next(outcomes)
    feed(one, *[50.0] * 60)
    assert states(one) == [("temperature", "high")] * 3
    one.advance(1)
    assert len(one.sent) == 3


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RATE, Code.AGAIN])
def test_an_alarm_that_cannot_be_sent_at_all_is_sent_later(monitor: Callable[..., Desk], code: Code) -> None:
    one = monitor(TEMPERATURE_HIGH="30", SILENT_S="40")
    one.host.secure_refuses = code
    feed(one, *[50.0] * 20)
    assert one.sent == []
    one.host.secure_refuses = None
    feed(one, *[50.0] * 12)
    assert states(one) == [("temperature", "high")]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 23, sample(TEMPERATURE), sample(TEMPERATURE, 99.0)[:-1], sample(HUMIDITY, 99.0), b"\xff" * 28],
)
def test_damaged_samples_change_nothing(monitor: Callable[..., Desk], data: bytes) -> None:
    one = monitor(TEMPERATURE_HIGH="30", REPORT_S="20")
    for _ in range(12):
        one.event(EventType.SENSOR, 0, data)
    feed(one, *[20.0] * 20)
    assert one.sent == []
    assert "samples 20, refused 0" in one.text() or "samples 19, refused 0" in one.text()


@pytest.mark.parametrize("value", ["", "warm", "1e3", "300", "12x", "--1", "1.2.3", "9" * 40])
def test_a_setting_that_is_no_number_in_range_ends_the_start(desk: Callable[..., Desk], value: str) -> None:
    one = desk("environment", Host(env={"TEMPERATURE_HIGH": value}, sensors=list(SENSORS)), run=False)
    with pytest.raises(ModuleFailedError, match="wasmbed_init returned -22"):
        one.start()
    assert one.logs[-1] == (0, "TEMPERATURE_HIGH")


def test_a_sensor_that_comes_later_is_found(desk: Callable[..., Desk]) -> None:
    one = desk("environment", Host(env={"TEMPERATURE_HIGH": "30", "SILENT_S": "20"}))
    assert one.logs[0] == (1, "no sensor of temperature, humidity or pressure yet")
    one.advance(60)
    one.host.sensors += SENSORS[:1]
    one.advance(5)
    assert one.subscriptions == {("sensor", 0): 1000}
    feed(one, *[50.0] * 10)
    assert states(one) == [("temperature", "high")]


def test_lost_events_are_told(monitor: Callable[..., Desk]) -> None:
    one = monitor(REPORT_S="5")
    one.lost = 7
    feed(one, *[20.0] * 6)
    assert "events lost 7" in one.text()


def test_it_fits_the_smallest_board(monitor: Callable[..., Desk]) -> None:
    one = monitor(TEMPERATURE_HIGH="30")
    feed(one, *[50.0] * 60)
    assert one.ram_bytes <= HIFIVE1.ram_bytes // 2
    assert one.stack_used <= HIFIVE1.stack_bytes // 2
    assert one.most_fuel < 100_000
