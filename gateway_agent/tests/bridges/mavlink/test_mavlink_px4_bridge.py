"""A vehicle's px4_msgs topics over the simulated vehicle: samples out, commands and setpoints in."""

import asyncio
import time
from typing import Any

from peers import gateway, simulator, until
from wasmbed.bridges.mavlink import Grant, Guard
from wasmbed.bridges.mavlink.px4 import Px4Message, Topic, definitions, topics
from wasmbed.bridges.mavlink.px4.bridge import Px4Bridge
from wasmbed.bridges.mavlink.px4.messages import from_cdr, to_cdr

RELEASE = "1.16"
NAN3 = (float("nan"),) * 3


def sample(name: str, **values: Any) -> bytes:
    return to_cdr(definitions(RELEASE)[name].make(values))


async def test_a_flight_by_px4_msgs() -> None:
    samples: dict[str, list[Px4Message]] = {}

    def publish(topic: Topic, data: bytes) -> None:
        samples.setdefault(topic.name, []).append(from_cdr(definitions(RELEASE)[topic.message], data))

    def last(topic: str) -> Px4Message | None:
        return samples[topic][-1] if topic in samples else None

    guard = Guard("topics", frozenset({Grant.COMMAND, Grant.OFFBOARD}))
    async with (
        gateway() as made,
        simulator("--port", made.port, "--speed", 10),
        Px4Bridge(made.fleet, made.fleet.vehicle(1), RELEASE, publish, guard).running() as bridge,
    ):
        vehicle = made.fleet.vehicle(1)
        inputs = topics(RELEASE)[1]

        def send(name: str, **values: Any) -> None:
            bridge.receive(inputs[name].name, sample(name, **values))

        def status(field: str) -> Any:
            found = last("/fmu/out/vehicle_status_v1")
            return found[field] if found is not None else None

        assert await vehicle.until(lambda s: s.connected and s.has_position, 10.0)
        await until(lambda: vehicle.timesync.offset is not None)
        await until(lambda: last("/fmu/out/vehicle_attitude"))
        send("VehicleCommand", command=400, param1=1.0, target_system=1)
        await until(lambda: status("arming_state") == 2)
        ack = last("/fmu/out/vehicle_command_ack")
        assert ack is not None
        assert (ack["command"], ack["result"]) == (400, 0)
        send("VehicleCommand", command=22, param7=498.0, target_system=1)
        await until(lambda: status("nav_state") == 4)
        for _ in range(30):
            send("OffboardControlMode", position=True)
            send("TrajectorySetpoint", position=(15.0, 0.0, -12.0), velocity=NAN3, acceleration=NAN3)
            await asyncio.sleep(0.05)
        send("VehicleCommand", command=176, param1=1.0, param2=6.0, target_system=1)

        def arrived() -> bool:
            send("OffboardControlMode", position=True)
            send("TrajectorySetpoint", position=(15.0, 0.0, -12.0), velocity=NAN3, acceleration=NAN3)
            place = last("/fmu/out/vehicle_global_position")
            return place is not None and abs(place["lat"] - 47.397742 - 15.0 / 111_194.9) < 2e-6

        await until(lambda: arrived() and status("nav_state") == 14)
        attitude = samples["/fmu/out/vehicle_attitude"][-1]
        assert abs(attitude["timestamp"] / 1e6 - time.time()) < 2.0
        assert abs(int(attitude["timestamp"]) - int(attitude["timestamp_sample"])) < 1_000_000
        before = len(samples["/fmu/out/vehicle_command_ack"])
        send("VehicleCommand", command=400, param1=0.0, target_system=1)
        refused = samples["/fmu/out/vehicle_command_ack"][before]
        assert (refused["command"], refused["result"]) == (400, 2)
        bridge.receive(inputs["VehicleCommand"].name, b"\x00\x01\x00\x00")
        bridge.receive("/fmu/in/nothing", b"")
        assert bridge.refused == 3
        assert await vehicle.until(lambda s: s.armed, 1.0)
    count = len(samples["/fmu/out/vehicle_attitude"])
    bridge.receive(inputs["VehicleCommand"].name, sample("VehicleCommand", command=400, param1=1.0))
    assert len(samples["/fmu/out/vehicle_attitude"]) == count
