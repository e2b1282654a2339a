"""Messages as JSON and CBOR for applications, all of their fields or a chosen few.

Octet arrays are byte strings in CBOR and base64 in JSON. JSON has no NaN and no infinities: they are null, "Infinity"
and "-Infinity". Unknown fields are errors, missing ones get their defaults.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from array import array
from typing import TYPE_CHECKING, Any, Final

import cbor2

from wasmbed.bridges.ros2.errors import ConfigurationError, ValidationError
from wasmbed.bridges.ros2.types.cdr import FORMATS
from wasmbed.bridges.ros2.types.classes import Value, attribute
from wasmbed.bridges.ros2.types.model import FLOATS
from wasmbed.bridges.ros2.types.validate import length_problem, scalar_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wasmbed.bridges.ros2.types.codec import CodecFactory
    from wasmbed.bridges.ros2.types.model import Field

MAX_BYTES: Final = 16 << 20
_INFINITIES: Final = {"Infinity": math.inf, "-Infinity": -math.inf}


class Plain:
    """Converts messages of one type; with `fields` (dotted paths) only those go out."""

    def __init__(self, factory: CodecFactory, name: str, fields: Iterable[str] = ()) -> None:
        """Raises ConfigurationError for a path that is not in the type."""
        self._factory = factory
        self.cls = factory.cls(name)
        chosen: dict[str, list[str]] = {}
        for path in fields:
            head, _, rest = path.partition(".")
            chosen.setdefault(head, []).append(rest)
        definition = factory.message(name)
        unknown = chosen.keys() - {field.name for field in definition.fields}
        if unknown:
            raise ConfigurationError(f"fields: {sorted(unknown)[0]!r} is not a field of {name}")
        self._fields = {field.name: field for field in definition.fields}
        self._out = [
            (field.name, attribute(field.name), self._outward(field, chosen.get(field.name, [""])))
            for field in definition.fields
            if not chosen or field.name in chosen
        ]
        self._in = {field.name: (attribute(field.name), self._inward(field)) for field in definition.fields}

    def to_dict(self, message: Value, *, text: bool = False) -> dict[str, Any]:
        """The fields by name; with `text` what JSON can hold."""
        return {
            name: getattr(message, place) if convert is None else convert(getattr(message, place), text)
            for name, place, convert in self._out
        }

    def from_dict(self, data: Any, path: str = "") -> Value:
        """A message; raises ValidationError with the path of what does not fit."""
        if not isinstance(data, dict):
            raise ValidationError(f"{path or self.cls._ros_type}: an object is expected, not {type(data).__name__}")
        values = {}
        prefix = f"{path}." if path else ""
        for name, value in data.items():
            entry = self._in.get(name) if isinstance(name, str) else None
            if entry is None:
                raise ValidationError(f"{prefix}{str(name)[:80]}: {self.cls._ros_type} has no such field")
            values[entry[0]] = entry[1](value, f"{prefix}{name}")
        message: Value = self.cls(**values)
        return message

    def to_json(self, message: Value) -> bytes:
        return json.dumps(self.to_dict(message, text=True), separators=(",", ":"), allow_nan=False).encode()

    def from_json(self, data: bytes) -> Value:
        """Raises ValidationError."""
        _check_size(data)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"not JSON: {error}") from None
        return self.from_dict(value)

    def to_cbor(self, message: Value) -> bytes:
        return bytes(cbor2.dumps(self.to_dict(message)))

    def from_cbor(self, data: bytes) -> Value:
        """Raises ValidationError."""
        _check_size(data)
        try:
            value = cbor2.loads(data)
        except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            raise ValidationError(f"not CBOR: {error}") from None
        return self.from_dict(value)

    def _outward(self, field: Field, paths: list[str]) -> Callable[[Any, bool], Any] | None:
        """The conversion of a field's value, None where the value goes as it is."""
        kind = field.type
        if kind.nested:
            nested = Plain(self._factory, kind.base, () if "" in paths else paths)
            if kind.kind == "single":
                return lambda value, text: nested.to_dict(value, text=text)
            return lambda value, text: [nested.to_dict(item, text=text) for item in value]
        if any(paths):
            raise ConfigurationError(f"fields: {field.name} has no fields")
        if kind.octets:
            return lambda value, text: base64.b64encode(bytes(value)).decode() if text else bytes(value)
        if kind.kind == "single":
            return _number if kind.base in FLOATS else None
        if kind.base in FLOATS:
            return lambda value, text: [_number(item, text) for item in value] if text else list(value)
        return lambda value, _: list(value)

    def _inward(self, field: Field) -> Callable[[Any, str], Any]:
        kind = field.type

        def scalar(value: Any, path: str) -> Any:
            if kind.base in FLOATS:
                if value is None:
                    value = math.nan
                elif isinstance(value, str):
                    value = _INFINITIES.get(value, value)
            problem = scalar_problem(kind, value)
            if problem:
                raise ValidationError(f"{path}: {problem}")
            return value

        one: Callable[[Any, str], Any] = Plain(self._factory, kind.base).from_dict if kind.nested else scalar

        if kind.kind == "single":
            return one

        def many(value: Any, path: str) -> Any:
            if kind.octets and isinstance(value, str):
                try:
                    value = base64.b64decode(value, validate=True)
                except (binascii.Error, ValueError):
                    raise ValidationError(f"{path}: base64 is expected") from None
            if not isinstance(value, list | tuple) and not (kind.octets and isinstance(value, bytes)):
                raise ValidationError(f"{path}: a list is expected, not {type(value).__name__}")
            problem = length_problem(kind, len(value))
            if problem:
                raise ValidationError(f"{path}: {problem}")
            if isinstance(value, bytes):
                return value
            items = [one(item, f"{path}[{index}]") for index, item in enumerate(value)]
            if kind.octets:
                return bytes(items)
            if kind.primitive and kind.kind == "array":
                return tuple(items)
            if kind.primitive and kind.base != "bool":
                return array(FORMATS[kind.base], items)
            return items

        return many


def _number(value: float, text: bool) -> float | str | None:
    if not text or math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise ValidationError(f"{len(data)} bytes, the limit is {MAX_BYTES}")
