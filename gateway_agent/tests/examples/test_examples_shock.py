"""The shock detector in the microcontrollers' interpreter, with the CBOR that the bridge makes of an Imu."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import cbor2
import pytest
from example_desk import HIFIVE1, Host, ModuleFailedError
from wasmbed.bridges.ros2.types import CodecFactory, Plain, TypeStore
from wasmbed.runtime.abi import ROS2_HEADER, EventType, Ros2Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_desk import Desk

IMU = "sensor_msgs/msg/Imu"
G = 9.81


def event(payload: bytes, kind: Ros2Kind = Ros2Kind.MESSAGE) -> bytes:
    return ROS2_HEADER.pack(kind, 0, 0, 1) + payload


@pytest.fixture(scope="module")
def imu() -> Callable[..., bytes]:
    """A message as the manifest's route delivers it."""
    codecs = CodecFactory(TypeStore.of("jazzy"))
    plain = Plain(codecs, IMU, ("linear_acceleration",))

    def make(z: float, x: float = 0.0) -> bytes:
        message = codecs.cls(IMU)()
        message.linear_acceleration.x, message.linear_acceleration.z = x, z
        return plain.to_cbor(message)

    return make


@pytest.fixture
def shock(desk: Callable[..., Desk], imu: Callable[..., bytes]) -> Callable[..., Desk]:
    def start(**env: str) -> Desk:
        one = desk("shock", Host(env=env, routes=("imu", "alarm")))
        one.event(EventType.ROS2, 0, event(imu(G)))
        return one

    return start


def feed(desk: Desk, imu: Callable[..., bytes], *values: float, every_s: float = 0.02) -> None:
    for value in values:
        desk.event(EventType.ROS2, 0, event(imu(value)))
        desk.advance(every_s)


def alarms(desk: Desk) -> list[str]:
    """What ROS 2 was told; every one is a whole std_msgs/String."""
    return [json.loads(data)["data"] for alias, data in desk.published if alias == "alarm"]


def test_a_single_shock_is_told_and_its_end_after_a_quiet_while(
    shock: Callable[..., Desk], imu: Callable[..., bytes]
) -> None:
    one = shock()
    feed(one, imu, *[G] * 50, 61.0, *[G] * 50)
    assert alarms(one) == ["shock 61.0 m/s2"]
    feed(one, imu, *[G] * 100)
    assert alarms(one) == ["shock 61.0 m/s2", "normal 9.8 m/s2"]
    assert (1, "shock: 61.0 m/s2") in one.logs


def test_the_direction_of_a_shock_does_not_matter(shock: Callable[..., Desk], imu: Callable[..., bytes]) -> None:
    one = shock()
    one.event(EventType.ROS2, 0, event(imu(18.0, -18.0)))
    assert alarms(one) == ["shock 25.5 m/s2"]


def test_free_fall_takes_three_messages_in_a_row(shock: Callable[..., Desk], imu: Callable[..., bytes]) -> None:
    one = shock()
    feed(one, imu, *[0.3, 0.3, G] * 20)
    assert alarms(one) == []
    feed(one, imu, *[0.3] * 10, 90.0, *[G] * 150)
    assert alarms(one) == ["fall 0.3 m/s2", "shock 90.0 m/s2", "normal 9.8 m/s2"]


def test_a_silent_sensor_is_an_alarm_until_it_speaks(shock: Callable[..., Desk], imu: Callable[..., bytes]) -> None:
    one = shock(SILENT_S="3")
    one.advance(5)
    assert alarms(one) == ["silent 9.8 m/s2"]
    feed(one, imu, G)
    assert alarms(one)[1:] == ["normal 9.8 m/s2"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_acceleration_is_refused_and_counts_as_silence(
    shock: Callable[..., Desk], imu: Callable[..., bytes], value: float
) -> None:
    one = shock(SILENT_S="3", REPORT_S="4")
    feed(one, imu, *[value] * 100, every_s=0.05)
    assert alarms(one) == ["silent 9.8 m/s2"]
    assert any("refused 80" in text or "refused 79" in text for _, text in one.logs)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa1",
        cbor2.dumps({}),
        cbor2.dumps({"linear_acceleration": 99.0}),
        cbor2.dumps({"linear_acceleration": {"x": 99.0, "y": 99.0}}),
        cbor2.dumps({"linear_acceleration": {"x": 99.0, "z": 99.0, "y": 99.0}}),
        cbor2.dumps({"linear_acceleration": {"x": 99.0, "y": 99.0, "z": "99"}}),
        cbor2.dumps({"angular_velocity": {"x": 99.0, "y": 99.0, "z": 99.0}}),
        cbor2.dumps({"linear_acceleration": {"x": 99.0, "y": 99.0, "z": 99.0}}) + b"\0",
        cbor2.dumps({"linear_acceleration": {"x": 99.0, "y": 99.0, "z": 99.0}})[:-1],
        b"\xff" * 136,
        bytes(400),
    ],
)
def test_other_messages_change_nothing(shock: Callable[..., Desk], payload: bytes) -> None:
    one = shock(REPORT_S="1")
    one.event(EventType.ROS2, 0, event(payload))
    one.advance(1.5)
    assert alarms(one) == []
    assert "normal, messages 1, refused 1, lost 0, peak 9.8" in one.text()


def test_every_beginning_of_a_message_is_refused(shock: Callable[..., Desk], imu: Callable[..., bytes]) -> None:
    one = shock()
    whole = event(imu(99.0))
    for length in range(len(whole)):
        one.event(EventType.ROS2, 0, whole[:length])
    assert alarms(one) == []
    one.event(EventType.ROS2, 0, whole)
    assert alarms(one) == ["shock 99.0 m/s2"]


def test_routes_that_come_later_are_opened_and_the_alarm_is_told_then(
    desk: Callable[..., Desk], imu: Callable[..., bytes]
) -> None:
    one = desk("shock", Host(env={"SILENT_S": "1"}))
    one.advance(3)
    assert one.published == []
    one.host.routes = ("imu", "alarm")
    one.advance(1)
    assert alarms(one) == ["silent 0.0 m/s2"]
    feed(one, imu, 70.0)
    assert alarms(one)[1:] == ["shock 70.0 m/s2"]


@pytest.mark.parametrize(("name", "value"), [("SHOCK", "hard"), ("FALL", "10"), ("SILENT_S", "0")])
def test_a_setting_that_is_no_number_in_range_ends_the_start(desk: Callable[..., Desk], name: str, value: str) -> None:
    one = desk("shock", Host(env={name: value}, routes=("imu", "alarm")), run=False)
    with pytest.raises(ModuleFailedError, match="wasmbed_init returned -22"):
        one.start()
    assert one.logs[-1] == (0, name)


def test_it_fits_the_smallest_board(shock: Callable[..., Desk], imu: Callable[..., bytes]) -> None:
    one = shock()
    feed(one, imu, *[G, 40.0] * 20)
    assert one.ram_bytes <= HIFIVE1.ram_bytes // 2
    assert one.stack_used <= HIFIVE1.stack_bytes // 2
    assert one.most_fuel < 100_000
