"""A node over any backend: typed topics, services, actions, parameters, log."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.actions import ActionClient, ActionServer
from wasmbed.bridges.ros2.errors import CdrError
from wasmbed.bridges.ros2.names import resolve
from wasmbed.bridges.ros2.parameters import ParameterServer, RemoteParameters
from wasmbed.bridges.ros2.qos import DEFAULT, ROSOUT, SERVICES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from wasmbed.bridges.ros2.actions import Goal
    from wasmbed.bridges.ros2.backend import Backend, Publisher, Received, Server, Subscription
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.types import CodecFactory, Value

log = logging.getLogger(__name__)

_LOG: Final = "rcl_interfaces/msg/Log"
_LEVELS: Final = {logging.DEBUG: 10, logging.INFO: 20, logging.WARNING: 30, logging.ERROR: 40, logging.CRITICAL: 50}
_LOG_TEXT_MAX: Final = 4096


class Node:
    """What an application or the bridge itself does in ROS 2, in messages instead of bytes."""

    def __init__(
        self,
        backend: Backend,
        codecs: CodecFactory,
        *,
        name: str,
        namespace: str = "/",
        remappings: Mapping[str, str] | None = None,
    ) -> None:
        self.backend, self.codecs = backend, codecs
        self.name, self.namespace = name, namespace
        self._remappings = dict(remappings or {})
        self._rosout: Publisher | None = None
        self.parameters: ParameterServer | None = None

    @property
    def full_name(self) -> str:
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def resolve(self, name: str) -> str:
        """The full name of a topic, service or action; raises NameRejectedError."""
        return resolve(name, self.name, self.namespace, self._remappings)

    def publisher(self, topic: str, type_name: str, qos: QosProfile = DEFAULT) -> TypedPublisher:
        return TypedPublisher(
            self.backend.create_publisher(self.resolve(topic), type_name, qos), self.codecs, type_name
        )

    def subscription(
        self, topic: str, type_name: str, callback: Callable[[Any], None], qos: QosProfile = DEFAULT
    ) -> Subscription:
        """Call back with each message; malformed ones are counted and left out."""
        codec = self.codecs.codec(type_name)

        def received(data: bytes, _: Received) -> None:
            try:
                message = codec.loads(data)
            except CdrError as error:
                subscription.statistics.malformed += 1
                subscription.statistics.problem(str(error))
                return
            callback(message)

        subscription = self.backend.create_subscription(self.resolve(topic), type_name, qos, received)
        return subscription

    def client(self, service: str, type_name: str, qos: QosProfile = SERVICES) -> TypedClient:
        return TypedClient(self, service, type_name, qos)

    def service(
        self, service: str, type_name: str, handler: Callable[[Any], Awaitable[Value]], qos: QosProfile = SERVICES
    ) -> Server:
        """Serve with an async function from request to response; what it raises leaves the request unanswered."""
        request, response = self.codecs.codec(f"{type_name}_Request"), self.codecs.codec(f"{type_name}_Response")

        async def handle(data: bytes) -> bytes:
            return response.dumps(await handler(request.loads(data)))

        return self.backend.create_service(self.resolve(service), type_name, qos, handle)

    def action_client(self, action: str, type_name: str) -> ActionClient:
        return ActionClient(self, action, type_name)

    def action_server(
        self,
        action: str,
        type_name: str,
        execute: Callable[[Goal], Awaitable[Value]],
        accept: Callable[[Any], bool] = lambda _: True,
    ) -> ActionServer:
        return ActionServer(self, action, type_name, execute, accept)

    def offer_parameters(self, values: Mapping[str, Any], **options: Any) -> ParameterServer:
        """Serve parameters of this node."""
        self.parameters = ParameterServer(self, values, **options)
        return self.parameters

    def remote_parameters(self, node: str) -> RemoteParameters:
        """The parameters of another node by its full name."""
        return RemoteParameters(self, node)

    def log(self, level: int, text: str, *, name: str | None = None) -> None:
        """Publish a line on /rosout; level as in `logging`."""
        if self._rosout is None:
            self._rosout = self.backend.create_publisher("/rosout", _LOG, ROSOUT)
        codec = self.codecs.codec(_LOG)
        message: Any = codec.cls()
        now = time.time_ns()
        message.stamp.sec, message.stamp.nanosec = divmod(now, 1_000_000_000)
        message.level = _LEVELS.get(level, 20)
        message.name = (name or self.full_name.strip("/")).replace("/", ".")
        message.msg = text.replace("\0", "")[:_LOG_TEXT_MAX]
        self._rosout.publish(codec.dumps(message))

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Wait for something in the graph that is no event."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True


class TypedPublisher:
    """Publishes messages of one type."""

    def __init__(self, publisher: Publisher, codecs: CodecFactory, type_name: str) -> None:
        self.raw = publisher
        self._codec = codecs.codec(type_name)

    @property
    def statistics(self) -> Any:
        return self.raw.statistics

    def publish(self, message: Value) -> bool:
        """False when it was dropped; raises CdrError for a message that cannot be serialized."""
        return self.raw.publish(self._codec.dumps(message))

    def close(self) -> None:
        self.raw.close()


class TypedClient:
    """Calls a service with messages."""

    def __init__(self, node: Node, service: str, type_name: str, qos: QosProfile) -> None:
        self.raw = node.backend.create_client(node.resolve(service), type_name, qos)
        self._request = node.codecs.codec(f"{type_name}_Request")
        self._response = node.codecs.codec(f"{type_name}_Response")

    def request(self, *arguments: Any, **fields: Any) -> Any:
        """A request to fill."""
        return self._request.cls(*arguments, **fields)

    async def ready(self, timeout_s: float = 5.0) -> None:
        await self.raw.ready(timeout_s)

    async def call(self, request: Value, timeout_s: float = 5.0) -> Any:
        """Raises CallError, IncompatiblePeerError, CdrError."""
        return self._response.loads(await self.raw.call(self._request.dumps(request), timeout_s))

    def close(self) -> None:
        self.raw.close()
