"""px4_msgs: layouts against the published definitions, CDR, and conversions both ways with units and unknown values."""

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import IDS
from wasmbed.bridges.mavlink.codec import Message, full
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.px4 import RELEASES, FromPx4, Px4Message, ToPx4, definitions, topics
from wasmbed.bridges.mavlink.px4.layouts import LAYOUTS
from wasmbed.bridges.mavlink.px4.messages import from_cdr, to_cdr
from wasmbed.bridges.mavlink.px4.rotations import from_euler, to_euler
from wasmbed.bridges.mavlink.px4.states import nav_state
from wasmbed.bridges.mavlink.px4.to_px4 import CONVERTED

# <release>/msg/*.msg of the published px4_msgs; beside the repository unless the environment says where.
BESIDE = Path(__file__).resolve().parents[5] / "shared/data/px4_msgs"
PUBLISHED = Path(os.environ.get("PX4_MSGS", BESIDE))
SHORT = {"bool": "bool", "float32": "f32", "float64": "f64"}
SHORT |= {f"{sign}int{bits}": f"{'u' if sign else 'i'}{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)}
NOW = 5_000_000


def published(release: str, name: str) -> tuple[int, list[tuple[str, str, int]], dict[str, int]]:
    path = PUBLISHED / release / "msg" / f"{name}.msg"
    if not path.is_file():
        pytest.skip("set PX4_MSGS to a folder with the .msg files by release: <release>/msg/*.msg")
    version, fields, constants = 0, [], {}
    for line in path.read_text().splitlines():
        text = line.split("#")[0].strip()
        if constant := re.match(r"(\S+)\s+(\w+)\s*=\s*(-?\d+)", text):
            constants[constant[2]] = int(constant[3])
        elif declared := re.match(r"(\w+)(?:\[(\d+)\])?\s+(\w+)$", text):
            fields.append((declared[3], SHORT[declared[1]], int(declared[2] or 0)))
    return constants.get("MESSAGE_VERSION", version), fields, constants


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_the_published_one(release: str, name: str) -> None:
    version, fields, _ = published(release, name)
    definition = definitions(release)[name]
    assert [(item.name, item.type, item.array) for item in definition.fields] == fields
    assert definition.version == version


@pytest.mark.parametrize("release", RELEASES)
def test_navigation_states_have_the_published_numbers(release: str) -> None:
    _, _, constants = published(release, "VehicleStatus")
    modes = {
        "MANUAL": (1, 0), "ALTCTL": (2, 0), "POSCTL": (3, 0), "ORBIT": (3, 1), "POSITION_SLOW": (3, 2),
        "AUTO_TAKEOFF": (4, 2), "AUTO_LOITER": (4, 3), "AUTO_MISSION": (4, 4), "AUTO_RTL": (4, 5), "AUTO_LAND": (4, 6),
        "AUTO_FOLLOW_TARGET": (4, 8), "AUTO_PRECLAND": (4, 9), "AUTO_VTOL_TAKEOFF": (4, 10), "EXTERNAL1": (4, 11),
        "EXTERNAL8": (4, 18), "ACRO": (5, 0), "OFFBOARD": (6, 0), "STAB": (7, 0), "TERMINATION": (10, 0),
        "ALTITUDE_CRUISE": (11, 0),
    }  # fmt: skip
    for name, (main, sub) in modes.items():
        assert nav_state(main << 16 | sub << 24, release) == constants.get(f"NAVIGATION_STATE_{name}"), name
    assert nav_state(99 << 16, release) is None


def test_topics_carry_the_version_from_their_release_on() -> None:
    names = {release: {topic.name for topic in topics(release)[0].values()} for release in RELEASES}
    assert "/fmu/out/vehicle_status" in names["1.15"]
    assert "/fmu/out/vehicle_status_v1" in names["1.16"]
    assert "/fmu/out/battery_status" in names["1.16"]
    assert {"/fmu/out/battery_status_v1", "/fmu/out/home_position_v1"} <= names["1.17"]
    assert {"/fmu/out/vehicle_status_v4", "/fmu/out/vehicle_command_ack_v1"} <= names["1.18"]
    outputs, inputs = topics("1.16", "uav_3")
    assert inputs["VehicleCommand"].name == "/uav_3/fmu/in/vehicle_command"
    assert (outputs["VehicleStatus"].reliable, outputs["VehicleStatus"].transient_local) == (False, True)
    assert not inputs["VehicleCommand"].transient_local
    with pytest.raises(ValueError, match="set one of"):
        definitions("1.13")


def converted(release: str, *items: Message) -> list[Px4Message]:
    bridge = ToPx4(release)
    return [made for item in items for made in bridge.receive(item, NOW)]


def item(name: str, **values: Any) -> Message:
    return full(Message(name, values, 7, 1))


def one(release: str, name: str, **values: Any) -> Px4Message:
    (made,) = converted(release, item(name, **values))
    return made


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", sorted(CONVERTED))
def test_every_conversion_fits_every_release_and_survives_cdr(release: str, name: str) -> None:
    for made in converted(release, item(name)):
        assert list(made.values) == [field.name for field in made.definition.fields]
        data = to_cdr(made)
        back = from_cdr(made.definition, data)
        assert to_cdr(back) == data
        if "timestamp" in made.values:
            assert made["timestamp"] == NOW


def test_cdr_is_what_an_independent_serializer_writes() -> None:
    store_module = pytest.importorskip("rosbags.typesys")
    for release in RELEASES:
        store = store_module.get_typestore(store_module.Stores.EMPTY)
        for name in LAYOUTS:
            published(release, name)
            text = (PUBLISHED / release / "msg" / f"{name}.msg").read_text()
            store.register(store_module.get_types_from_msg(text, f"px4_msgs/msg/{name}"))
        numpy = pytest.importorskip("numpy")
        for source in sorted(CONVERTED):
            for made in converted(release, item(source)):
                kinds = {"f32": "float32", "f64": "float64"}
                arrays = {
                    field.name: numpy.array(made[field.name], dtype=kinds[field.type])
                    for field in made.definition.fields
                    if field.array
                }
                theirs = store.types[f"px4_msgs/msg/{made.name}"](**{**made.values, **arrays})
                assert bytes(store.serialize_cdr(theirs, f"px4_msgs/msg/{made.name}"))[4:] == to_cdr(made)[4:], (
                    made.name
                )


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x00\x00", b"\x00\x00\x00\x00" + bytes(16), b"\x00\x01\x00\x00" + bytes(200)]
)
def test_cdr_of_another_length_or_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="OffboardControlMode"):
        from_cdr(definitions("1.16")["OffboardControlMode"], data)


def test_the_status_is_put_together_from_several_messages() -> None:
    ready = {"onboard_control_sensors_enabled": 1 << 28, "onboard_control_sensors_health": 1 << 28}
    made = converted(
        "1.16",
        item("SYS_STATUS", **ready),
        item("EXTENDED_SYS_STATE", vtol_state=1, landed_state=2),
        item("HEARTBEAT", type=22, autopilot=12, base_mode=128, custom_mode=6 << 16, system_status=4),
    )
    assert [message.name for message in made] == ["VehicleLandDetected", "VehicleStatus"]
    assert not made[0]["landed"]
    status = made[1]
    assert (status["arming_state"], status["nav_state"], status["pre_flight_checks_pass"]) == (2, 14, True)
    assert (status["is_vtol"], status["in_transition_mode"], status["vehicle_type"]) == (True, True, 2)
    assert (status["system_id"], status["armed_time"], status["failsafe"]) == (7, NOW, False)
    assert converted("1.16", item("HEARTBEAT", autopilot=8)) == []


def test_battery_units_and_unknown_values() -> None:
    full_pack = one(
        "1.16", "BATTERY_STATUS", id=0, voltages=(4100, 4000, 4050, *(65535,) * 7), current_battery=1234,
        current_consumed=250, battery_remaining=73, temperature=2550, time_remaining=600, charge_state=2,
    )  # fmt: skip
    assert full_pack["voltage_v"] == pytest.approx(12.15)
    assert (full_pack["cell_count"], full_pack["id"], full_pack["warning"]) == (3, 1, 1)
    assert full_pack["max_cell_voltage_delta"] == pytest.approx(0.1)
    assert (full_pack["current_a"], full_pack["remaining"], full_pack["temperature"]) == (12.34, 0.73, 25.5)
    unknown = one(
        "1.16", "BATTERY_STATUS", voltages=(65535,) * 10, current_battery=-1, current_consumed=-1,
        battery_remaining=-1, temperature=32767,
    )  # fmt: skip
    assert (unknown["connected"], unknown["voltage_v"], unknown["current_a"]) == (False, 0.0, -1.0)
    assert (unknown["remaining"], unknown["discharged_mah"]) == (-1.0, -1.0)
    assert math.isnan(unknown["temperature"])
    assert math.isnan(unknown["time_remaining_s"])
    whole = one("1.16", "BATTERY_STATUS", voltages=(16000, *(65535,) * 9))
    assert (whole["voltage_v"], whole["cell_count"]) == (16.0, 0)


def test_positions() -> None:
    made = converted(
        "1.16",
        item("GPS_GLOBAL_ORIGIN", latitude=473977420, longitude=85455940, altitude=488000),
        item("ESTIMATOR_STATUS", pos_horiz_accuracy=0.5, pos_vert_accuracy=0.75),
        item("DISTANCE_SENSOR", orientation=25, min_distance=10, max_distance=4000, current_distance=250),
        item("ATTITUDE", yaw=1.25),
        item("LOCAL_POSITION_NED", time_boot_ms=42, x=1.0, y=2.0, z=-3.0, vz=-0.5),
        item("GLOBAL_POSITION_INT", time_boot_ms=43, lat=473977420, lon=85455940, alt=500_500),
    )
    local, place = made[1], made[2]
    assert (local["x"], local["z"], local["vz"], local["timestamp_sample"]) == (1.0, -3.0, -0.5, 42_000)
    assert (local["heading"], local["heading_good_for_control"], local["xy_global"]) == (1.25, True, True)
    assert (local["ref_lat"], local["ref_alt"], local["dist_bottom"]) == (47.397742, 488.0, 2.5)
    assert (local["eph"], local["epv"], local["dist_bottom_valid"], local["vxy_max"]) == (0.5, 0.75, True, math.inf)
    assert (place["lat"], place["lon"], place["alt"]) == (47.397742, 8.545594, 500.5)
    assert math.isnan(place["alt_ellipsoid"])
    alone = one("1.16", "LOCAL_POSITION_NED")
    assert not alone["xy_global"]
    assert math.isnan(alone["ref_lat"])
    assert math.isnan(alone["eph"])


def test_the_quaternion_is_preferred_to_the_angles() -> None:
    bridge = ToPx4("1.16")
    assert len(bridge.receive(item("ATTITUDE", yaw=1.0), 0)) == 1
    bridge.receive(item("ATTITUDE_QUATERNION", q1=1.0), 10_000)
    assert bridge.receive(item("ATTITUDE", yaw=1.0), 20_000) == []
    assert len(bridge.receive(item("ATTITUDE", yaw=1.0), 2_000_000)) == 1


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
@settings(deadline=None)
def test_rotations_are_the_same_both_ways(roll: float, pitch: float, yaw: float) -> None:
    assert to_euler(from_euler(roll, pitch, yaw)) == pytest.approx((roll, pitch, yaw), abs=1e-6)


def test_odometry_frames_and_variances() -> None:
    covariance = [0.0] * 21
    for number, at in enumerate((0, 6, 11, 15, 18, 20)):
        covariance[at] = float(number + 1)
    values = {"frame_id": 1, "child_frame_id": 12, "x": 1.0, "vx": 2.0, "q": (1.0, 0.0, 0.0, 0.0)}
    made = one("1.16", "ODOMETRY", **values, pose_covariance=covariance, velocity_covariance=(math.nan,) * 21)
    assert (made["pose_frame"], made["velocity_frame"]) == (1, 3)
    assert made["position_variance"] == (1.0, 2.0, 3.0)
    assert made["orientation_variance"] == (4.0, 5.0, 6.0)
    assert all(map(math.isnan, made["velocity_variance"]))
    strange = one("1.16", "ODOMETRY", frame_id=7, child_frame_id=7)
    assert strange["pose_frame"] == strange["velocity_frame"] == 0
    assert all(map(math.isnan, (*strange["position"], *strange["q"], *strange["velocity"])))
    (back,) = FromPx4(IDS).receive(made, NOW)
    assert (back.name, back["frame_id"], back["child_frame_id"], back["pose_covariance"]) == (
        "ODOMETRY",
        1,
        12,
        tuple(covariance),
    )
    full(back)


def test_imu_actuators_home_and_acknowledgements() -> None:
    bridge = ToPx4("1.16")
    values = {"xacc": 0.1, "zacc": -9.8, "zgyro": 0.5, "fields_updated": 63}
    bridge.receive(item("HIGHRES_IMU", time_usec=1_000, **values), NOW)
    (imu,) = bridge.receive(item("HIGHRES_IMU", time_usec=5_000, **values), NOW)
    assert (imu["gyro_integral_dt"], imu["accelerometer_m_s2"][2]) == (4_000, pytest.approx(-9.8))
    assert one("1.16", "HIGHRES_IMU", fields_updated=0b111000)["accelerometer_timestamp_relative"] == 2**31 - 1
    assert converted("1.16", item("HIGHRES_IMU", fields_updated=0b111)) == []
    servos = one("1.16", "SERVO_OUTPUT_RAW", servo1_raw=1500, servo4_raw=1100)
    assert (servos["noutputs"], servos["output"][3]) == (4, 1100.0)
    assert converted("1.16", item("SERVO_OUTPUT_RAW", port=1)) == []
    assert one("1.16", "ACTUATOR_OUTPUT_STATUS", active=0b101, actuator=(0.5,) * 32)["noutputs"] == 3
    home = one("1.17", "HOME_POSITION", latitude=473977420, altitude=488_000, q=from_euler(0.1, 0.2, 0.3))
    assert (home["lat"], home["alt"], home["valid_lpos"]) == (47.397742, 488.0, True)
    assert home["yaw"] == pytest.approx(0.3)
    assert "roll" not in one("1.16", "HOME_POSITION").values
    assert math.isnan(one("1.16", "HOME_POSITION")["yaw"])
    assert one("1.18", "COMMAND_ACK", result=9)["result"] == 9
    assert one("1.17", "COMMAND_ACK", result=9)["result"] == 3
    gps = one(
        "1.16",
        "GPS_RAW_INT",
        fix_type=3,
        lat=473977420,
        eph=65535,
        h_acc=500,
        vel=500,
        cog=9000,
        satellites_visible=255,
    )
    assert (gps["latitude_deg"], gps["eph"], gps["satellites_used"]) == (47.397742, 0.5, 0)
    assert math.isnan(gps["hdop"])
    assert (gps["vel_n_m_s"], gps["vel_e_m_s"]) == pytest.approx((0.0, 5.0))
    assert one("1.14", "GPS_RAW_INT", lat=473977420)["lat"] == 473977420


def px4(name: str, release: str = "1.16", **values: Any) -> Px4Message:
    return definitions(release)[name].make(values)


def test_setpoints_pass_only_while_the_control_mode_lives() -> None:
    bridge = FromPx4(IDS)
    nothing = (math.nan,) * 3
    free = {"velocity": nothing, "acceleration": nothing, "yaw": math.nan, "yawspeed": 0.5}
    setpoint = px4("TrajectorySetpoint", position=(1.0, 2.0, -3.0), **free)
    assert bridge.receive(setpoint, 0) == []
    bridge.receive(px4("OffboardControlMode", position=True), 0)
    (made,) = bridge.receive(setpoint, 400_000)
    assert (made["x"], made["z"], made["yaw_rate"], made["type_mask"]) == (1.0, -3.0, 0.5, 0b0101_1111_1000)
    assert made["target_system"] == 1
    full(made)
    assert bridge.receive(setpoint, 500_001) == []
    bridge.receive(px4("OffboardControlMode", velocity=True), 600_000)
    assert bridge.receive(setpoint, 600_000) == []
    part = px4(
        "TrajectorySetpoint", position=(math.nan,) * 3, velocity=(1.0, math.nan, 0.0), acceleration=(math.nan,) * 3
    )
    (made,) = bridge.receive(part, 600_000)
    assert made["type_mask"] == 0b0001_1101_0111
    bridge.receive(px4("OffboardControlMode", attitude=True), 700_000)
    assert bridge.receive(part, 700_000) == []
    attitude = px4("VehicleAttitudeSetpoint", q_d=(1.0, 0.0, 0.0, 0.0), thrust_body=(0.0, 0.0, -0.6))
    (made,) = bridge.receive(attitude, 700_000)
    assert made["thrust"] == pytest.approx(0.6)
    bridge.receive(px4("OffboardControlMode", body_rate=True), 800_000)
    (made,) = bridge.receive(px4("VehicleRatesSetpoint", roll=0.1, thrust_body=(0.4, 0.0, 0.0)), 800_000)
    assert (made["body_roll_rate"], made["thrust"], made["type_mask"]) == (0.1, 0.4, 128)


def test_commands_with_a_place_keep_their_precision() -> None:
    bridge = FromPx4(IDS)
    command = px4("VehicleCommand", command=192, param5=47.3977421, param6=8.5455945, param7=500.0, target_system=1)
    (made,) = bridge.receive(command, 0)
    assert (made.name, made["x"], made["y"], made["z"]) == ("COMMAND_INT", 473977421, 85455945, 500.0)
    (made,) = bridge.receive(px4("VehicleCommand", command=400, param1=1.0, confirmation=2), 0)
    assert (made.name, made["param1"], made["confirmation"]) == ("COMMAND_LONG", 1.0, 2)
    (made,) = bridge.receive(px4("VehicleCommand", command=21, param5=math.nan, param6=math.nan), 0)
    assert made.name == "COMMAND_LONG"
    assert bridge.receive(px4("VehicleCommand", command=400, target_system=9), 0) == []


@pytest.mark.parametrize("release", RELEASES)
def test_commands_come_back_as_they_went(release: str) -> None:
    bridge = FromPx4(IDS)
    for number, place in ((192, (47.3977421, 8.5455945)), (400, (0.0, 0.0)), (21, (math.nan, math.nan))):
        values = {f"param{index}": float(index) for index in range(1, 5)}
        sent = px4("VehicleCommand", release, command=number, param5=place[0], param6=place[1], param7=9.0, **values)
        (made,) = bridge.receive(sent, 0)
        back = bridge.command_of(full(made), release, 0)
        for field in ("command", "param1", "param4", "param5", "param6", "param7"):
            assert back[field] == pytest.approx(sent[field], nan_ok=True), field
        to_cdr(back)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
@settings(deadline=None)
def test_sticks_come_back_as_they_went(roll: float, pitch: float, yaw: float, throttle: float) -> None:
    sent = px4(
        "ManualControlSetpoint", valid=True, roll=roll, pitch=pitch, yaw=yaw, throttle=throttle, aux1=0.5,
        **{f"aux{number}": math.nan for number in range(2, 7)},
    )  # fmt: skip
    (made,) = FromPx4(IDS).receive(sent, 0)
    (back,) = ToPx4("1.16").receive(full(made), 0)
    for field in ("roll", "pitch", "yaw", "throttle", "aux1"):
        assert back[field] == pytest.approx(sent[field], abs=2e-3)
    assert math.isnan(back["aux2"])
    assert FromPx4(IDS).receive(px4("ManualControlSetpoint", valid=False), 0) == []
    lost = px4("ManualControlSetpoint", valid=True, roll=math.nan, throttle=math.nan)
    (made,) = FromPx4(IDS).receive(lost, 0)
    assert made["y"] == made["z"] == 32767


def test_every_converted_message_exists() -> None:
    assert set(default_dialect().by_name) >= CONVERTED


def test_a_command_that_mavlink_cannot_carry_is_not_sent() -> None:
    """Found by the fuzzer: px4_msgs has 64-bit places and 32-bit command numbers."""
    bridge = FromPx4(IDS)
    assert bridge.receive(px4("VehicleCommand", command=400, param5=1e300), 0) == []
    assert bridge.receive(px4("VehicleCommand", command=65_537), 0) == []
