"""Reading of objects that came as JSON: typed access whose errors name the object and the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiObjectError(ValueError):
    """An object is not what its schema says; the message names the object and the field."""


class Fields:
    """A mapping in an object, with its place in it. Unknown fields are never looked at."""

    __slots__ = ("_data", "_object", "_path")

    def __init__(self, data: object, described: str, path: str = "") -> None:
        """Wrap `data`; `described` names the object and `path` the place in it.

        Raises:
            ApiObjectError: `data` is not a mapping.
        """
        if not isinstance(data, Mapping):
            raise ApiObjectError(f"{described}: {path or 'the object'} must be a mapping, not {_name(data)}")
        self._data: Mapping[str, Any] = data
        self._object = described
        self._path = path

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _value(self, name: str, kinds: type | tuple[type, ...], what: str) -> Any:
        """The value of a field or None; a boolean is not a number here."""
        value = self._data.get(name)
        if value is None:
            return None
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise ApiObjectError(f"{self._object}: {self._at(name)} must be {what}, not {_name(value)}")
        return value

    def _required(self, name: str, value: Any) -> Any:
        if value is None:
            raise ApiObjectError(f"{self._object}: {self._at(name)} is missing")
        return value

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(name) is not None

    def text(self, name: str) -> str:
        """A string that must be there."""
        return str(self._required(name, self._value(name, str, "a string")))

    def text_or(self, name: str, default: str = "") -> str:
        """A string, or `default` where there is none."""
        value = self._value(name, str, "a string")
        return default if value is None else str(value)

    def optional_text(self, name: str) -> str | None:
        """A string or None."""
        value = self._value(name, str, "a string")
        return None if value is None else str(value)

    def integer(self, name: str) -> int:
        """An integer that must be there."""
        return int(self._required(name, self._value(name, int, "an integer")))

    def optional_integer(self, name: str) -> int | None:
        """An integer or None."""
        value = self._value(name, int, "an integer")
        return None if value is None else int(value)

    def integer_or(self, name: str, default: int = 0) -> int:
        """An integer, or `default` where there is none."""
        value = self.optional_integer(name)
        return default if value is None else value

    def flag(self, name: str) -> bool:
        """A boolean, false where there is none."""
        return bool(self._value(name, bool, "a boolean"))

    def quantity(self, name: str) -> str | None:
        """A quantity as a string, or None; the API allows a plain number too."""
        value = self._value(name, (str, int, float), "a quantity")
        return None if value is None else str(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers, empty where there is none."""
        values = self._value(name, list, "a list") or ()
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ApiObjectError(f"{self._object}: {self._at(name)} must hold numbers, not {_name(value)}")
        return tuple(float(value) for value in values)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, empty where there is none."""
        values = self._value(name, list, "a list") or ()
        for value in values:
            if not isinstance(value, str):
                raise ApiObjectError(f"{self._object}: {self._at(name)} must hold strings, not {_name(value)}")
        return tuple(values)

    def text_map(self, name: str) -> dict[str, str]:
        """A mapping of strings to strings, empty where there is none."""
        values = self._value(name, Mapping, "a mapping") or {}
        for key, value in values.items():
            if not isinstance(value, str):
                raise ApiObjectError(f"{self._object}: {self._at(name)}.{key} must be a string, not {_name(value)}")
        return dict(values)

    def mapping(self, name: str) -> dict[str, Any]:
        """A mapping as it is, for a reader of its own; empty where there is none."""
        return dict(self._value(name, Mapping, "a mapping") or {})

    def child(self, name: str) -> Fields:
        """A mapping that must be there."""
        return Fields(self._required(name, self._data.get(name)), self._object, self._at(name))

    def child_or_empty(self, name: str) -> Fields:
        """A mapping, an empty one where there is none."""
        value = self._data.get(name)
        return Fields({} if value is None else value, self._object, self._at(name))

    def children(self, name: str) -> tuple[Fields, ...]:
        """A list of mappings, empty where there is none."""
        values = self._value(name, list, "a list") or ()
        path = self._at(name)
        return tuple(Fields(value, self._object, f"{path}[{index}]") for index, value in enumerate(values))


def _name(value: object) -> str:
    return "null" if value is None else type(value).__name__
