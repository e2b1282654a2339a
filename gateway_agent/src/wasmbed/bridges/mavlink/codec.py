"""Payloads: bytes to named values and back (MAVLink serialization guide, payload truncation)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wasmbed.bridges.mavlink.definitions import Definition, Dialect, default_dialect


class PayloadError(ValueError):
    """Values that do not fit a message, or a payload that is longer than its message."""


@dataclass(slots=True)
class Message:
    """A decoded message and who sent it; `values` holds every field, arrays as tuples, text as `str`.

    The value of PARAM_VALUE and PARAM_SET is its four bytes.
    """

    name: str
    values: Mapping[str, Any]
    system: int = 0
    component: int = 0

    def __getitem__(self, key: str) -> Any:
        """A field by its name."""
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """A field by its name, `default` when the message has none."""
        return self.values.get(key, default)


def decode(definition: Definition, payload: bytes) -> dict[str, Any]:
    """The values of a payload whose trailing zeros may have been cut.

    Raises PayloadError for a payload longer than the message: a newer definition has fields this one does not know,
    so the caller should rather cut it; `decode` does so only for extension fields it cannot know.
    """
    size = definition.full_bytes
    if len(payload) != size:
        # A longer payload comes from a newer dialect with more extension fields.
        payload = payload[:size] if len(payload) > size else payload + bytes(size - len(payload))
    numbers = definition.packer.unpack(payload)
    if not definition.arrays:
        return dict(zip(definition.names, numbers, strict=True))
    values: dict[str, Any] = {}
    at = 0
    for item in definition.fields:
        if item.type == "char":
            raw: bytes = numbers[at]
            values[item.name] = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
            at += 1
        elif item.array:
            values[item.name] = numbers[at : at + item.array]
            at += item.array
        else:
            values[item.name] = numbers[at]
            at += 1
    return values


def encode(definition: Definition, values: Mapping[str, Any]) -> bytes:
    """The whole payload, not truncated; absent fields are zero.

    Raises PayloadError for an unknown field, a number out of range, a text or an array that is too long.
    """
    unknown = values.keys() - set(definition.names)
    if unknown:
        raise PayloadError(f"{definition.name} has no field {', '.join(sorted(unknown))}")
    numbers: list[Any] = []
    for item in definition.fields:
        value = values.get(item.name)
        if item.type == "char":
            numbers.append(_text(definition.name, item.name, value, item.array or 1))
        elif item.array:
            array = tuple(value) if value is not None else ()
            if len(array) > item.array:
                raise PayloadError(f"{definition.name}.{item.name} takes {item.array} values, not {len(array)}")
            numbers.extend(array)
            numbers.extend([0] * (item.array - len(array)))
        elif value is None:
            numbers.append(b"" if item.type == "raw float" else 0)
        else:
            numbers.append(value)
    try:
        return definition.packer.pack(*numbers)
    except Exception as error:  # struct.error, OverflowError or TypeError, by the kind of value
        raise PayloadError(f"{definition.name} cannot hold {dict(values)}: {error}") from error


def _text(message: str, name: str, value: object, size: int) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, (str, bytes)):
        raise PayloadError(f"{message}.{name} takes a text, not {value!r}")
    data = value.encode() if isinstance(value, str) else value
    if len(data) > size:
        raise PayloadError(f"{message}.{name} holds {size} bytes, {value!r} has {len(data)}")
    return data


def message(name: str, **values: Any) -> Message:
    """A message to send; its sender is filled in when it is framed."""
    return Message(name, values)


def full(source: Message, dialect: Dialect | None = None) -> Message:
    """`source` with every field, as a receiver of it would see it."""
    definition = (dialect or default_dialect())[source.name]
    return replace(source, values=decode(definition, encode(definition, source.values)))
