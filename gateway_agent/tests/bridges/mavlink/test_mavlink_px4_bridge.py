"""A vehicle's px4_msgs samples as orders, and acknowledgements as samples; the flight is in gateway/test_px4_topics."""

import math
from typing import Any

import pytest
from wasmbed.bridges.mavlink import AttitudeSetpoint, Command, LocalSetpoint, Message
from wasmbed.bridges.mavlink.definitions import default_dialect
from wasmbed.bridges.mavlink.fleet import Fleet
from wasmbed.bridges.mavlink.frames import make_frame
from wasmbed.bridges.mavlink.offboard import Setpoint
from wasmbed.bridges.mavlink.px4 import Px4Bridge, Px4Message, Topic, definitions
from wasmbed.bridges.mavlink.px4.bridge import Done
from wasmbed.bridges.mavlink.px4.messages import from_cdr, to_cdr
from wasmbed.bridges.mavlink.routing import PortPolicy
from wasmbed.bridges.mavlink.switch import PortOptions, Switch

RELEASE = "1.16"
NAN = math.nan
NAN3 = (NAN, NAN, NAN)
INPUTS = ("VehicleCommand", "OffboardControlMode", "TrajectorySetpoint", "VehicleAttitudeSetpoint")


class Taken:
    """Everything that was ordered."""

    def __init__(self) -> None:
        self.commands: list[tuple[Command, str, Done]] = []
        self.setpoints: list[Setpoint] = []
        self.others: list[Message] = []

    def command(self, command: Command, source: str, done: Done) -> None:
        self.commands.append((command, source, done))

    def setpoint(self, setpoint: Setpoint) -> bool:
        self.setpoints.append(setpoint)
        return True

    def other(self, item: Message) -> bool:
        self.others.append(item)
        return True


class Bench:
    """A bridge whose samples are kept, over a switch without sockets."""

    def __init__(self, **options: Any) -> None:
        self.switch = Switch()
        self.port = self.switch.open(PortOptions(PortPolicy("vehicle")), "vehicle", lambda _: True)
        self.fleet = Fleet(self.switch, 245, 191)
        self.taken = Taken()
        self.samples: list[tuple[str, Px4Message]] = []
        vehicle = self.fleet.vehicle(1)
        self.bridge = Px4Bridge(
            self.fleet, vehicle, RELEASE, self.keep, self.taken, namespace="px4_1", accept=INPUTS, **options
        )

    def keep(self, topic: Topic, sample: bytes) -> None:
        self.samples.append((topic.name, from_cdr(definitions(RELEASE)[topic.message], sample)))

    def give(self, topic: str, message: str, **values: Any) -> None:
        self.bridge.receive(f"/px4_1/fmu/in/{topic}", to_cdr(definitions(RELEASE)[message].make(values)))

    def hear(self, name: str, **values: Any) -> None:
        self.switch.receive(self.port, make_frame(default_dialect()[name], values, system=1, component=1, sequence=0))


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.bridge.start()
    return made


def test_axes_that_are_not_controlled_stay_free(bench: Bench) -> None:
    bench.give("offboard_control_mode", "OffboardControlMode", position=True, velocity=True)
    values = {"position": (1.0, 2.0, NAN), "velocity": (NAN, NAN, -0.5), "acceleration": NAN3, "yaw": NAN}
    bench.give("trajectory_setpoint", "TrajectorySetpoint", **values, yawspeed=0.25)
    assert bench.taken.setpoints == [LocalSetpoint((1.0, 2.0, None), (None, None, -0.5), yaw_rate=0.25)]
    message = bench.taken.setpoints[0].message(0)
    assert message["type_mask"] == 0b0101_1101_1100


def test_an_attitude_keeps_its_thrust_by_axes(bench: Bench) -> None:
    bench.give("offboard_control_mode", "OffboardControlMode", attitude=True)
    values = {"q_d": (1.0, 0.0, 0.0, 0.0), "yaw_sp_move_rate": 0.5, "thrust_body": (0.0, 0.0, -0.75)}
    bench.give("vehicle_attitude_setpoint", "VehicleAttitudeSetpoint", **values)
    (found,) = bench.taken.setpoints
    assert found == AttitudeSetpoint(0.75, (1.0, 0.0, 0.0, 0.0), (None, None, 0.5), (0.0, 0.0, -0.75))
    assert found.message(0)["type_mask"] == 0b011


def test_an_acknowledgement_is_addressed_to_who_gave_the_command(bench: Bench) -> None:
    bench.give("vehicle_command", "VehicleCommand", command=400, param1=1.0, source_system=9, source_component=7)
    ((command, source, done),) = bench.taken.commands
    assert (command.number, command.params[0], source) == (400, 1.0, "9/7")
    bench.hear("COMMAND_ACK", command=400, result=5, progress=40, target_system=245, target_component=191)
    bench.hear("COMMAND_ACK", command=400, result=0, target_system=245, target_component=191)
    done(0, 3)
    done(4)
    names = ("result", "target_system", "target_component", "result_param2")
    found = [tuple(item[name] for name in names) for _, item in bench.samples]
    assert found == [(5, 9, 7, 0), (0, 9, 7, 3)], "its end is told once"
    bench.give("vehicle_command", "VehicleCommand", command=22, source_system=9, source_component=7)
    bench.taken.commands[1][2](2)
    name, refused = bench.samples[-1]
    assert name == "/px4_1/fmu/out/vehicle_command_ack"
    assert (refused["command"], refused["result"], refused["target_system"]) == (22, 2, 9)
    bench.give("vehicle_command", "VehicleCommand", command=22, source_system=9, source_component=7)
    bench.taken.commands[2][2](None)
    assert len(bench.samples) == 3, "nobody answered"


def test_two_that_send_the_same_command_get_each_their_own_acknowledgement(bench: Bench) -> None:
    for system in (9, 10):
        bench.give("vehicle_command", "VehicleCommand", command=400, source_system=system, source_component=7)
    (_, _, first), (_, _, second) = bench.taken.commands
    bench.hear("COMMAND_ACK", command=400, result=5, progress=40, target_system=245, target_component=191)
    # The vehicle says it twice, as to a resend; the second command has not been sent yet.
    for _ in range(2):
        bench.hear("COMMAND_ACK", command=400, result=0, target_system=245, target_component=191)
    first(0)
    bench.hear("COMMAND_ACK", command=400, result=5, progress=60, target_system=245, target_component=191)
    second(2)
    found = [(item["result"], item["target_system"]) for _, item in bench.samples]
    assert found == [(5, 9), (0, 9), (5, 10), (2, 10)]


def test_what_is_damaged_or_not_accepted_is_counted_and_dropped(bench: Bench) -> None:
    bench.bridge.receive("/px4_1/fmu/in/vehicle_command", b"\x00\x01\x00\x00")
    bench.bridge.receive("/px4_1/fmu/in/vehicle_command", b"")
    bench.bridge.receive("/px4_1/fmu/in/manual_control_input", b"\x00\x01\x00\x00" + bytes(64))
    bench.give("vehicle_command", "VehicleCommand", command=100_000)
    assert (bench.bridge.taken, bench.bridge.refused) == (0, 4)
    assert not bench.taken.commands
    bench.bridge.close()
    bench.give("vehicle_command", "VehicleCommand", command=400)
    assert not bench.taken.commands


def test_only_what_is_to_be_published_is() -> None:
    bench = Bench(publish=("VehicleAttitude",))
    bench.bridge.start()
    bench.hear("HEARTBEAT", autopilot=12, type=2)
    bench.hear("ATTITUDE", roll=0.1)
    assert [name for name, _ in bench.samples] == ["/px4_1/fmu/out/vehicle_attitude"]
