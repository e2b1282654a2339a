"""The ROS 2 bridge: applications as nodes among nodes, on DDS itself or by an installed rclpy."""

from wasmbed.bridges.ros2.bridge import Bridge
from wasmbed.bridges.ros2.config import BridgeConfig, start
from wasmbed.bridges.ros2.errors import Ros2Error
from wasmbed.bridges.ros2.handlers import Delivery
from wasmbed.bridges.ros2.node import Node
from wasmbed.bridges.ros2.routes import Policy, Route, parse_routes
from wasmbed.bridges.ros2.session import Session

__all__ = [
    "Bridge",
    "BridgeConfig",
    "Delivery",
    "Node",
    "Policy",
    "Ros2Error",
    "Route",
    "Session",
    "parse_routes",
    "start",
]
