"""ROS 2 directly on DDS, by cyclonedds."""

from wasmbed.bridges.ros2.dds.backend import DdsBackend
from wasmbed.bridges.ros2.dds.context import Context, Discovery
from wasmbed.bridges.ros2.dds.endpoints import DdsPublisher, DdsSubscription

__all__ = ["Context", "DdsBackend", "DdsPublisher", "DdsSubscription", "Discovery"]
