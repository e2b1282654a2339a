"""Records of the ABI: heights, frames, places, and telemetry of odd values, without a vehicle."""

from __future__ import annotations

import math

import pytest
from wasmbed.bridges.mavlink import Message, VehicleState
from wasmbed.bridges.mavlink.vehicle_state import Position
from wasmbed.gateway.px4_codec import RecordError, command_of, record_of, setpoint_of
from wasmbed.runtime import abi
from wasmbed.runtime.abi import Telemetry

NAN = float("nan")
HOME = VehicleState(connected=True, autopilot=12, home=Position(47.0, 8.0, 488.0, 0.0))
ARDUPILOT = VehicleState(connected=True, autopilot=3, home=Position(47.0, 8.0, 488.0, 0.0))


def command(number: int, frame: int, *place: float) -> bytes:
    return abi.COMMAND.pack(number, frame, 0.0, 0.0, 0.0, NAN, *place)


@pytest.mark.parametrize(
    ("number", "frame", "state", "altitude", "expected"),
    [
        (192, 0, HOME, 500.0, 500.0),
        (192, 3, HOME, 12.0, 500.0),
        (22, 3, HOME, 12.0, 500.0),
        (22, 0, ARDUPILOT, 500.0, 12.0),
        (22, 3, ARDUPILOT, 12.0, 12.0),
    ],
)
def test_heights_become_what_the_autopilot_takes(
    number: int, frame: int, state: VehicleState, altitude: float, expected: float
) -> None:
    """A relative height in a COMMAND_LONG would have been taken as one above sea level."""
    assert command_of(command(number, frame, 47.1, 8.1, altitude), state).all_params[6] == expected


def test_only_a_command_with_a_place_has_a_frame() -> None:
    assert command_of(command(192, 3, 47.1, 8.1, 12.0), HOME).frame == 0
    assert command_of(command(21, 0, NAN, NAN, NAN), HOME).frame is None
    assert command_of(command(400, 0, 0.0, 0.0, 0.0), HOME).frame is None


def test_a_relative_height_without_a_home_is_refused() -> None:
    with pytest.raises(RecordError, match="height of home is not known"):
        command_of(command(22, 3, NAN, NAN, 12.0), VehicleState())


def test_a_global_setpoint_has_its_height_as_minus_z() -> None:
    made = setpoint_of(abi.SETPOINT.pack(3, NAN, NAN, -12.0, *(NAN,) * 5, 47.0, 8.0))
    assert made.numbers() == (47.0, 8.0, 12.0)


def test_an_attitude_that_is_no_number_is_not_known() -> None:
    """Found by the fuzzer: the cosine of infinity is a ValueError."""
    angles = {"roll": math.inf, "pitch": 0.0, "yaw": 0.0, "rollspeed": 0.5, "pitchspeed": 0.0, "yawspeed": 0.0}
    found = record_of(Message("ATTITUDE", angles, 1, 1), 7)
    assert found is not None
    values = abi.TELEMETRY[Telemetry.ATTITUDE].unpack(found[1])
    assert all(map(math.isnan, values[1:5]))
    assert values[5] == 0.5


def test_a_turn_of_the_nose_is_the_same_as_a_quaternion() -> None:
    angles = {"roll": 0.0, "pitch": 0.0, "yaw": 1.0, "rollspeed": 0.0, "pitchspeed": 0.0, "yawspeed": 0.0}
    found = record_of(Message("ATTITUDE", angles, 1, 1), 7)
    assert found is not None
    assert abi.TELEMETRY[Telemetry.ATTITUDE].unpack(found[1])[1:5] == pytest.approx(
        (math.cos(0.5), 0.0, 0.0, math.sin(0.5))
    )
