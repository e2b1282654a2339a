"""PX4's topics in ROS 2: flight service and ROS 2 bridge together, a node and a vehicle in processes of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flight_support import DEVICE, HOME, Rig, rig, until
from peers import Program, running
from ros2_support import domain
from wasmbed.bridges.mavlink import Geofence, LocalSetpoint
from wasmbed.gateway.flight_config import Px4TopicsConfig
from wasmbed.gateway.flight_model import DeviceRecord
from wasmbed.gateway.px4_topics import Px4Topics
from wasmbed.gateway.ros2 import Ros2Backend
from wasmbed.gateway.ros2_config import Ros2Config, Ros2DiscoveryConfig
from wasmbed.service import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.peers

NODE = Path(__file__).parent / "px4_ros_node.py"
FLIGHT = ("VehicleCommand", "OffboardControlMode", "TrajectorySetpoint")
SECONDS = 40.0
ARM, TAKE_OFF, SET_MODE, REBOOT = 400, 22, 176, 246
ACCEPTED, REJECTED, DENIED = 0, 1, 2
COMMANDED_BY = (1, 7)


class RosNode:
    """The program px4_ros_node.py."""

    def __init__(self, program: Program) -> None:
        self.program = program

    async def do(self, op: str, **arguments: Any) -> Any:
        self.program.tell(json.dumps({"op": op, **arguments}))
        return json.loads(await self.program.line(30.0))

    async def read(self, name: str, message: str) -> None:
        await self.do("read", name=name, message=message)

    async def write(self, name: str, message: str) -> None:
        await self.do("write", name=name, message=message)

    async def wait(self, name: str, condition: Any, seconds: float = SECONDS) -> dict[str, Any]:
        """The first last sample that is as wanted."""
        last = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    last = (await self.do("heard", name=name))["last"]
                    if last is not None and condition(last):
                        return dict(last)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} is not as it should be; last: {last}") from None

    async def found(self, *names: str, there: bool = True) -> None:
        """Wait until the gateway subscribes to topics, or does not any more."""
        for name in names:
            async with asyncio.timeout(SECONDS):
                while bool(await self.do("matched", name=name)) is not there:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.05)

    async def command(self, number: int, **values: Any) -> dict[str, Any]:
        """Send a command; its acknowledgement."""
        acks = "out/vehicle_command_ack"
        before = (await self.do("heard", name=acks))["count"]
        source = {"source_system": COMMANDED_BY[0], "source_component": COMMANDED_BY[1]}
        await self.do("send", name="in/vehicle_command", command=number, target_system=1, **source, **values)
        async with asyncio.timeout(SECONDS):
            while True:
                heard = await self.do("heard", name=acks)
                if heard["count"] > before and heard["last"]["command"] == number:
                    return dict(heard["last"])
                await asyncio.sleep(0.02)


@asynccontextmanager
async def topics(
    folder: Path, *options: object, release: str = "1.16", namespace: str = "px4_{system}", **config: Any
) -> AsyncIterator[tuple[Rig, RosNode, Px4Topics]]:
    """A gateway with a vehicle and its topics, and a node."""
    number = domain()
    settings = {name: config.pop(name) for name in ("accept", "dangerous", "publish", "vehicles") if name in config}
    ros2 = Ros2Config(domain=number, px4_release=release, discovery=Ros2DiscoveryConfig(("lo",)))  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(
            rig(*options, topics=Px4TopicsConfig(namespace=namespace, **settings), **config)
        )
        backend = await stack.enter_async_context(Ros2Backend.running(ros2, "gw-1", folder))
        served = Px4Topics(made.flight, made.backend.owners, Health())
        served.connect(backend.bridges)
        serving = asyncio.get_running_loop().create_task(served.run(made.fleet))
        try:
            space = "/" + namespace.replace("{system}", "1").replace("{device}", "alpha") if namespace else ""
            node = RosNode(
                await stack.enter_async_context(running("node", str(NODE), str(number), release, space)),
            )
            await node.read("out/vehicle_command_ack" + ("_v1" if release == "1.18" else ""), "VehicleCommandAck")
            await node.write("in/vehicle_command", "VehicleCommand")
            yield made, node, served
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_a_vehicle_is_seen_in_ros_2_with_px4s_units_and_frames(tmp_path: Path) -> None:
    async with topics(tmp_path) as (made, node, served):
        await node.read("out/vehicle_status_v1", "VehicleStatus")
        await node.read("out/vehicle_attitude", "VehicleAttitude")
        await node.read("out/vehicle_local_position", "VehicleLocalPosition")
        await node.read("out/vehicle_global_position", "VehicleGlobalPosition")
        angles: list[tuple[float, ...]] = []
        made.fleet.watch("ATTITUDE", lambda item: angles.append((item["roll"], item["pitch"], item["yaw"])))
        status = await node.wait("out/vehicle_status_v1", lambda _: True)
        assert (status["arming_state"], status["system_id"]) == (1, 1)
        assert made.simulator is not None
        made.simulator.tell("fly 10")
        status = await node.wait("out/vehicle_status_v1", lambda s: s["arming_state"] == 2 and s["nav_state"] == 4)
        assert abs(status["timestamp"] / 1e6 - time.time()) < SECONDS
        # North, east, down: ten metres above home is -10.
        place = await node.wait("out/vehicle_local_position", lambda p: p["z"] < -9.0)
        assert (place["xy_valid"], place["z_global"]) == (True, True)
        assert math.dist((place["x"], place["y"], place["z"]), (0.0, 0.0, -10.0)) < 1.5
        assert (place["ref_lat"], place["ref_alt"]) == pytest.approx((HOME[0], HOME[2]), abs=0.1)
        # Degrees and metres above the sea, not 1e7 degrees and millimetres.
        world = await node.wait("out/vehicle_global_position", lambda p: p["alt"] > HOME[2] + 9.0)
        assert (world["lat"], world["lon"]) == pytest.approx(HOME[:2], abs=1e-4)
        attitude = await node.wait("out/vehicle_attitude", lambda _: True)
        assert math.isclose(math.hypot(*attitude["q"]), 1.0, abs_tol=1e-3)
        # It hovers: level, and turned by what it says itself in radians.
        w, x, y, z = attitude["q"]
        turned = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)) - angles[-1][2]
        assert math.cos(turned) > 0.99
        assert (2 * (w * x + y * z), 2 * (w * y - x * z)) == pytest.approx(angles[-1][:2], abs=0.1)
        assert served.vehicles[1, 1].endpoints.published > 10


async def test_nothing_is_taken_by_default(tmp_path: Path) -> None:
    async with topics(tmp_path) as (made, node, served):
        await until(lambda: served.vehicles, SECONDS)
        assert not served.vehicles[1, 1].bridge.inputs
        await node.read("out/vehicle_status_v1", "VehicleStatus")
        await node.wait("out/vehicle_status_v1", lambda _: True)
        assert await node.do("matched", name="in/vehicle_command") == 0, "nobody subscribes"
        await node.do("send", name="in/vehicle_command", command=ARM, param1=1.0, target_system=1)
        count = (await node.do("heard", name="out/vehicle_status_v1"))["count"]
        await until(lambda: served.vehicles[1, 1].endpoints.published > count + 50, SECONDS)
        assert not made.vehicle.state.armed


async def test_a_node_arms_and_flies_offboard_and_its_silence_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with topics(tmp_path, accept=FLIGHT) as (made, node, served):
        await node.read("out/vehicle_status_v1", "VehicleStatus")
        await node.read("out/vehicle_local_position", "VehicleLocalPosition")
        await node.write("in/offboard_control_mode", "OffboardControlMode")
        await node.write("in/trajectory_setpoint", "TrajectorySetpoint")
        await node.found("in/vehicle_command", "in/offboard_control_mode", "in/trajectory_setpoint")
        ack = await node.command(ARM, param1=1.0)
        assert (ack["result"], ack["target_system"], ack["target_component"]) == (ACCEPTED, *COMMANDED_BY)
        assert made.vehicle.state.armed or await made.vehicle.until(lambda s: s.armed, SECONDS)
        assert (await node.command(TAKE_OFF, param4=math.nan, param7=HOME[2] + 10.0))["result"] == ACCEPTED
        await node.wait("out/vehicle_status_v1", lambda s: s["nav_state"] == 4)

        # No setpoint, and a setpoint without its proof of life: no offboard.
        offboard = {"param1": 1.0, "param2": 6.0}
        assert (await node.command(SET_MODE, **offboard))["result"] == REJECTED
        await node.do("fly", position=[15.0, 5.0, -12.0], proof=False)
        assert (await node.command(SET_MODE, **offboard))["result"] == REJECTED
        assert made.vehicle.state.mode == "hold"

        await node.do("fly", position=[15.0, 5.0, -12.0])
        await until(lambda: served.vehicles[1, 1].bridge.taken > 20, SECONDS)
        assert (await node.command(SET_MODE, **offboard))["result"] == ACCEPTED
        await node.wait("out/vehicle_status_v1", lambda s: s["nav_state"] == 14)
        place = await node.wait("out/vehicle_local_position", lambda p: math.dist((p["x"], p["y"]), (15, 5)) < 1.0)
        assert -13.5 < place["z"] < -10.5

        # The topics own the vehicle: an application does not.
        other = await made.application("other")
        assert await other.command(ARM, 0.0) != ACCEPTED

        # The node goes silent: the stream ends with it, and Hold is commanded.
        await node.do("stop")
        await until(lambda: "HoldCommanded" in made.reasons, SECONDS)
        assert await made.vehicle.until(lambda s: s.mode == "hold", SECONDS)
        incident = next(item for item in made.flight.incidents(DEVICE) if item.reason == "HoldCommanded")
        assert incident.application == "ros2:/px4_1"
        # Reboots are no ordinary part of a flight.
        assert (await node.command(REBOOT, param1=1.0))["result"] == DENIED
    lines = [record.getMessage() for record in caplog.records]
    assert any("application order application=ros2:/px4_1" in line and "COMPONENT_ARM_DISARM" in line for line in lines)
    assert any("topics=ros2:/px4_1 source=1/7 command=MAV_CMD_COMPONENT_ARM_DISARM" in line for line in lines)


async def test_a_flood_is_dropped_before_it_costs_anything(tmp_path: Path) -> None:
    async with topics(tmp_path, accept=FLIGHT) as (made, node, served):
        await node.write("in/trajectory_setpoint", "TrajectorySetpoint")
        await node.found("in/trajectory_setpoint", "in/vehicle_command")
        found = served.vehicles[1, 1]
        began = time.monotonic()
        async with asyncio.timeout(SECONDS):
            while not found.endpoints.dropped:
                await node.do("flood", name="in/trajectory_setpoint", count=2000)
        seconds = time.monotonic() - began + 1.0
        assert found.bridge.taken + found.bridge.refused <= 500 * (seconds + 1.0)
        # Commands are not in its way, but there are not too many of them either.
        await node.do("flood", name="in/vehicle_command", count=300, command=REBOOT, target_system=1)
        assert (await node.command(ARM, param1=1.0))["result"] in (ACCEPTED, REJECTED)
        assert made.vehicle.state.connected


async def test_the_geofence_ownership_and_the_kill_switch_hold_for_topics(tmp_path: Path) -> None:
    fence = Geofence(centre=HOME[:2], radius_m=50.0, max_height_m=30.0)
    async with topics(tmp_path, accept=FLIGHT, geofence=fence) as (made, node, served):
        await node.write("in/offboard_control_mode", "OffboardControlMode")
        await node.write("in/trajectory_setpoint", "TrajectorySetpoint")
        await node.found("in/vehicle_command", "in/offboard_control_mode", "in/trajectory_setpoint")
        # An application owns it.
        app = await made.application("pilot")
        await made.airborne(app)
        assert (await node.command(ARM, param1=0.0))["result"] == REJECTED
        assert made.vehicle.state.armed
        await app.call("release")

        assert (await node.command(TAKE_OFF, param7=HOME[2] + 100.0))["result"] == DENIED
        assert (await node.command(ARM, param1=0.0))["result"] == DENIED, "disarming in flight is dangerous"
        offboard = {"param1": 1.0, "param2": 6.0}
        await node.do("fly", position=[200.0, 0.0, -12.0])
        await until(lambda: served.vehicles[1, 1].bridge.taken > 20, SECONDS)
        assert (await node.command(SET_MODE, **offboard))["result"] == DENIED
        await node.do("fly", position=[10.0, 0.0, -12.0])
        aim = LocalSetpoint((10.0, 0.0, -12.0), yaw=0.0)
        await until(lambda: served.vehicles[1, 1].pilot.last_setpoint == aim, SECONDS)
        assert (await node.command(SET_MODE, **offboard))["result"] == ACCEPTED
        await node.do("fly", position=[200.0, 0.0, -12.0])
        await until(lambda: "HoldCommanded" in made.reasons, SECONDS)
        assert await made.vehicle.until(lambda s: s.mode == "hold", SECONDS)
        assert "was refused" in made.flight.incidents(DEVICE)[0].message
        assert made.vehicle.offboard is None

        made.flight.set_devices({DEVICE: DeviceRecord(suspended=True, system_id=1)})
        assert (await node.command(TAKE_OFF, param7=HOME[2] + 10.0))["result"] == REJECTED
        made.flight.set_devices({})
        await until(lambda: not served.vehicles, SECONDS)
        await node.found("in/vehicle_command", there=False)


@pytest.mark.parametrize(("release", "status", "ack"), [("1.15", "", ""), ("1.16", "_v1", ""), ("1.18", "_v4", "_v1")])
async def test_the_release_gives_topics_their_version(tmp_path: Path, release: str, status: str, ack: str) -> None:
    async with topics(tmp_path, release=release, namespace="", vehicles=(1,), accept=FLIGHT) as (_, node, _):
        await node.read(f"out/vehicle_status{status}", "VehicleStatus")
        assert (await node.wait(f"out/vehicle_status{status}", lambda _: True))["system_id"] == 1
        await node.found("in/vehicle_command")
        await node.do("send", name="in/vehicle_command", command=ARM, param1=1.0, target_system=1)
        assert (await node.wait(f"out/vehicle_command_ack{ack}", lambda a: a["command"] == ARM))["result"] == ACCEPTED


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"accept": ("VehicleOrders",)}, "accept: VehicleOrders is not one of VehicleCommand"),
        ({"publish": ("Nothing",)}, "publish: Nothing is not one of"),
        ({"accept": ("ManualControlSetpoint",)}, "cannot be held inside of a geofence; set dangerous"),
        ({"namespace": "drone"}, "needs {system} or {device}"),
        ({"namespace": "{system}"}, "is no ROS namespace"),
        ({"namespace": "", "vehicles": (1, 2)}, "needs {system} or {device}"),
        ({"vehicles": (0,)}, "1 to 255"),
        ({"domain": 300}, "domain must be"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Px4TopicsConfig(**values)
