"""What a way into ROS 2 offers: topics, services and the graph, in serialized messages.

Callbacks of subscriptions run on the backend's own thread and must return soon; those of services on the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from wasmbed.bridges.ros2.qos import QosProfile

    # True says that there was no room for the message, so that there is no hurry with the next one.
    MessageCallback = Callable[[bytes, "Received"], bool | None]
    # The same for messages that came together, each with its source timestamp (0: not known).
    BatchCallback = Callable[[Sequence[tuple[bytes, int]]], bool | None]
    ServiceHandler = Callable[[bytes], Awaitable[bytes]]
    ProblemCallback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Received:
    """What is known of a message beside its bytes: when it was written, in nanoseconds since 1970."""

    source_timestamp: int = 0


def each(callback: MessageCallback) -> BatchCallback:
    """A callback for messages one by one as one for those that came together."""

    def batch(messages: Sequence[tuple[bytes, int]]) -> bool:
        full = False
        for data, stamp in messages:
            full = callback(data, Received(stamp)) is True
        return full

    return batch


@dataclass
class EndpointStatistics:
    """Counters of one publisher or subscription; problems has the last few, in words.

    `refused` is why the endpoint could not be made, so that nothing passes; empty while all is well.
    `overruns` counts how often the subscription's cache was found full: what came then has replaced older messages,
    and DDS does not say how many.
    """

    messages: int = 0
    payload_bytes: int = 0
    malformed: int = 0
    lost: int = 0
    dropped: int = 0
    overruns: int = 0
    matched: int = 0
    refused: str = ""
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
            del self.problems[:-8]


@dataclass(frozen=True)
class GraphEndpoint:
    """A publisher or a subscription as it is seen in the graph; node is `/namespace/name`, empty where not known."""

    topic: str
    type: str
    node: str
    reliability: str
    type_hash: str = ""


class Publisher(Protocol):
    """Publishes serialized messages on one topic."""

    statistics: EndpointStatistics

    def publish(self, data: bytes) -> bool:
        """False when the message was dropped and counted; raises CdrError for bytes that are no message."""
        ...

    def close(self) -> None: ...


class Subscription(Protocol):
    statistics: EndpointStatistics

    def close(self) -> None: ...


class Client(Protocol):
    """Calls one service."""

    async def ready(self, timeout_s: float) -> None:
        """Wait for a server; raises CallError, or IncompatiblePeerError for one that cannot be called this way."""
        ...

    async def call(self, request: bytes, timeout_s: float) -> bytes:
        """Raises CallError when there is no answer in time."""
        ...

    def look(self) -> None:
        """Look for problems that come as no event, such as a server of another type."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with its endpoints or their peers, in words."""
        ...

    def close(self) -> None: ...


class Server(Protocol):
    """Serves one service."""

    def look(self) -> None:
        """Look for problems that come as no event, such as a client of another type."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with its endpoints or their peers, in words."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A way into one domain of ROS 2."""

    name: str

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile) -> Publisher: ...

    def create_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: MessageCallback
    ) -> Subscription: ...

    def create_batch_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: BatchCallback
    ) -> Subscription: ...

    def create_client(self, service: str, type_name: str, qos: QosProfile) -> Client: ...

    def create_service(self, service: str, type_name: str, qos: QosProfile, handler: ServiceHandler) -> Server: ...

    async def nodes(self) -> Sequence[str]: ...

    async def endpoints(self, topic: str, *, publishers: bool) -> Sequence[GraphEndpoint]: ...

    def type_problems(self, topic: str, type_name: str) -> Sequence[str]:
        """Peers that have a topic with another type, in words; nothing where the RMW tells of them itself."""
        ...

    async def aclose(self) -> None: ...
