"""A real ROS 2 node for the tests: runs in an interpreter that has rclpy, obeys JSON lines, answers with JSON lines.

Imports nothing of the product, so that what it says of a message is rclpy's word alone.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import threading
import time
from typing import Any

import rclpy
import rclpy.action
import rclpy.executors
import rclpy.parameter
import rclpy.qos
from rclpy.node import Node

_output = threading.Lock()


def say(**values: Any) -> None:
    with _output:
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


def find(name: str) -> Any:
    package, kind, rest = name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), rest)


def plain(value: Any) -> Any:
    """A message as JSON; octets as a list of integers, what is not a finite number as a string."""
    if hasattr(value, "get_fields_and_field_types"):
        kinds = value.get_fields_and_field_types()
        found = {name: plain(getattr(value, name)) for name in kinds}
        # A single byte is a bytes object in rclpy.
        return {name: item[0] if kinds[name] == "octet" else item for name, item in found.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        # byte arrays are lists of single bytes in rclpy
        return [
            item[0] if isinstance(item, list) and isinstance(raw, bytes) else item
            for item, raw in zip(items, value, strict=True)
        ]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def fill(message: Any, values: dict[str, Any]) -> Any:
    """Set fields from JSON."""
    for name, value in values.items():
        current = getattr(message, name)
        kind = message.get_fields_and_field_types()[name]
        if hasattr(current, "get_fields_and_field_types"):
            fill(current, value)
        elif "/" in kind:
            element = kind.split("[")[0].removeprefix("sequence<").split(",")[0].rstrip(">")
            package, rest = element.split("/")
            setattr(message, name, [fill(find(f"{package}/msg/{rest}")(), item) for item in value])
        else:
            setattr(message, name, value)
    return message


def qos_of(data: dict[str, Any]) -> Any:
    profile = rclpy.qos.QoSProfile(depth=data.get("depth", 10))
    if data.get("best_effort"):
        profile.reliability = rclpy.qos.ReliabilityPolicy.BEST_EFFORT
    if data.get("transient_local"):
        profile.durability = rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL
    return profile


class Peer:
    def __init__(self, node: Node, executor: Any) -> None:
        self.node = node
        self.executor = executor
        self.kept: list[Any] = []
        self.publishers: dict[str, Any] = {}
        self.replies: list[Any] = []
        self.goals: list[Any] = []
        self.results: list[Any] = []

    def subscribe(self, topic: str, type_name: str, quiet: bool = False, **qos: Any) -> None:
        counts = [0]

        def received(message: Any) -> None:
            counts[0] += 1
            if quiet:
                say(event="count", topic=topic, count=counts[0])
            else:
                say(event="message", topic=topic, message=plain(message))

        self.kept.append(self.node.create_subscription(find(type_name), topic, received, qos_of(qos)))

    def echo(self, source: str, target: str, type_name: str, **qos: Any) -> None:
        publisher = self.node.create_publisher(find(type_name), target, qos_of(qos))
        self.kept.append(publisher)
        subscription = self.node.create_subscription(find(type_name), source, publisher.publish, qos_of(qos))
        self.kept.append(subscription)

    def publisher(self, topic: str, type_name: str, **qos: Any) -> None:
        self.publishers[topic] = self.node.create_publisher(find(type_name), topic, qos_of(qos))

    def publish(self, topic: str, values: dict[str, Any], count: int = 1, interval: float = 0.0) -> None:
        publisher = self.publishers[topic]
        message = fill(publisher.msg_type(), values)
        for _ in range(count):
            publisher.publish(message)
            if interval:
                time.sleep(interval)

    def serve(self, service: str, type_name: str) -> None:
        """SetBool answers what it got; Arrays and BasicTypes echo."""

        def answer(request: Any, response: Any) -> Any:
            if hasattr(response, "success"):
                response.success = request.data
                response.message = f"got {request.data}"
                return response
            for name in response.get_fields_and_field_types():
                setattr(response, name, getattr(request, name))
            return response

        self.kept.append(self.node.create_service(find(type_name), service, answer))

    def serve_mute(self, service: str, type_name: str) -> None:
        """Take requests and never answer."""
        found = self.node.create_service(find(type_name), service, lambda request, response: response)
        found.send_response = lambda response, header: None
        self.kept.append(found)

    def serve_endless(self, action: str) -> None:
        """Accept goals that never end."""
        kind = find("test_msgs/action/Fibonacci").Impl

        def accept(_: Any, response: Any) -> Any:
            response.accepted = True
            return response

        cancel = find("action_msgs/srv/CancelGoal")
        self.kept.append(self.node.create_service(kind.SendGoalService, f"{action}/_action/send_goal", accept))
        self.kept.append(
            self.node.create_service(cancel, f"{action}/_action/cancel_goal", lambda _, response: response)
        )
        found = self.node.create_service(kind.GetResultService, f"{action}/_action/get_result", lambda _, it: it)
        found.send_response = lambda response, header: None
        self.kept.append(found)

    def client(self, service: str, type_name: str, **qos: Any) -> None:
        self.kept.append(self.node.create_client(find(type_name), service, qos_profile=qos_of(qos)))

    def call(self, service: str, type_name: str, values: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
        kind = find(type_name)
        client = self.node.create_client(kind, service)
        try:
            if not client.wait_for_service(timeout_sec=timeout):
                return {"error": "no service"}
            done = threading.Event()
            future = client.call_async(fill(kind.Request(), values))
            future.add_done_callback(lambda _: done.set())
            return {"reply": plain(future.result())} if done.wait(timeout) else {"error": "no answer"}
        finally:
            self.node.destroy_client(client)

    def ask(self, service: str, type_name: str, values: dict[str, Any], count: int) -> None:
        """Send requests without waiting for their replies."""
        kind = find(type_name)
        client = self.node.create_client(kind, service)
        self.kept.append(client)
        if not client.wait_for_service(timeout_sec=10.0):
            raise TimeoutError("no service")
        self.replies += [client.call_async(fill(kind.Request(), values)) for _ in range(count)]

    def replied(self) -> dict[str, Any]:
        return {"results": [plain(future.result()) if future.done() else None for future in self.replies]}

    def send_goals(self, action: str, count: int) -> dict[str, Any]:
        """Send goals of the orders 0, 1, ... and ask for their results without waiting for these."""
        kind = find("test_msgs/action/Fibonacci")
        client = rclpy.action.ActionClient(self.node, kind, action)
        self.kept.append(client)
        if not client.wait_for_server(timeout_sec=10.0):
            raise TimeoutError("no server")
        for order in range(count):
            self.goals.append(wait(client.send_goal_async(kind.Goal(order=order))))
            self.results.append(self.goals[-1].get_result_async())
        return {"accepted": [goal.accepted for goal in self.goals]}

    def cancel_goal(self, index: int) -> dict[str, Any]:
        return {"canceling": len(wait(self.goals[index].cancel_goal_async()).goals_canceling)}

    def goal_results(self) -> dict[str, Any]:
        """Status and sequence of each goal, null for one without a result."""
        answers = [future.result() if future.done() else None for future in self.results]
        return {"results": [answer and [answer.status, list(answer.result.sequence)] for answer in answers]}

    def serve_fibonacci(self, action: str) -> None:
        kind = find("test_msgs/action/Fibonacci")

        def execute(handle: Any) -> Any:
            sequence = [0, 1]
            for _ in range(1, handle.request.order):
                if handle.is_cancel_requested:
                    handle.canceled()
                    return kind.Result(sequence=sequence)
                sequence.append(sequence[-1] + sequence[-2])
                feedback = kind.Feedback()
                feedback.sequence = sequence
                handle.publish_feedback(feedback)
                time.sleep(0.05)
            handle.succeed()
            return kind.Result(sequence=sequence)

        self.kept.append(
            rclpy.action.ActionServer(
                self.node,
                kind,
                action,
                execute,
                goal_callback=lambda goal: (
                    rclpy.action.GoalResponse.ACCEPT if goal.order < 1000 else rclpy.action.GoalResponse.REJECT
                ),
                cancel_callback=lambda _: rclpy.action.CancelResponse.ACCEPT,
            )
        )

    def fibonacci(self, action: str, order: int, cancel: bool = False) -> dict[str, Any]:
        kind = find("test_msgs/action/Fibonacci")
        client = rclpy.action.ActionClient(self.node, kind, action)
        try:
            if not client.wait_for_server(timeout_sec=10.0):
                return {"error": "no server"}
            feedback: list[list[int]] = []
            goal = client.send_goal_async(
                kind.Goal(order=order), feedback_callback=lambda item: feedback.append(list(item.feedback.sequence))
            )
            handle = wait(goal)
            if not handle.accepted:
                return {"accepted": False}
            result = handle.get_result_async()
            if cancel:
                wait(handle.cancel_goal_async())
            answer = wait(result)
            return {
                "accepted": True,
                "status": answer.status,
                "sequence": list(answer.result.sequence),
                "feedback": feedback,
            }
        finally:
            client.destroy()

    def declare(self, name: str, value: Any) -> None:
        self.node.declare_parameter(name, value)

    def parameter(self, name: str) -> dict[str, Any]:
        return {"value": plain(self.node.get_parameter(name).value)}

    def graph(self, topic: str = "") -> dict[str, Any]:
        return {
            "nodes": sorted(f"{space.rstrip('/')}/{name}" for name, space in self.node.get_node_names_and_namespaces()),
            "topics": dict(self.node.get_topic_names_and_types()),
            "services": dict(self.node.get_service_names_and_types()),
            "publishers": [self.info(item) for item in self.node.get_publishers_info_by_topic(topic)] if topic else [],
            "subscriptions": [self.info(i) for i in self.node.get_subscriptions_info_by_topic(topic)] if topic else [],
        }

    def node_topics(self, node: str, namespace: str) -> dict[str, Any]:
        return {
            "publishers": dict(self.node.get_publisher_names_and_types_by_node(node, namespace)),
            "subscriptions": dict(self.node.get_subscriber_names_and_types_by_node(node, namespace)),
        }

    @staticmethod
    def info(item: Any) -> dict[str, Any]:
        return {"node": item.node_name, "type": item.topic_type, "hash": str(getattr(item, "topic_type_hash", ""))}


def wait(future: Any, timeout: float = 15.0) -> Any:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(timeout):
        raise TimeoutError("the future was not done")
    return future.result()


def main() -> None:
    name, namespace = sys.argv[1:3]
    rclpy.init()
    node = Node(name, namespace=namespace)
    executor = rclpy.executors.MultiThreadedExecutor(4)
    executor.add_node(node)
    peer = Peer(node, executor)
    threading.Thread(target=executor.spin, daemon=True).start()
    say(event="ready", python=sys.version.split()[0])
    for line in sys.stdin:
        command = json.loads(line)
        operation, number = command.pop("op"), command.pop("number")
        try:
            result = getattr(peer, operation)(**command)
        except Exception as error:
            say(event="answer", number=number, error=repr(error))
        else:
            say(event="answer", number=number, **(result or {}))
    # No orderly shutdown: the tests also kill peers, and destroying a spinning executor's node can hang.
    sys.stdout.flush()


if __name__ == "__main__":
    main()
