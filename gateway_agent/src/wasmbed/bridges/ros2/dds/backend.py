"""The backend on cyclonedds: needs no ROS 2 installation; its services are those of rmw_cyclonedds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wasmbed.bridges.ros2.backend import each
from wasmbed.bridges.ros2.dds.context import Context, Discovery
from wasmbed.bridges.ros2.dds.endpoints import CACHE, LARGE_CACHE, DdsPublisher, DdsSubscription
from wasmbed.bridges.ros2.dds.graph import GraphView, GraphWriter, NodeEntities
from wasmbed.bridges.ros2.dds.services import CycloneClient, CycloneServer
from wasmbed.bridges.ros2.dds.types import DdsTypes
from wasmbed.bridges.ros2.names import check_namespace, check_node, dds_topic, dds_type
from wasmbed.bridges.ros2.types.rihs import type_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.bridges.ros2.backend import BatchCallback, GraphEndpoint, MessageCallback, ServiceHandler
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.types import CodecFactory


class DdsBackend:
    """One node in one domain."""

    name = "dds"

    def __init__(
        self,
        codecs: CodecFactory,
        *,
        domain_id: int,
        node: str,
        namespace: str = "/",
        discovery: Discovery | None = None,
        distribution: str = "jazzy",
    ) -> None:
        """Join the domain as `namespace/node`.

        Raises:
            ConfigurationError: the domain or its discovery.
            NameRejectedError: the node's name or namespace.
        """
        self.node, self.namespace = check_node(node), check_namespace(namespace)
        self.codecs = codecs
        self._hashes = distribution != "humble"
        self._hash_data: dict[str, bytes] = {}
        self.types = DdsTypes(codecs.store)
        self.context = Context(domain_id, discovery or Discovery())
        self._lock = threading.Lock()
        self._endpoints: list[DdsPublisher | DdsSubscription] = []
        self._graph_writer = GraphWriter(self.context, self.types, codecs)
        self.graph = GraphView(self.context, self.types, codecs)
        self._announce()

    def hash_data(self, type_name: str) -> bytes:
        """The type hash as it goes into an endpoint's user data; Humble has none."""
        if not self._hashes:
            return b""
        found = self._hash_data.get(type_name)
        if found is None:
            found = self._hash_data[type_name] = f"typehash={type_hash(self.codecs.store, type_name)};".encode()
        return found

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile) -> DdsPublisher:
        publisher = _Publisher(
            self, self.context, dds_topic(topic), self.types.get(type_name), qos, self.hash_data(type_name)
        )
        self.remember(publisher)
        return publisher

    def create_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: MessageCallback
    ) -> DdsSubscription:
        return self.create_batch_subscription(topic, type_name, qos, each(callback))

    def create_batch_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: BatchCallback
    ) -> DdsSubscription:
        subscription = _Subscription(
            *(self, self.context, dds_topic(topic), self.types.get(type_name), qos, callback),
            *(self.hash_data(type_name), self._cache(type_name)),
        )
        self.remember(subscription)
        return subscription

    def _cache(self, type_name: str) -> int:
        """How many samples of a type may wait for our thread."""
        members = (field.type for message in self.codecs.store.closure(type_name).values() for field in message.fields)
        return LARGE_CACHE if any(item.kind == "sequence" and not item.size for item in members) else CACHE

    def create_client(self, service: str, type_name: str, qos: QosProfile) -> CycloneClient:
        client = CycloneClient(self, service, type_name, qos)
        self.remember(*client.endpoints)
        return client

    def create_service(self, service: str, type_name: str, qos: QosProfile, handler: ServiceHandler) -> CycloneServer:
        server = CycloneServer(self, service, type_name, qos, handler)
        self.remember(*server.endpoints)
        return server

    async def nodes(self) -> Sequence[str]:
        return self.graph.nodes()

    async def endpoints(self, topic: str, *, publishers: bool) -> Sequence[GraphEndpoint]:
        return self.graph.endpoints(topic, publishers=publishers)

    def type_problems(self, topic: str, type_name: str) -> list[str]:
        """Peers on a topic whose type is another, or another definition by its hash.

        DDS never matches the former and says nothing. Of ROS's nodes it matches the latter, by the name of the type.
        """
        expected, ours = dds_type(type_name), self.hash_data(type_name).decode()
        found = set()
        for item in (*self.graph.writers_of(dds_topic(topic)), *self.graph.readers_of(dds_topic(topic))):
            if item.type != expected:
                found.add(f"a peer has {topic} as {item.type}, not {expected}")
            elif ours and item.type_hash and item.type_hash not in ours:
                found.add(f"a peer has another definition of {type_name} on {topic}: {item.type_hash}")
        return sorted(found)

    def remember(self, *endpoints: DdsPublisher | DdsSubscription) -> None:
        with self._lock:
            self._endpoints += endpoints
        self._announce()

    def forget(self, *endpoints: DdsPublisher | DdsSubscription) -> None:
        with self._lock:
            self._endpoints = [endpoint for endpoint in self._endpoints if endpoint not in endpoints]
        self._announce()

    def _announce(self) -> None:
        if self.context.closing:
            return
        with self._lock:
            readers = tuple(item.gid for item in self._endpoints if isinstance(item, DdsSubscription))
            writers = tuple(item.gid for item in self._endpoints if isinstance(item, DdsPublisher))
            self._graph_writer.publish([NodeEntities(self.namespace, self.node, readers, writers)])

    async def aclose(self) -> None:
        """Leave the domain; endpoints that are still open go with it."""
        self.context.close()


class _Publisher(DdsPublisher):
    def __init__(self, backend: DdsBackend, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._backend = backend

    def close(self) -> None:
        self._backend.forget(self)
        super().close()


class _Subscription(DdsSubscription):
    def __init__(self, backend: DdsBackend, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._backend = backend

    def close(self) -> None:
        self._backend.forget(self)
        super().close()
