"""The ROS graph on DDS: our nodes told to others by `ros_discovery_info`, theirs read from it and from discovery."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.backend import GraphEndpoint, each
from wasmbed.bridges.ros2.dds import binding
from wasmbed.bridges.ros2.dds.endpoints import DdsPublisher, DdsSubscription
from wasmbed.bridges.ros2.errors import CdrError
from wasmbed.bridges.ros2.names import dds_topic, ros_type
from wasmbed.bridges.ros2.qos import QosProfile

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from wasmbed.bridges.ros2.backend import Received
    from wasmbed.bridges.ros2.dds.context import Context
    from wasmbed.bridges.ros2.dds.types import DdsTypes
    from wasmbed.bridges.ros2.types import CodecFactory

log = logging.getLogger(__name__)

TOPIC: Final = "ros_discovery_info"
INFO: Final = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_NODE: Final = "rmw_dds_common/msg/NodeEntitiesInfo"
_GID: Final = "rmw_dds_common/msg/Gid"
# What a peer can make us keep.
MAX_ENDPOINTS: Final = 20_000
MAX_PARTICIPANTS: Final = 1_000
_ALIVE: Final = int(binding.core.InstanceState.Alive)
_HASH: Final = re.compile(rb"typehash=(RIHS01_[0-9a-f]{64});")


@dataclass(frozen=True)
class Seen:
    """An endpoint as discovery told it; names are those of DDS."""

    key: uuid.UUID
    participant: uuid.UUID
    topic: str
    type: str
    user_data: bytes
    reliability: str

    @property
    def type_hash(self) -> str:
        found = _HASH.search(self.user_data)
        return found.group(1).decode() if found else ""


@dataclass(frozen=True)
class NodeEntities:
    """One of our nodes: its name and the GUIDs of its endpoints."""

    namespace: str
    name: str
    readers: tuple[bytes, ...] = ()
    writers: tuple[bytes, ...] = ()


class GraphWriter:
    """Keeps `ros_discovery_info` of our participant up to date."""

    def __init__(self, context: Context, types: DdsTypes, codecs: CodecFactory) -> None:
        self._codec = codecs.codec(INFO)
        self._node, self._gid = codecs.cls(_NODE), codecs.cls(_GID)
        # 16 bytes from Iron on, padded to 24 in Humble.
        self._gid_size = codecs.message(_GID).fields[0].type.size
        self._participant = bytes(context.participant.get_guid().bytes)
        self._writer = DdsPublisher(context, TOPIC, types.get(INFO), QosProfile(transient_local=True, depth=1))

    def publish(self, nodes: list[NodeEntities]) -> None:
        entities = [
            self._node(node.namespace, node.name, self._gids(node.readers), self._gids(node.writers)) for node in nodes
        ]
        self._writer.publish(self._codec.dumps(self._codec.cls(self._pad(self._participant), entities)))

    def _gids(self, guids: tuple[bytes, ...]) -> list[Any]:
        return [self._pad(guid) for guid in guids]

    def _pad(self, guid: bytes) -> Any:
        return self._gid(guid.ljust(self._gid_size, b"\0"))

    def close(self) -> None:
        self._writer.close()


class GraphView:
    """What of the graph is seen: endpoints by GUID, nodes by participant."""

    def __init__(self, context: Context, types: DdsTypes, codecs: CodecFactory) -> None:
        self._codec = codecs.codec(INFO)
        self._context = context
        self._lock = threading.Lock()
        self._writers: dict[uuid.UUID, Seen] = {}
        self._readers: dict[uuid.UUID, Seen] = {}
        self._nodes: dict[bytes, list[NodeEntities]] = {}
        self._closers: list[tuple[Any, int]] = []
        # Called with each writer that is discovered, on the context's thread.
        self.on_writer: list[Callable[[Seen], None]] = []
        builtin = binding.builtin
        self._watch(builtin.BuiltinTopicDcpsPublication, self._writers)
        self._watch(builtin.BuiltinTopicDcpsSubscription, self._readers)
        self._watch_participants()
        self._reader = DdsSubscription(
            context, TOPIC, types.get(INFO), QosProfile(transient_local=True, depth=1000), each(self._on_info)
        )

    def _watch(self, topic: Any, found: dict[uuid.UUID, Seen]) -> None:
        reader = binding.builtin.BuiltinDataReader(self._context.participant, topic)

        def update() -> None:
            for sample in binding.take_discovered(reader, 64):
                seen: Seen | None = None
                with self._lock:
                    if not sample.sample_info.instance_state & _ALIVE or not sample.topic_name:
                        found.pop(sample.key, None)
                    elif len(found) < MAX_ENDPOINTS:
                        seen = found[sample.key] = Seen(
                            sample.key,
                            sample.participant_key,
                            sample.topic_name,
                            sample.type_name,
                            binding.user_data_of(sample.qos),
                            binding.describe_qos(sample.qos),
                        )
                if seen is not None and found is self._writers:
                    for callback in tuple(self.on_writer):
                        callback(seen)

        self._closers.append((reader, self._context.watch(reader, update)))
        reader.set_status_mask(int(binding.core.DDSStatus.DataAvailable))

    def _watch_participants(self) -> None:
        reader = binding.builtin.BuiltinDataReader(
            self._context.participant, binding.builtin.BuiltinTopicDcpsParticipant
        )

        def update() -> None:
            for sample in binding.take_discovered(reader, 64):
                if not sample.sample_info.instance_state & _ALIVE:
                    with self._lock:
                        self._nodes.pop(sample.key.bytes, None)

        self._closers.append((reader, self._context.watch(reader, update)))
        reader.set_status_mask(int(binding.core.DDSStatus.DataAvailable))

    def _on_info(self, data: bytes, _: Received) -> None:
        try:
            info = self._codec.loads(data)
        except CdrError as error:
            log.warning("a participant's graph information is malformed error=%s", error)
            return
        nodes = [
            NodeEntities(
                node.node_namespace,
                node.node_name,
                tuple(gid.data[:16] for gid in node.reader_gid_seq),
                tuple(gid.data[:16] for gid in node.writer_gid_seq),
            )
            for node in info.node_entities_info_seq
        ]
        with self._lock:
            if len(self._nodes) < MAX_PARTICIPANTS or info.gid.data[:16] in self._nodes:
                self._nodes[info.gid.data[:16]] = nodes

    def nodes(self) -> list[str]:
        """Full names of all nodes, ours too."""
        with self._lock:
            return sorted(full_name(node) for nodes in self._nodes.values() for node in nodes)

    def writers_of(self, topic: str) -> list[Seen]:
        """Publishers of a topic by its DDS name."""
        with self._lock:
            return [seen for seen in self._writers.values() if seen.topic == topic]

    def readers_of(self, topic: str) -> list[Seen]:
        with self._lock:
            return [seen for seen in self._readers.values() if seen.topic == topic]

    def topics(self) -> dict[str, set[str]]:
        """ROS topics and their types."""
        found: dict[str, set[str]] = {}
        with self._lock:
            for seen in (*self._writers.values(), *self._readers.values()):
                name = ros_type(seen.type)
                if seen.topic.startswith("rt/") and name:
                    found.setdefault(seen.topic[2:], set()).add(name)
        return found

    def endpoints(self, topic: str, *, publishers: bool) -> list[GraphEndpoint]:
        """The publishers or subscriptions of a ROS topic with the nodes they belong to."""
        seen = self.writers_of(dds_topic(topic)) if publishers else self.readers_of(dds_topic(topic))
        with self._lock:
            owners = {
                guid: full_name(node)
                for nodes in self._nodes.values()
                for node in nodes
                for guid in (node.writers if publishers else node.readers)
            }
        return [
            GraphEndpoint(
                topic,
                ros_type(item.type) or item.type,
                owners.get(item.key.bytes, ""),
                item.reliability,
                item.type_hash,
            )
            for item in seen
        ]

    def close(self) -> None:
        for reader, number in self._closers:
            self._context.unwatch(reader, number)
            self._context.delete(reader)
        self._reader.close()


def full_name(node: NodeEntities) -> str:
    return f"{node.namespace.rstrip('/')}/{node.name}"
