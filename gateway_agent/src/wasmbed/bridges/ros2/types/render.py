"""Definitions as text again: in the syntax of .msg files, and with all they refer to as MCAP's `ros2msg` schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.bridges.ros2.types.model import Action, Constant, Definition, Field, FieldType, Message, Scalar, Service

if TYPE_CHECKING:
    from wasmbed.bridges.ros2.types.store import TypeStore

_SEPARATOR: Final = "=" * 80


def render(definition: Definition) -> str:
    """The definition in the syntax of .msg files, a member a line, constants first."""
    parts: tuple[Message, ...]
    if isinstance(definition, Message):
        parts = (definition,)
    elif isinstance(definition, Service):
        parts = (definition.request, definition.response)
    else:
        assert isinstance(definition, Action)  # noqa: S101 - what else a definition is
        parts = (definition.goal, definition.result, definition.feedback)
    return "---\n".join("".join(line + "\n" for line in _lines(part)) for part in parts)


def _lines(message: Message) -> list[str]:
    package = message.name.split("/", 1)[0]
    return [_constant(item) for item in message.constants] + [_field(package, item) for item in message.fields]


def _constant(constant: Constant) -> str:
    return f"{constant.type} {constant.name}={_literal(constant.value)}"


def _field(package: str, field: Field) -> str:
    kind = field.type
    base = kind.base.replace("/msg/", "/").removeprefix(f"{package}/")
    text = f"{FieldType(base, kind.string_bound, kind.kind, kind.size)} {field.name}"
    if field.default is None:
        return text
    if isinstance(field.default, tuple):
        return f"{text} [{', '.join(_literal(item) for item in field.default)}]"
    return f"{text} {_literal(field.default)}"


def _literal(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def schema(store: TypeStore, name: str) -> str:
    """The definition of a message and, each after a line of =, those of the messages in it (MCAP registry: ros2msg)."""
    first, *others = store.closure(name).values()
    parts = [render(first)]
    parts += [f"{_SEPARATOR}\nMSG: {other.name.replace('/msg/', '/')}\n{render(other)}" for other in others]
    return "".join(parts)
