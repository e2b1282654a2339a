"""The messages that ROS 2 makes of services and actions (rosidl): requests, responses, events, goals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmbed.bridges.ros2.types.model import Action, Field, FieldType, Message, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

_UUID = FieldType("unique_identifier_msgs/msg/UUID")
_TIME = FieldType("builtin_interfaces/msg/Time")


def service_messages(service: Service) -> Iterator[Message]:
    """Request, response and event of a service."""
    yield service.request
    yield service.response
    yield Message(
        f"{service.name}_Event",
        (
            Field("info", FieldType("service_msgs/msg/ServiceEventInfo")),
            Field("request", FieldType(service.request.name, kind="sequence", size=1)),
            Field("response", FieldType(service.response.name, kind="sequence", size=1)),
        ),
    )


def send_goal(action: Action) -> Service:
    name = f"{action.name}_SendGoal"
    return Service(
        name,
        Message(f"{name}_Request", (Field("goal_id", _UUID), Field("goal", FieldType(action.goal.name)))),
        Message(f"{name}_Response", (Field("accepted", FieldType("bool")), Field("stamp", _TIME))),
    )


def get_result(action: Action) -> Service:
    name = f"{action.name}_GetResult"
    return Service(
        name,
        Message(f"{name}_Request", (Field("goal_id", _UUID),)),
        Message(
            f"{name}_Response", (Field("status", FieldType("int8")), Field("result", FieldType(action.result.name)))
        ),
    )


def feedback_message(action: Action) -> Message:
    return Message(
        f"{action.name}_FeedbackMessage",
        (Field("goal_id", _UUID), Field("feedback", FieldType(action.feedback.name))),
    )


def action_messages(action: Action) -> Iterator[Message]:
    """All messages of an action."""
    yield from (action.goal, action.result, action.feedback)
    yield from service_messages(send_goal(action))
    yield from service_messages(get_result(action))
    yield feedback_message(action)


def service_type(service: Service) -> Message:
    """The structure that stands for a service in type descriptions; never on the wire."""
    return Message(
        service.name,
        (
            Field("request_message", FieldType(service.request.name)),
            Field("response_message", FieldType(service.response.name)),
            Field("event_message", FieldType(f"{service.name}_Event")),
        ),
    )


def action_type(action: Action) -> Message:
    """The structure that stands for an action in type descriptions; never on the wire."""
    return Message(
        action.name,
        (
            Field("goal", FieldType(action.goal.name)),
            Field("result", FieldType(action.result.name)),
            Field("feedback", FieldType(action.feedback.name)),
            Field("send_goal_service", FieldType(f"{action.name}_SendGoal")),
            Field("get_result_service", FieldType(f"{action.name}_GetResult")),
            Field("feedback_message", FieldType(f"{action.name}_FeedbackMessage")),
        ),
    )
