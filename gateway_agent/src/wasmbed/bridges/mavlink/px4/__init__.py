"""MAVLink and px4_msgs: the same vehicle in PX4's own ROS 2 messages, for a configured PX4 release."""

from wasmbed.bridges.mavlink.px4.bridge import Orders, Px4Bridge
from wasmbed.bridges.mavlink.px4.from_px4 import FromPx4
from wasmbed.bridges.mavlink.px4.messages import RELEASES, Px4Definition, Px4Message, definitions
from wasmbed.bridges.mavlink.px4.to_px4 import ToPx4
from wasmbed.bridges.mavlink.px4.topics import INPUTS, OUTPUTS, Topic, topics

__all__ = [
    "INPUTS",
    "OUTPUTS",
    "RELEASES",
    "FromPx4",
    "Orders",
    "Px4Bridge",
    "Px4Definition",
    "Px4Message",
    "ToPx4",
    "Topic",
    "definitions",
    "topics",
]
