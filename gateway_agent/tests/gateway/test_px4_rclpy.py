"""PX4's topics on the backend rclpy; scripts/test-ros2 runs this, since it needs an rclpy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from flight_support import rig, until
from ros2_support import domain, rclpy_environment, rclpy_python
from wasmbed.gateway.flight_config import Px4TopicsConfig
from wasmbed.gateway.px4_topics import Px4Topics
from wasmbed.gateway.ros2 import Ros2Backend
from wasmbed.gateway.ros2_config import Ros2Config, Ros2RclpyConfig
from wasmbed.service import Health

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers

SECONDS = 60.0


async def test_an_rclpy_without_px4_msgs_is_no_way_for_px4_topics(tmp_path: Path) -> None:
    """The gateway was ready and counted samples as published while nothing came of them."""
    python = rclpy_python("jazzy")
    if python is None:
        pytest.skip("no rclpy: set WASMBED_ROS2_JAZZY to an interpreter that has it")
    number = domain()
    rclpy = Ros2RclpyConfig(python, environment=rclpy_environment(number))
    config = Ros2Config(domain=number, px4_release="1.16", backend="rclpy", rclpy=rclpy)
    health = Health()
    topics = Px4TopicsConfig(accept=("VehicleCommand",))
    async with rig(heard=False, topics=topics) as made, Ros2Backend.running(config, "gw-1", tmp_path) as backend:
        served = Px4Topics(made.flight, made.backend.owners, health)
        served.connect(backend.bridges)
        serving = asyncio.get_running_loop().create_task(served.run(made.fleet))
        try:
            await until(lambda: "px4_topics: not ready: " in health.report(), SECONDS)
            assert "has no px4_msgs/msg/" in health.report()
            assert "use the backend dds" in health.report()
            (found,) = served.vehicles.values()
            before = found.endpoints.published
            output = next(iter(found.bridge.outputs.values()))
            found.endpoints.send(output, bytes(4))
            await until(lambda: found.endpoints.dropped, SECONDS)
            assert found.endpoints.published == before
            # Devices that leave are followed nevertheless.
            made.flight.set_devices({})
            await until(lambda: not served.vehicles, SECONDS)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
