"""ROS 2 by an installed rclpy, in a process of its own with its own interpreter: any RMW, the full set of services."""

from wasmbed.bridges.ros2.rclpy.backend import RclpyBackend, RclpyInstallation

__all__ = ["RclpyBackend", "RclpyInstallation"]
