"""A ROS 2 node that shakes devices, as a process: publishes /DEVICE/imu at 50 Hz and says what comes on /DEVICE/alarm.

Usage: ros2_shaker.py ours|rclpy DOMAIN INTERFACE DEVICE...
Takes lines `DEVICE Z` (acceleration upwards, m/s2) until its input ends, and prints a JSON line for every alarm.
`rclpy` imports nothing of the product; which interface it uses is said in its environment.
"""

# ruff: noqa: PLC0415 - one side's packages are not there where the other one runs

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S = 0.02
IDLE = 9.81


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def of_ours(domain: int, interface: str, devices: list[str]) -> Callable[[str, float], object]:
    from wasmbed.bridges.ros2 import Node, qos
    from wasmbed.bridges.ros2.dds import DdsBackend, Discovery
    from wasmbed.bridges.ros2.types import CodecFactory, TypeStore

    codecs = CodecFactory(TypeStore.of("jazzy"))
    backend = DdsBackend(codecs, domain_id=domain, node="shaker", discovery=Discovery(interfaces=(interface,)))
    node = Node(backend, codecs, name="shaker")
    publishers = {}
    for device in devices:
        publishers[device] = node.publisher(f"/{device}/imu", "sensor_msgs/msg/Imu", qos.SENSOR_DATA)
        node.subscription(
            *(f"/{device}/alarm", "std_msgs/msg/String"),
            lambda message, device=device: say(device=device, alarm=message.data),
            qos.profile("latched"),
        )
    message: Any = codecs.cls("sensor_msgs/msg/Imu")()

    def publish(device: str, z: float) -> None:
        message.linear_acceleration.z = z
        publishers[device].publish(message)

    return publish


def of_rclpy(domain: int, devices: list[str]) -> Callable[[str, float], object]:
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
    from sensor_msgs.msg import Imu
    from std_msgs.msg import String

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("shaker")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publishers = {}
    for device in devices:
        publishers[device] = node.create_publisher(Imu, f"/{device}/imu", qos_profile_sensor_data)
        node.create_subscription(
            *(String, f"/{device}/alarm"),
            lambda message, device=device: say(device=device, alarm=message.data),
            latched,
        )
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()

    def publish(device: str, z: float) -> None:
        message = Imu()
        message.linear_acceleration.z = z
        publishers[device].publish(message)

    return publish


def main() -> None:
    kind, domain, interface, *devices = sys.argv[1:]
    publish = of_ours(int(domain), interface, devices) if kind == "ours" else of_rclpy(int(domain), devices)
    values = dict.fromkeys(devices, IDLE)

    def forever() -> None:
        while True:
            for device in devices:
                publish(device, values[device])
            time.sleep(PERIOD_S)

    threading.Thread(target=forever, daemon=True).start()
    say(ready=True)
    for line in sys.stdin:
        device, z = line.split()
        values[device] = float(z)
    os._exit(0)  # with nobody left to tell, threads of the middleware must not keep it


if __name__ == "__main__":
    main()
