"""The process that has rclpy: a node whose topics and services are driven over stdin and stdout in serialized messages.

Runs under the interpreter of a ROS 2 installation, so it uses the standard library and rclpy alone. A frame is
u32 length of the rest, u16 length of the header (both little endian), a header in JSON, a payload.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import struct
import sys
import threading
import traceback
from typing import Any

import rclpy  # type: ignore[import-not-found]
from rclpy.callback_groups import ReentrantCallbackGroup  # type: ignore[import-not-found]
from rclpy.duration import Duration  # type: ignore[import-not-found]
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor  # type: ignore[import-not-found]
from rclpy.node import Node  # type: ignore[import-not-found]
from rclpy.qos import (  # type: ignore[import-not-found]
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.serialization import deserialize_message, serialize_message  # type: ignore[import-not-found]
from rclpy.subscription import Subscription  # type: ignore[import-not-found]

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks  # type: ignore[import-not-found]
except ImportError:  # before jazzy
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks  # type: ignore[import-not-found]

MAX_FRAME = 80 << 20
_PARTS = {
    "_SendGoal": "SendGoalService",
    "_GetResult": "GetResultService",
    "_FeedbackMessage": "FeedbackMessage",
}


class MissingTypeError(Exception):
    """The installation does not have a type."""


def find(name: str) -> Any:
    """The class of an interface; parts of actions are inside their `Impl`. Raises MissingTypeError."""
    package, kind, rest = name.split("/")
    try:
        module = importlib.import_module(f"{package}.{kind}")
        for suffix, part in _PARTS.items():
            if kind == "action" and rest.endswith(suffix):
                return getattr(getattr(module, rest[: -len(suffix)]).Impl, part)
        return getattr(module, rest)
    except (ImportError, AttributeError) as error:
        raise MissingTypeError(
            f"the installation has no {name} ({error}): build {package} there (ros2_workspace, with ros2_source apt or "
            "existing), or use the backend dds, which needs the definitions alone"
        ) from None


def profile(data: dict[str, Any]) -> QoSProfile:
    qos = QoSProfile(
        depth=data["depth"],
        history=HistoryPolicy.KEEP_ALL if data["keep_all"] else HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if data["reliable"] else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if data["transient_local"] else DurabilityPolicy.VOLATILE,
        liveliness=(
            LivelinessPolicy.MANUAL_BY_TOPIC if data["liveliness"] == "manual_by_topic" else LivelinessPolicy.AUTOMATIC
        ),
    )
    for key, attribute in (
        ("deadline_s", "deadline"),
        ("lifespan_s", "lifespan"),
        ("lease_s", "liveliness_lease_duration"),
    ):
        if data[key] > 0:
            setattr(qos, attribute, Duration(nanoseconds=int(data[key] * 1e9)))
    return qos


def mismatch(offered: QoSProfile, requested: QoSProfile) -> str:
    """The policy for which two endpoints of a service do not match, of those that services have; empty when they do."""
    if (offered.reliability, requested.reliability) == (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE):
        return "reliability"
    pair = (offered.durability, requested.durability)
    return "durability" if pair == (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL) else ""


class Worker:
    def __init__(self, node: Node, output: Any, max_requests: int) -> None:
        self.node = node
        self.output = output
        self.max_requests = max_requests
        self.lock = threading.RLock()
        self.group = ReentrantCallbackGroup()
        self.entities: dict[int, Any] = {}
        # By service and call: what relates a reply to the request that waits for it.
        self.headers: dict[int, dict[int, Any]] = {}
        self.calls = 0
        # Our calls that wait for their replies: the client and the future.
        self.pending: dict[int, tuple[Any, Any]] = {}
        # What services and clients were made of: name, type, QoS, and whether we serve.
        self.made: dict[int, tuple[str, str, QoSProfile, bool]] = {}

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        text = json.dumps(header).encode()
        frame = struct.pack("<IH", 2 + len(text) + len(payload), len(text)) + text + payload
        with self.lock:
            self.output.write(frame)
            self.output.flush()

    def publisher(self, entity: int, topic: str, type_name: str, qos: dict[str, Any]) -> None:
        events = PublisherEventCallbacks(
            incompatible_qos=self.incompatible(entity, "subscription"), **self.other_type(entity, "subscription")
        )
        self.entities[entity] = self.node.create_publisher(find(type_name), topic, profile(qos), event_callbacks=events)

    def incompatible(self, entity: int, peer: str) -> Any:
        def told(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind).removesuffix("_QOS_POLICY").lower()
            self.send({"event": "problem", "id": entity, "text": f"incompatible QoS with a {peer}: {policy}"})

        return told

    def other_type(self, entity: int, peer: str) -> dict[str, Any]:
        """The callback for a peer with another type on the topic; Humble has none."""
        text = f"a {peer} has the topic with another type"
        if "incompatible_type" not in inspect.signature(PublisherEventCallbacks).parameters:
            return {}
        return {"incompatible_type": lambda _: self.send({"event": "problem", "id": entity, "text": text})}

    def publish(self, entity: int, payload: bytes) -> None:
        self.entities[entity].publish(payload)

    def subscription(self, entity: int, topic: str, type_name: str, qos: dict[str, Any]) -> None:
        def received(data: bytes, info: Any) -> None:
            self.send({"event": "message", "id": entity, "stamp": info["source_timestamp"]}, data)

        def received_alone(data: bytes) -> None:
            self.send({"event": "message", "id": entity, "stamp": 0}, data)

        def lost(event: Any) -> None:
            self.send({"event": "lost", "id": entity, "total": event.total_count})

        events = SubscriptionEventCallbacks(
            incompatible_qos=self.incompatible(entity, "publisher"),
            message_lost=lost,
            **self.other_type(entity, "publisher"),
        )
        self.entities[entity] = self.node.create_subscription(
            # Before there was this, rclpy did not tell when a message was written.
            *(find(type_name), topic, received if hasattr(Subscription, "CallbackType") else received_alone),
            profile(qos),
            raw=True,
            callback_group=self.group,
            event_callbacks=events,
        )

    def client(self, entity: int, service: str, type_name: str, qos: dict[str, Any]) -> None:
        self.entities[entity] = self.node.create_client(
            find(type_name), service, qos_profile=profile(qos), callback_group=self.group
        )
        self.made[entity] = (service, type_name, profile(qos), False)

    def ready(self, entity: int) -> dict[str, Any]:
        return {"ready": self.entities[entity].service_is_ready()}

    def call(self, entity: int, number: int, payload: bytes) -> None:
        client = self.entities[entity]
        future = client.call_async(deserialize_message(payload, client.srv_type.Request))

        def done(result: Any) -> None:
            with self.lock:
                if self.pending.pop(number, None) is None:
                    return
            if result.exception() is not None or result.result() is None:
                self.send({"event": "answer", "number": number, "error": str(result.exception())})
            else:
                self.send({"event": "answer", "number": number}, serialize_message(result.result()))

        with self.lock:
            self.pending[number] = (client, future)
        future.add_done_callback(done)

    def abandon(self, call: int) -> None:
        """Wait for a reply no longer."""
        with self.lock:
            found = self.pending.pop(call, None)
        if found is not None:
            client, future = found
            client.remove_pending_request(future)

    def look(self, entity: int) -> None:
        """Tell of peers of a service that cannot be matched: rclpy has no events for them."""
        if entity not in self.made:
            return
        service, type_name, qos, serving = self.made[entity]
        package, kind, rest = type_name.split("/")
        peer = "client" if serving else "server"
        # As every RMW on DDS has them; with another there is nothing to see here.
        for topic, part, outward in (
            (f"rq{service}Request", "Request", not serving),
            (f"rr{service}Reply", "Response", serving),
        ):
            find_peers = (
                self.node.get_subscriptions_info_by_topic if outward else self.node.get_publishers_info_by_topic
            )
            expected = f"{package}::{kind}::dds_::{rest}_{part}_"
            for item in find_peers(topic, no_mangle=True):
                offered, requested = (qos, item.qos_profile) if outward else (item.qos_profile, qos)
                if item.topic_type != expected:
                    text = f"a {peer} has the service with another type: {item.topic_type}, not {expected}"
                elif policy := mismatch(offered, requested):
                    text = f"incompatible QoS with a {peer}: {policy}"
                else:
                    continue
                self.send({"event": "problem", "id": entity, "text": text})

    def service(self, entity: int, service: str, type_name: str, qos: dict[str, Any]) -> None:
        """Serve without holding up an executor's thread until there is a reply, and without a reply when there is none.

        rclpy hands what a callback returns to `send_response`, with the header of the request. Here the callback
        returns the request, and what stands in for `send_response` keeps the header.
        """
        made = threading.Event()

        def taken(request: Any, _: Any) -> Any:
            made.wait()
            return request

        found = self.node.create_service(
            *(find(type_name), service, taken), qos_profile=profile(qos), callback_group=self.group
        )
        found.send_response = lambda request, header: self.keep(entity, request, header)
        self.headers[entity] = {}
        self.entities[entity] = found
        self.made[entity] = (service, type_name, profile(qos), True)
        made.set()

    def keep(self, entity: int, request: Any, header: Any) -> None:
        """Hand on a request and keep its header; of too many the newest is refused, older ones are still waited for."""
        data = serialize_message(request)
        with self.lock:
            headers = self.headers.get(entity)
            if headers is None:
                return
            if len(headers) >= self.max_requests:
                self.send({"event": "refused", "id": entity})
                return
            self.calls += 1
            headers[self.calls] = header
            self.send({"event": "request", "id": entity, "call": self.calls}, data)

    def forget(self, entity: int, call: int) -> Any:
        """Leave a request without a reply; its header, None when it is not kept any more."""
        with self.lock:
            return self.headers.get(entity, {}).pop(call, None)

    def reply(self, entity: int, call: int, payload: bytes) -> None:
        header = self.forget(entity, call)
        if header is not None:
            service = self.entities[entity]
            type(service).send_response(service, deserialize_message(payload, service.srv_type.Response), header)

    def close(self, entity: int) -> None:
        found = self.entities.pop(entity, None)
        self.made.pop(entity, None)
        with self.lock:
            self.headers.pop(entity, None)
            self.pending = {number: item for number, item in self.pending.items() if item[0] is not found}
        for destroy in ("publisher", "subscription", "client", "service"):
            if type(found).__name__.lower() == destroy:
                getattr(self.node, f"destroy_{destroy}")(found)

    def nodes(self) -> dict[str, Any]:
        return {"nodes": [f"{space.rstrip('/')}/{name}" for name, space in self.node.get_node_names_and_namespaces()]}

    def endpoints(self, topic: str, publishers: bool) -> dict[str, Any]:
        node = self.node
        found = node.get_publishers_info_by_topic(topic) if publishers else node.get_subscriptions_info_by_topic(topic)
        return {
            "endpoints": [
                {
                    "topic": topic,
                    "type": item.topic_type,
                    "node": f"{item.node_namespace.rstrip('/')}/{item.node_name}",
                    "reliability": item.qos_profile.reliability.name.lower().replace("_", " "),
                    "type_hash": str(getattr(item, "topic_type_hash", "")),
                }
                for item in found
            ]
        }

    def obey(self, header: dict[str, Any], payload: bytes) -> None:
        operation, number = header.pop("op"), header.get("number")
        if payload or operation == "publish":
            header["payload"] = payload
        if operation != "call":
            header.pop("number", None)
        try:
            result = getattr(self, operation)(**header)
        except Exception as error:
            text = str(error) if isinstance(error, MissingTypeError) else f"{type(error).__name__}: {error}"
            self.send({"event": "answer", "number": number, "error": text})
        else:
            if number is not None and operation != "call":
                self.send({"event": "answer", "number": number, **(result or {})})


def read(source: Any, size: int) -> bytes:
    data: bytes = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def main() -> None:
    # rcl logs to stdout by default; what is not a frame must not get between the frames.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    name, namespace, max_requests = sys.argv[1:4]
    rclpy.init(args=[])
    node = Node(name, namespace=namespace, start_parameter_services=False, enable_rosout=False)
    worker = Worker(node, output, int(max_requests))
    executor = MultiThreadedExecutor(8)
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            try:
                executor.spin()
            except Exception:
                # A worker that hears nothing any more is one to be started again.
                traceback.print_exc()
                os._exit(1)

    threading.Thread(target=spin, daemon=True).start()
    worker.send({"event": "ready", "rmw": rclpy.get_rmw_implementation_identifier()})
    source = sys.stdin.buffer
    try:
        while True:
            size, head = struct.unpack("<IH", read(source, 6))
            if size > MAX_FRAME or head + 2 > size:
                break
            header = json.loads(read(source, head))
            worker.obey(header, read(source, size - 2 - head))
    except EOFError:
        pass
    # The executor's threads end with the process: destroying a spinning node can hang.
    os._exit(0)


if __name__ == "__main__":
    main()
