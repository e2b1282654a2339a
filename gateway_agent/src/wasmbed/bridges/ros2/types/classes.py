"""Python classes for messages: slots, keyword arguments with defaults, equality by value.

Octet arrays and sequences are `bytes`, sequences of numbers `array.array`, fixed arrays of numbers and bools tuples,
everything else lists; on the way out any sequence is accepted.
"""

from __future__ import annotations

import keyword
from array import array
from typing import TYPE_CHECKING, Any, ClassVar

from wasmbed.bridges.ros2.types.cdr import FORMATS
from wasmbed.bridges.ros2.types.model import FLOATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.bridges.ros2.types.model import Field, Message


class Value:
    """Base of all message classes."""

    __slots__ = ()
    _ros_type: ClassVar[str]
    _ros_fields: ClassVar[tuple[str, ...]]  # as in the definition
    _ros_attributes: ClassVar[tuple[str, ...]]  # as in Python: a keyword has a trailing underscore
    _ros_constants: ClassVar[Mapping[str, Any]]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in self._ros_attributes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._ros_attributes)
        return f"{self._ros_type.rsplit('/', 1)[1]}({values})"


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple | array):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def attribute(name: str) -> str:
    """The Python name of a field."""
    return f"{name}_" if keyword.iskeyword(name) else name


def default_of(field: Field) -> Any:
    """The initial value of a field that is not of another message."""
    kind = field.type
    if field.default is not None:
        if isinstance(field.default, tuple):
            return _collect(field, list(field.default))
        return field.default
    if kind.kind == "sequence":
        return _collect(field, [])
    zero: Any = 0
    if kind.base in {"string", "wstring"}:
        zero = ""
    elif kind.base == "bool":
        zero = False
    elif kind.base in FLOATS:
        zero = 0.0
    return _collect(field, [zero] * kind.size) if kind.kind == "array" else zero


def _collect(field: Field, items: list[Any]) -> Any:
    kind = field.type
    if kind.octets:
        return bytes(items)
    if kind.primitive and kind.kind == "array":
        return tuple(items)
    if kind.primitive and kind.base != "bool":
        return array(FORMATS[kind.base], items)
    return items


def make_class(message: Message, nested: Mapping[str, type[Value]]) -> type[Value]:
    """A class for a message whose nested messages have theirs already."""
    names = tuple(attribute(field.name) for field in message.wire_fields)
    scope: dict[str, Any] = {}
    lines = [f"def __init__(_self, {', '.join(f'{name}=None' for name in names)}):"]
    for name, field in zip(names, message.wire_fields, strict=True):
        if field.type.nested:
            scope[f"_t_{name}"] = nested[field.type.base]
            if field.type.kind == "single":
                initial = f"_t_{name}()"
            else:
                initial = f"[_t_{name}() for _ in range({field.type.size if field.type.kind == 'array' else 0})]"
        else:
            value = default_of(field)
            scope[f"_d_{name}"] = value
            initial = f"_d_{name}[:]" if isinstance(value, list | array) else f"_d_{name}"
        lines.append(f"    _self.{name} = {initial} if {name} is None else {name}")
    exec("\n".join(lines), scope)  # noqa: S102 - names are checked by the parser
    return type(
        message.name.rsplit("/", 1)[1],
        (Value,),
        {
            "__slots__": names,
            "__init__": scope["__init__"],
            "__module__": message.name.replace("/", ".").rsplit(".", 1)[0],
            "_ros_type": message.name,
            "_ros_fields": tuple(field.name for field in message.wire_fields),
            "_ros_attributes": names,
            "_ros_constants": {constant.name: constant.value for constant in message.constants},
        },
    )
