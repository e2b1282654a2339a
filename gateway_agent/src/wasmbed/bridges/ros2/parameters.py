"""Parameters of ROS 2: served by our node, and read and set at others (rcl_interfaces)."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import ValidationError
from wasmbed.bridges.ros2.qos import PARAMETER_EVENTS, PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wasmbed.bridges.ros2.node import Node, TypedClient
    from wasmbed.bridges.ros2.types import CodecFactory, Value

_PACKAGE: Final = "rcl_interfaces"
NOT_SET: Final = 0
# Type number and field of ParameterValue by what a Python value is; arrays of an empty list are strings.
_FIELDS: Final = (
    None,
    "bool_value",
    "integer_value",
    "double_value",
    "string_value",
    "byte_array_value",
    "bool_array_value",
    "integer_array_value",
    "double_array_value",
    "string_array_value",
)
MAX_PARAMETERS: Final = 1000
_SERVICES: Final = {
    "describe_parameters": "DescribeParameters",
    "get_parameter_types": "GetParameterTypes",
    "get_parameters": "GetParameters",
    "list_parameters": "ListParameters",
    "set_parameters": "SetParameters",
    "set_parameters_atomically": "SetParametersAtomically",
}


def parameter_type(value: Any) -> int:
    """The number of the type of a value (ParameterType.msg); raises ValidationError."""
    scalars = {bool: 1, int: 2, float: 3, str: 4, bytes: 5}
    if value is None:
        return NOT_SET
    if type(value) in scalars:
        return scalars[type(value)]
    if isinstance(value, list | tuple | array):
        kinds = {type(item) for item in value}
        if not kinds:
            return 9
        if len(kinds) == 1 and (number := {bool: 6, int: 7, float: 8, str: 9}.get(kinds.pop())):
            return number
    raise ValidationError(f"a parameter cannot be a {type(value).__name__} of this content")


def to_message(codecs: CodecFactory, value: Any) -> Value:
    """A ParameterValue; raises ValidationError."""
    message: Any = codecs.cls(f"{_PACKAGE}/msg/ParameterValue")()
    message.type = parameter_type(value)
    name = _FIELDS[message.type]
    if name is not None:
        setattr(message, name, value)
    return message  # type: ignore[no-any-return]


def from_message(message: Any) -> Any:
    """The Python value of a ParameterValue, None when it is not set or of an unknown type."""
    if not 0 < message.type < len(_FIELDS):
        return None
    value = getattr(message, _FIELDS[message.type] or "")
    return list(value) if isinstance(value, array | tuple) else value


@dataclass
class Parameter:
    """One parameter we serve; its type does not change."""

    value: Any
    description: str = ""
    read_only: bool = False
    type: int = field(init=False)

    def __post_init__(self) -> None:
        self.type = parameter_type(self.value)


class ParameterServer:
    """Serves the parameters of a node and publishes their changes on /parameter_events.

    `check(name, value)` returns why a value is refused, or None; undeclared parameters cannot be set.
    """

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        *,
        check: Callable[[str, Any], str | None] = lambda _name, _value: None,
        on_change: Callable[[str, Any], None] = lambda _name, _value: None,
    ) -> None:
        if len(values) > MAX_PARAMETERS:
            raise ValidationError(f"{len(values)} parameters, the limit is {MAX_PARAMETERS}")
        self._node, self._codecs = node, node.codecs
        self._check, self._on_change = check, on_change
        self._parameters = {
            name: value if isinstance(value, Parameter) else Parameter(value) for name, value in values.items()
        }
        self._events = node.publisher("/parameter_events", f"{_PACKAGE}/msg/ParameterEvent", PARAMETER_EVENTS)
        handlers = {
            "describe_parameters": self._describe,
            "get_parameter_types": self._types,
            "get_parameters": self._get,
            "list_parameters": self._list,
            "set_parameters": self._set,
            "set_parameters_atomically": self._set_atomically,
        }
        self._services = [
            node.service(f"{node.full_name}/{name}", f"{_PACKAGE}/srv/{kind}", handlers[name], PARAMETERS)
            for name, kind in _SERVICES.items()
        ]
        self._publish("new_parameters", list(self._parameters))

    def __getitem__(self, name: str) -> Any:
        return self._parameters[name].value

    def set(self, name: str, value: Any) -> None:
        """Change a parameter from inside; raises ValidationError, KeyError."""
        parameter = self._parameters[name]
        if parameter_type(value) != parameter.type:
            raise ValidationError(f"{name}: another type than it was declared with")
        parameter.value = value
        self._publish("changed_parameters", [name])

    async def _get(self, request: Any) -> Any:
        values = [self._value(name) for name in request.names]
        return self._response("GetParameters", values=values)

    async def _types(self, request: Any) -> Any:
        found = [self._parameters.get(name) for name in request.names]
        return self._response("GetParameterTypes", types=bytes(item.type if item else NOT_SET for item in found))

    async def _describe(self, request: Any) -> Any:
        descriptors = []
        for name in request.names:
            descriptor: Any = self._codecs.cls(f"{_PACKAGE}/msg/ParameterDescriptor")(name=name)
            if parameter := self._parameters.get(name):
                descriptor.type, descriptor.description = parameter.type, parameter.description
                descriptor.read_only = parameter.read_only
            descriptors.append(descriptor)
        return self._response("DescribeParameters", descriptors=descriptors)

    async def _list(self, request: Any) -> Any:
        """Names below any of the prefixes, at most `depth` dots deep; 0 is all."""
        depth, prefixes = request.depth, list(request.prefixes)
        names = []
        for name in sorted(self._parameters):
            for prefix in prefixes or [""]:
                rest = name if not prefix else name[len(prefix) :]
                inside = not prefix or name == prefix or name.startswith(f"{prefix}.")
                if inside and (not depth or rest.count(".") < depth + (1 if prefix else 0)):
                    names.append(name)
                    break
        result: Any = self._codecs.cls(f"{_PACKAGE}/msg/ListParametersResult")(names=names)
        result.prefixes = sorted({name.rpartition(".")[0] for name in names if "." in name})
        return self._response("ListParameters", result=result)

    async def _set(self, request: Any) -> Any:
        results, changed = [], []
        for item in request.parameters:
            reason = self._refusal(item)
            results.append(self._result(reason))
            if reason is None:
                self._parameters[item.name].value = from_message(item.value)
                changed.append(item.name)
        self._changed(changed)
        return self._response("SetParameters", results=results)

    async def _set_atomically(self, request: Any) -> Any:
        reason = next((text for item in request.parameters if (text := self._refusal(item))), None)
        if reason is None:
            for item in request.parameters:
                self._parameters[item.name].value = from_message(item.value)
            self._changed([item.name for item in request.parameters])
        return self._response("SetParametersAtomically", result=self._result(reason))

    def _refusal(self, item: Any) -> str | None:
        parameter = self._parameters.get(item.name)
        if parameter is None:
            return f"{item.name} is not declared"
        if parameter.read_only:
            return f"{item.name} is read-only"
        if item.value.type != parameter.type:
            return f"{item.name} is of type {parameter.type}, not {item.value.type}"
        return self._check(item.name, from_message(item.value))

    def _result(self, reason: str | None) -> Any:
        return self._codecs.cls(f"{_PACKAGE}/msg/SetParametersResult")(successful=reason is None, reason=reason or "")

    def _changed(self, names: list[str]) -> None:
        for name in names:
            self._on_change(name, self._parameters[name].value)
        if names:
            self._publish("changed_parameters", names)

    def _value(self, name: str) -> Value:
        parameter = self._parameters.get(name)
        return to_message(self._codecs, parameter.value if parameter else None)

    def _publish(self, kind: str, names: list[str]) -> None:
        event: Any = self._codecs.cls(f"{_PACKAGE}/msg/ParameterEvent")(node=self._node.full_name)
        event.stamp.sec, event.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
        parameter = self._codecs.cls(f"{_PACKAGE}/msg/Parameter")
        setattr(event, kind, [parameter(name, self._value(name)) for name in names])
        self._events.publish(event)

    def _response(self, service: str, **fields: Any) -> Any:
        return self._codecs.cls(f"{_PACKAGE}/srv/{service}_Response")(**fields)

    def close(self) -> None:
        for service in self._services:
            service.close()
        self._events.close()


class RemoteParameters:
    """The parameters of another node; services are made when they are first used."""

    def __init__(self, node: Node, target: str) -> None:
        self._node, self._target = node, target
        self._clients: dict[str, TypedClient] = {}

    def _client(self, name: str) -> TypedClient:
        if name not in self._clients:
            kind = f"{_PACKAGE}/srv/{_SERVICES[name]}"
            self._clients[name] = self._node.client(f"{self._target}/{name}", kind, PARAMETERS)
        return self._clients[name]

    async def get(self, *names: str, timeout_s: float = 5.0) -> dict[str, Any]:
        """Values by name, None for those that are not set; raises CallError."""
        client = self._client("get_parameters")
        response = await client.call(client.request(names=list(names)), timeout_s)
        if len(response.values) != len(names) and len(names) > 1:
            # rclpy answers with nothing at all when one of the names is not declared.
            found: dict[str, Any] = {}
            for name in names:
                found |= await self.get(name, timeout_s=timeout_s)
            return found
        values = map(from_message, response.values)
        return {name: next(values, None) for name in names}

    async def set(self, values: Mapping[str, Any], timeout_s: float = 5.0) -> dict[str, str]:
        """Set parameters: by name why it was refused, empty for those that were set; raises CallError."""
        client = self._client("set_parameters")
        parameter = self._node.codecs.cls(f"{_PACKAGE}/msg/Parameter")
        items = [parameter(name, to_message(self._node.codecs, value)) for name, value in values.items()]
        response = await client.call(client.request(parameters=items), timeout_s)
        return {
            name: "" if result.successful else result.reason or "refused"
            for name, result in zip(values, response.results, strict=False)
        }

    async def list(self, *prefixes: str, timeout_s: float = 5.0) -> list[str]:
        """Names of the parameters; raises CallError."""
        client = self._client("list_parameters")
        response = await client.call(client.request(prefixes=list(prefixes)), timeout_s)
        return list(response.result.names)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
