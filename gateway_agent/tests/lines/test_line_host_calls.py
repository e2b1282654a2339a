"""Applications on microcontrollers and the world behind their gateway: a vehicle (ours, as a process) and a DDS node.

Both boards' own firmware in QEMU under a real agent with its flight service and its ROS 2 bridge.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from applications import application
from flight_pilot import Vehicle
from gateway_site import eventually, wat
from line_site import CLASSES
from ros2_support import LOOPBACK, domain
from wasmbed.bridges.ros2 import Node
from wasmbed.bridges.ros2.dds import DdsBackend
from wasmbed.bridges.ros2.types import CodecFactory, TypeStore
from wasmbed.runtime import abi

from tests.support.processes import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from line_site import Board, LineSite

pytestmark = pytest.mark.timeout(300)

# Until an agent on a busy machine has noticed that a vehicle came or went.
NOTICED_S = 60.0
STRING = "std_msgs/msg/String"
PX4_GRANTS = ["wasmbed:px4", "wasmbed:sys"]
ARM = "".join(f"\\{byte:02x}" for byte in abi.COMMAND.pack(400, 0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))

# Five times a second reads the battery and says its charge in percent; arms the vehicle once it owns it and says
# `armed`, or the code it got instead; says `nothing there` when neither can be done.
COMMANDER = application(
    "timer acquire command px4_read event_read",
    data=f'(data (i32.const 0) "armed") (data (i32.const 8) "nothing there") (data (i32.const 32) "{ARM}")',
    init="(drop (call $timer (i32.const 0) (i32.const 200) (i32.const 200)))",
    event=f"""
      (if (i32.eq (local.get $type) (i32.const {abi.EventType.RESULT})) (then
        (drop (call $event_read (i32.const 0) (i32.const 600) (i32.const 4)))
        (if (i32.load (i32.const 600))
          (then (call $number (i32.load (i32.const 600))))
          (else (call $say (i32.const 0) (i32.const 5))))))
      (if (i32.eq (local.get $type) (i32.const {abi.EventType.OWNER})) (then (global.set $step (i32.const 0))))
      (if (i32.eq (local.get $type) (i32.const {abi.EventType.TIMER})) (then
        (global.set $n (call $px4_read (i32.const {abi.Telemetry.BATTERY}) (i32.const 700) (i32.const 48)))
        (if (i32.gt_s (global.get $n) (i32.const 0)) (then
          (call $number (i32.trunc_f32_s (f32.nearest (f32.mul (f32.load (i32.const 716)) (f32.const 100)))))))
        (if (i32.and (i32.eq (global.get $n) (i32.const {abi.Code.UNAVAILABLE}))
                     (i32.eq (call $command (i32.const 32)) (i32.const {abi.Code.UNAVAILABLE})))
          (then (call $say (i32.const 8) (i32.const 13))))
        (if (i32.eq (global.get $step) (i32.const 1)) (then
          (global.set $step (i32.const 2))
          (global.set $n (call $command (i32.const 32)))
          (if (i32.lt_s (global.get $n) (i32.const 0)) (then (call $number (global.get $n))))))
        (if (i32.eqz (global.get $step)) (then (global.set $step (i32.eqz (call $acquire)))))))""",
    more="(global $n (mut i32) (i32.const 0)) (global $step (mut i32) (i32.const 0))",
)
# Publishes on its second route what comes by its first.
ECHO = application(
    "open publish event_read",
    data='(data (i32.const 0) "in") (data (i32.const 8) "out")',
    init="""(if (call $open (i32.const 0) (i32.const 2)) (then (return (i32.const 1))))
            (if (i32.ne (call $open (i32.const 8) (i32.const 3)) (i32.const 1)) (then (return (i32.const 2))))""",
    event=f"""(if (i32.eq (local.get $type) (i32.const {abi.EventType.ROS2})) (then
      (drop (call $publish (i32.const 1) (i32.const 600)
        (call $event_read (i32.const 24) (i32.const 600) (i32.const 200))))))""",
)
TEXTS = {"type": "std_msgs/String", "encoding": "json"}
ROUTES = {
    "topics": [
        {"topic": "/{device}/in", "name": "in", "direction": "subscribe", **TEXTS},
        {"topic": "/{device}/out", "name": "out", "direction": "publish", **TEXTS},
    ]
}

boards = pytest.mark.parametrize("board", sorted(CLASSES))


class Flight:
    """A board whose gateway has a vehicle for it."""

    def __init__(self, site: LineSite) -> None:
        self.site = site
        (self.port,) = free_ports(1)
        self.vehicles: list[Vehicle] = []
        site.settings["mavlink"] = {
            "endpoints": [{"name": "vehicles", "address": f"udpin:127.0.0.1:{self.port}"}],
            "hold_s": 20.0,
        }

    def begin(self, board: str) -> Board:
        device = self.site.board(board, "dev-1")
        self.site.begin(known=False)
        self.site.slice({"dev-1": device.public_key}, systemId=1)
        self.site.wait_link("dev-1", "Connected")
        return device

    def power_on(self) -> Vehicle:
        """Start the vehicle, and wait until the agent knows its state."""
        self.vehicles.append(Vehicle(self.port))
        eventually(lambda: self.vehicle().get("mode") == "manual", "the vehicle is known", NOTICED_S)
        return self.vehicles[-1]

    def vehicle(self) -> dict[str, Any]:
        """What the slice's status says of it."""
        return dict(self.site.link("dev-1").get("vehicle") or {})

    def place(self, device: Board, **changes: Any) -> None:
        digest = self.site.push("commander", wat(COMMANDER))
        spec: dict[str, Any] = {"grants": PX4_GRANTS, "px4": {"rights": ["command"]}, **changes}
        self.site.place_on("commander", digest, device, capability="px4", **spec)

    def says(self, text: str) -> None:
        """Wait until the application says this from now on."""
        self.site.new_lines()
        eventually(lambda: any(line.text == text for line in self.site.new_lines()), text, NOTICED_S)


@pytest.fixture
def flight(line_site: LineSite) -> Iterator[Flight]:
    made = Flight(line_site)
    yield made
    for vehicle in made.vehicles:
        vehicle.close()


@boards
def test_an_application_reads_telemetry_and_commands_the_vehicle_until_it_is_gone(flight: Flight, board: str) -> None:
    device = flight.begin(board)
    vehicle = flight.power_on()
    flight.site.new_lines()
    flight.place(device)
    said: list[str] = []

    def armed() -> bool:
        said.extend(line.text for line in flight.site.new_lines())
        return "armed" in said and "90" in said

    eventually(armed, "the battery's charge, and armed", NOTICED_S)
    # Neither a refusal nor a call that failed.
    assert set(said) == {"armed", "90"}
    eventually(lambda: flight.vehicle().get("armed"), "the vehicle itself says so", NOTICED_S)
    vehicle.close()
    flight.says("nothing there")
    assert flight.site.wait_state("commander", "Running")["restarts"] == 0
    flight.power_on()
    flight.says("90")


@boards
def test_an_application_without_the_grant_is_not_started(flight: Flight, board: str) -> None:
    device = flight.begin(board)
    flight.place(device, grants=["wasmbed:sys"])
    state = flight.site.wait_state("commander", "Failed")
    assert state["message"] == "import that is not granted: acquire"


def test_a_command_without_the_right_is_denied(flight: Flight) -> None:
    device = flight.begin("hifive1")
    flight.power_on()
    flight.place(device, px4={"rights": ["mission"]})
    flight.says(str(int(abi.Code.DENIED)))
    assert flight.vehicle()["armed"] is False


@boards
def test_messages_of_ros_2_reach_the_board_and_come_back(line_site: LineSite, board: str) -> None:
    number = domain()
    line_site.settings["ros2"] = {
        "domain": number,
        "discovery": {"interfaces": ["lo"]},
        "policy": {"subscribe": ["/dev_1/*"], "publish": ["/dev_1/*"]},
    }
    device = line_site.board(board, "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    line_site.place_on(
        "echo", line_site.push("echo", wat(ECHO)), device, grants=["wasmbed:ros2", "wasmbed:sys"], ros2=ROUTES
    )
    line_site.wait_state("echo", "Running")
    codecs = CodecFactory(TypeStore.of("jazzy"))
    backend = DdsBackend(codecs, domain_id=number, node="other", discovery=LOOPBACK)
    try:
        other, came = Node(backend, codecs, name="other"), list[str]()
        other.subscription("/dev_1/out", STRING, lambda message: came.append(message.data))
        publisher = other.publisher("/dev_1/in", STRING)
        message: Any = codecs.cls(STRING)()
        message.data = "up and down again"

        def published() -> bool:
            publisher.publish(message)
            time.sleep(0.1)
            return bool(came)

        eventually(published, "the message comes back", NOTICED_S)
        assert set(came) == {"up and down again"}
    finally:
        backend.context.close()
    assert line_site.wait_state("echo", "Running")["restarts"] == 0


def test_ros_2_without_the_grant_is_refused_by_name(line_site: LineSite) -> None:
    device = line_site.board("hifive1", "dev-1")
    line_site.begin()
    line_site.wait_link("dev-1", "Connected")
    line_site.place_on("echo", line_site.push("echo", wat(ECHO)), device, grants=["wasmbed:sys"])
    assert line_site.wait_state("echo", "Failed")["message"] == "import that is not granted: open"
