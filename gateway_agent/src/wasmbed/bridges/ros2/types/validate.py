"""Checks values against their types: kinds, ranges, lengths and bounds; an error names the path of the field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import ValidationError
from wasmbed.bridges.ros2.types.classes import Value, attribute
from wasmbed.bridges.ros2.types.model import FLOATS, OCTETS, STRINGS, integer_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.bridges.ros2.types.codec import CodecFactory
    from wasmbed.bridges.ros2.types.model import Field, FieldType

_FLOAT32_MAX: Final = 3.4028235677973366e38  # half a step above the largest float32, from where rounding overflows


def scalar_problem(kind: FieldType, value: Any) -> str | None:
    """Why a value is not a scalar of this primitive or string type, or None."""
    base = kind.base
    if base == "bool":
        return None if isinstance(value, bool) else f"a bool is expected, not {_kind(value)}"
    if base in STRINGS:
        return _text_problem(kind, value)
    if base in FLOATS:
        return _float_problem(base, value)
    if isinstance(value, bool) or not isinstance(value, int):
        return f"an integer is expected, not {_kind(value)}"
    low, high = integer_range(base)
    return None if low <= value <= high else f"{value} is not within {low} to {high} of {base}"


def _float_problem(base: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a number is expected, not {_kind(value)}"
    try:
        number = float(value)
    except OverflowError:
        return f"{str(value)[:40]} is beyond {base}"
    if base == "float32" and math.isfinite(number) and abs(number) >= _FLOAT32_MAX:
        return f"{value!r} is beyond float32"
    return None


def _text_problem(kind: FieldType, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"a string is expected, not {_kind(value)}"
    try:
        size = len(value.encode()) if kind.base == "string" else len(value.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        return "the string has a lone surrogate"
    if kind.base == "string" and "\0" in value:
        return "the string contains a NUL"
    if kind.string_bound and size > kind.string_bound:
        return f"{size} bytes, the bound is {kind.string_bound}"
    return None


def length_problem(kind: FieldType, size: int) -> str | None:
    """Why an array or a sequence cannot have this many elements, or None."""
    if kind.kind == "array" and size != kind.size:
        return f"{size} elements, the array has {kind.size}"
    if kind.kind == "sequence" and kind.size and size > kind.size:
        return f"{size} elements, the bound is {kind.size}"
    return None


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


class Validator:
    """Checks messages of one type."""

    def __init__(self, factory: CodecFactory, name: str) -> None:
        self._factory = factory
        self._cls = factory.cls(name)
        self._checks: list[tuple[str, str, Callable[[Any, str], None]]] = [
            (field.name, attribute(field.name), self._check_of(field)) for field in factory.message(name).wire_fields
        ]

    def check(self, message: Value, path: str = "") -> None:
        """Raises ValidationError with the path of the first field that does not fit."""
        if type(message) is not self._cls:
            raise ValidationError(
                f"{path or self._cls._ros_type}: {self._cls._ros_type} is expected, not {_kind(message)}"
            )
        prefix = f"{path}." if path else ""
        for name, place, check in self._checks:
            check(getattr(message, place), prefix + name)

    def _check_of(self, field: Field) -> Callable[[Any, str], None]:
        kind = field.type

        def scalar(value: Any, path: str) -> None:
            problem = scalar_problem(kind, value)
            if problem:
                raise ValidationError(f"{path}: {problem}")

        one = Validator(self._factory, kind.base).check if kind.nested else scalar

        if kind.kind == "single":
            return one

        def many(value: Any, path: str) -> None:
            allowed = isinstance(value, Sequence) and not isinstance(value, str)
            if not (allowed or hasattr(value, "typecode")):
                raise ValidationError(f"{path}: a sequence is expected, not {_kind(value)}")
            problem = length_problem(kind, len(value))
            if problem:
                raise ValidationError(f"{path}: {problem}")
            if isinstance(value, bytes) and kind.base in OCTETS:
                return
            for index, item in enumerate(value):
                one(item, f"{path}[{index}]")

        return many
