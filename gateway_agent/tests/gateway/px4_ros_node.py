"""A node of somebody else's in ROS 2 with px4_msgs: a program of the tests, spoken to by lines of JSON.

Samples are made and read by cyclonedds itself; of the product it has nothing but the definitions of the messages.
Usage: px4_ros_node.py DOMAIN RELEASE NAMESPACE
"""

import json
import sys
import threading
import time
from typing import Any

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from wasmbed.bridges.ros2.dds.types import DdsTypes
from wasmbed.bridges.ros2.types import TypeStore

LOOPBACK = (
    "<Domain><General><Interfaces><NetworkInterface name='lo' multicast='true'/></Interfaces></General>"
    "<Discovery><MaxAutoParticipantIndex>120</MaxAutoParticipantIndex></Discovery></Domain>"
)
NAN3 = (float("nan"),) * 3
# As PX4's documentation tells ROS 2 nodes to.
READER = Qos(Policy.Reliability.BestEffort, Policy.Durability.TransientLocal, Policy.History.KeepLast(5))
WRITER = Qos(Policy.Reliability.BestEffort, Policy.Durability.TransientLocal, Policy.History.KeepLast(1))


class Node:
    """Readers, writers, and a stream of setpoints."""

    def __init__(self, domain: int, release: str, namespace: str) -> None:
        self.domain = Domain(domain, LOOPBACK)
        self.participant = DomainParticipant(domain)
        self.types = DdsTypes(TypeStore.of("jazzy", release, []))
        self.namespace = namespace
        self.readers: dict[str, Any] = {}
        self.writers: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.flying: threading.Event | None = None

    def topic(self, name: str, message: str) -> Any:
        return Topic(self.participant, f"rt{self.namespace}/fmu/{name}", self.types.get(f"px4_msgs/msg/{message}"))

    def read(self, name: str, message: str) -> None:
        """Subscribe to fmu/NAME."""
        self.readers[name] = DataReader(self.participant, self.topic(name, message), READER)

    def heard(self, name: str) -> dict[str, Any]:
        """How many samples came, and the last one."""
        for sample in self.readers[name].take(100):
            self.counts[name] = self.counts.get(name, 0) + 1
            self.last[name] = sample
        found = self.last.get(name)
        values = {key: getattr(found, key) for key in found.__dataclass_fields__} if found is not None else None
        matched = len(self.readers[name].get_matched_publications())
        return {"count": self.counts.get(name, 0), "last": values, "matched": matched}

    def write(self, name: str, message: str) -> None:
        """Advertise fmu/NAME."""
        self.writers[name] = (DataWriter(self.participant, self.topic(name, message), WRITER), message)

    def matched(self, name: str) -> int:
        return len(self.writers[name][0].get_matched_subscriptions())

    def send(self, name: str, **values: Any) -> None:
        """Publish; what is not given is 0."""
        writer, message = self.writers[name]
        kind = self.types.get(f"px4_msgs/msg/{message}")
        vectors = () if message == "OffboardControlMode" else ("position", "velocity", "acceleration", "jerk")
        made = {key: (0.0,) * 3 if key in vectors else 0 for key in kind.__dataclass_fields__}
        writer.write(kind(**{**made, "timestamp": time.time_ns() // 1000, **values}))

    def flood(self, name: str, count: int, **values: Any) -> None:
        """Publish as fast as it goes."""
        for _ in range(count):
            self.send(name, **values)

    def fly(self, position: list[float], proof: bool = True) -> None:
        """Stream setpoints at 20 Hz until `stop`; without `proof` no OffboardControlMode."""
        self.stop()
        stopped = self.flying = threading.Event()

        def stream() -> None:
            while not stopped.wait(0.05):
                if proof:
                    self.send("in/offboard_control_mode", position=True)
                empty = {"velocity": NAN3, "acceleration": NAN3, "jerk": NAN3, "yawspeed": NAN3[0]}
                self.send("in/trajectory_setpoint", position=tuple(position), yaw=0.0, **empty)

        threading.Thread(target=stream, daemon=True).start()

    def stop(self) -> None:
        if self.flying is not None:
            self.flying.set()


def main() -> None:
    node = Node(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(node, request.pop("op"))(**request)
        print(json.dumps(answer, default=list), flush=True)


if __name__ == "__main__":
    main()
