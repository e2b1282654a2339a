"""px4_msgs of a release: their fields, and their CDR (XCDR1, little endian) without a ROS installation.

All of these messages have a fixed size, so a message is one `struct` with CDR's alignment as padding.
"""

import functools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wasmbed.bridges.mavlink.px4.layouts import LAYOUTS

RELEASES = ("1.14", "1.15", "1.16", "1.17", "1.18")
CDR_HEADER = b"\x00\x01\x00\x00"

_TYPES = {
    "bool": ("?", 1, False),
    "u8": ("B", 1, 0),
    "i8": ("b", 1, 0),
    "u16": ("H", 2, 0),
    "i16": ("h", 2, 0),
    "u32": ("I", 4, 0),
    "i32": ("i", 4, 0),
    "u64": ("Q", 8, 0),
    "i64": ("q", 8, 0),
    "f32": ("f", 4, 0.0),
    "f64": ("d", 8, 0.0),
}


@dataclass(frozen=True, slots=True)
class Px4Field:
    """A field: its name, type (`u8`, `f32`, ...) and array length (0: a scalar)."""

    name: str
    type: str
    array: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Px4Definition:
    """A message type of one release."""

    name: str
    release: str
    version: int
    fields: tuple[Px4Field, ...]
    defaults: Mapping[str, Any] = field(repr=False)
    packer: struct.Struct = field(repr=False)

    def make(self, values: Mapping[str, Any]) -> "Px4Message":
        """A message; absent fields are zero, and fields that this release does not have are left out."""
        complete = {**self.defaults, **values}
        if len(complete) != len(self.defaults):
            complete = {name: complete[name] for name in self.defaults}
        return Px4Message(self, complete)


@dataclass(frozen=True, slots=True)
class Px4Message:
    """A message: every field of its definition, arrays as tuples."""

    definition: Px4Definition
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The type's name, such as `VehicleStatus`."""
        return self.definition.name

    def __getitem__(self, name: str) -> Any:
        """A field by its name."""
        return self.values[name]


@functools.cache
def definitions(release: str) -> Mapping[str, Px4Definition]:
    """The messages of a release by name. ValueError for a release that is not known."""
    if release not in RELEASES:
        raise ValueError(f"PX4 {release} is not known; set one of {', '.join(RELEASES)}")
    found = {}
    for name, layouts in LAYOUTS.items():
        version, text = 0, ""
        for since, number, fields in layouts:
            if RELEASES.index(since) <= RELEASES.index(release):
                version, text = number, fields or text
        found[name] = _definition(name, release, version, text)
    return found


def _definition(name: str, release: str, version: int, text: str) -> Px4Definition:
    fields = []
    for group in text.split("; "):
        kind, *names = group.split()
        base, _, array = kind.partition("[")
        fields += [Px4Field(item, base, int(array.rstrip("]")) if array else 0) for item in names]
    layout, at = "<", 0
    for item in fields:
        code, size, _ = _TYPES[item.type]
        padding = -at % size
        layout += "x" * padding + code * (item.array or 1)
        at += padding + size * (item.array or 1)
    defaults: dict[str, Any] = {
        item.name: (_TYPES[item.type][2],) * item.array if item.array else _TYPES[item.type][2] for item in fields
    }
    return Px4Definition(name, release, version, tuple(fields), defaults, struct.Struct(layout))


def to_cdr(message: Px4Message) -> bytes:
    """The message as DDS carries it, with its encapsulation header. ValueError for values out of range."""
    numbers: list[Any] = []
    values = message.values
    for item in message.definition.fields:
        if item.array:
            numbers.extend(values[item.name])
        else:
            numbers.append(values[item.name])
    try:
        return CDR_HEADER + message.definition.packer.pack(*numbers)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{message.name} cannot hold its values: {error}") from error


def from_cdr(definition: Px4Definition, data: bytes) -> Px4Message:
    """A message from DDS. ValueError for another encapsulation or length; up to three bytes of padding may follow."""
    size = definition.packer.size
    if data[:2] != CDR_HEADER[:2]:
        raise ValueError(f"{definition.name}: encapsulation {data[:2].hex()} is not little-endian XCDR1")
    if not size <= len(data) - 4 <= size + 3:
        raise ValueError(f"{definition.name} of PX4 {definition.release} has {size} bytes, not {len(data) - 4}")
    numbers = definition.packer.unpack_from(data, 4)
    values: dict[str, Any] = {}
    at = 0
    for item in definition.fields:
        if item.array:
            values[item.name] = numbers[at : at + item.array]
            at += item.array
        else:
            values[item.name] = numbers[at]
            at += 1
    return Px4Message(definition, values)


def known(value: float, scale: float, unknown: float) -> float:
    """A scaled value, NaN when it is the one that stands for unknown."""
    return math.nan if value == unknown else value / scale
