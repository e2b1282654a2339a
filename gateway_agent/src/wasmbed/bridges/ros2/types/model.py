"""Interface definitions as values: fields, constants, messages, services, actions (ROS 2 interface definition)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Wire size of each primitive of XCDR1; `byte` and `char` are octets.
PRIMITIVE_SIZES: Final = {
    "bool": 1,
    "byte": 1,
    "char": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float32": 4,
    "float64": 8,
}
OCTETS: Final = frozenset({"byte", "char", "uint8"})
FLOATS: Final = frozenset({"float32", "float64"})
STRINGS: Final = frozenset({"string", "wstring"})
# An empty structure has this one member on the wire and in its type hash.
DUMMY_FIELD: Final = "structure_needs_at_least_one_member"

Scalar = bool | int | float | str
Default = Scalar | tuple[Scalar, ...]


def integer_range(base: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer type."""
    bits = PRIMITIVE_SIZES[base] * 8
    if base.startswith("int"):
        return -(1 << bits - 1), (1 << bits - 1) - 1
    return 0, (1 << bits) - 1


@dataclass(frozen=True, slots=True)
class FieldType:
    """Base is a primitive, `string`, `wstring` or `package/msg/Name`; size and string_bound 0 mean unbounded."""

    base: str
    string_bound: int = 0
    kind: str = "single"  # single, array or sequence
    size: int = 0

    @property
    def primitive(self) -> bool:
        return self.base in PRIMITIVE_SIZES

    @property
    def nested(self) -> bool:
        return "/" in self.base

    @property
    def octets(self) -> bool:
        """Whether the value is a bytes object."""
        return self.kind != "single" and self.base in OCTETS

    def __str__(self) -> str:
        text = self.base + (f"<={self.string_bound}" if self.string_bound else "")
        if self.kind == "array":
            return f"{text}[{self.size}]"
        if self.kind == "sequence":
            return f"{text}[<={self.size}]" if self.size else f"{text}[]"
        return text


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: FieldType
    default: Default | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    name: str
    type: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Message:
    """One structure; name is `package/msg/Name` (or srv, action for the parts of those)."""

    name: str
    fields: tuple[Field, ...]
    constants: tuple[Constant, ...] = ()

    @property
    def wire_fields(self) -> tuple[Field, ...]:
        """The members on the wire: an empty structure has one."""
        return self.fields or (Field(DUMMY_FIELD, FieldType("uint8")),)

    def constant(self, name: str) -> Scalar | None:
        return next((constant.value for constant in self.constants if constant.name == name), None)


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    request: Message
    response: Message


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    goal: Message
    result: Message
    feedback: Message


Definition = Message | Service | Action
