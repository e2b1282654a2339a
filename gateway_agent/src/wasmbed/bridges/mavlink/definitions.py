"""Message and enum definitions, read from the XML files that pymavlink ships.

Field order, CRC_EXTRA and lengths follow the MAVLink serialization guide: fields are sorted by the size of their type
(stable), extension fields keep their place behind them and take no part in CRC_EXTRA.
"""

import functools
import importlib.resources
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

from fastcrc import crc16

from wasmbed.bridges.mavlink import supplement

DEFAULT_DIALECTS = ("all.xml", "development.xml")

_FORMATS = {
    "char": "s",
    "uint8_t": "B",
    "uint8_t_mavlink_version": "B",
    "int8_t": "b",
    "uint16_t": "H",
    "int16_t": "h",
    "uint32_t": "I",
    "int32_t": "i",
    "uint64_t": "Q",
    "int64_t": "q",
    "float": "f",
    "double": "d",
    "raw float": "4s",
}
_CRC_TYPES = {"uint8_t_mavlink_version": "uint8_t", "raw float": "float"}

# These carry the bytes of integers too. As a float some of them are signalling NaNs, which a conversion to the
# double of Python changes: -5000000 would become -805696.
_RAW_FLOATS = {("PARAM_VALUE", "param_value"), ("PARAM_SET", "param_value")}


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """One field: its C type without the array part, its array length (0: a scalar) and whether it is an extension."""

    name: str
    type: str
    array: int = 0
    extension: bool = False
    enum: str = ""
    units: str = ""

    @property
    def format(self) -> str:
        """The `struct` characters of the field."""
        code = _FORMATS[self.type]
        if code == "s":
            return f"{self.array or 1}s"
        return code * (self.array or 1)

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("<" + self.format)


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """One message: fields in wire order, CRC_EXTRA, lengths in bytes and where the target ids are (-1: nowhere)."""

    id: int
    name: str
    fields: tuple[FieldDefinition, ...]
    crc_extra: int
    base_bytes: int
    full_bytes: int
    target_system_at: int
    target_component_at: int
    packer: struct.Struct = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    arrays: bool = field(repr=False)

    def field(self, name: str) -> FieldDefinition:
        """The field called `name`; KeyError when there is none."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise KeyError(f"{self.name} has no field {name}")


class Dialect:
    """All messages by id and name, and all enums by name."""

    def __init__(self, messages: Mapping[int, Definition], enums: Mapping[str, Mapping[int, str]]) -> None:
        self.messages = dict(messages)
        self.by_name = {definition.name: definition for definition in messages.values()}
        self.enums = {name: dict(entries) for name, entries in enums.items()}
        self._values = {entry: value for entries in self.enums.values() for value, entry in entries.items()}

    def __getitem__(self, name: str) -> Definition:
        try:
            return self.by_name[name]
        except KeyError:
            raise KeyError(f"MAVLink has no message {name}; check its name in the dialect") from None

    def value(self, entry: str) -> int:
        """The number of an enum entry such as `MAV_CMD_NAV_LAND`; KeyError when there is none."""
        return self._values[entry]

    def entry(self, enum: str, value: int) -> str:
        """The name of a number in an enum, the number itself when the enum does not have it."""
        return self.enums.get(enum, {}).get(value, str(value))


def make_definition(number: int, name: str, declared: list[FieldDefinition]) -> Definition:
    """A message from its fields in the order of the XML."""
    base = [item for item in declared if not item.extension]
    extensions = [item for item in declared if item.extension]
    # Arrays sort by the size of one element; the sort is stable.
    ordered = sorted(base, key=lambda item: -struct.calcsize("<" + _FORMATS[item.type].replace("s", "B")))
    fields = tuple(ordered + extensions)
    offsets: dict[str, int] = {}
    at = 0
    for item in fields:
        offsets[item.name] = at
        at += item.size_bytes
    return Definition(
        id=number,
        name=name,
        fields=fields,
        crc_extra=_crc_extra(name, ordered),
        base_bytes=sum(item.size_bytes for item in ordered),
        full_bytes=at,
        target_system_at=offsets.get("target_system", -1),
        target_component_at=offsets.get("target_component", -1),
        packer=struct.Struct("<" + "".join(item.format for item in fields)),
        names=tuple(item.name for item in fields),
        arrays=any(item.array or item.type == "char" for item in fields),
    )


def _crc_extra(name: str, ordered: list[FieldDefinition]) -> int:
    text = name + " "
    crc = crc16.mcrf4xx(text.encode())
    for item in ordered:
        data = f"{_CRC_TYPES.get(item.type, item.type)} {item.name} ".encode()
        if item.array:
            data += bytes([item.array])
        crc = crc16.mcrf4xx(data, crc)
    return (crc & 0xFF) ^ (crc >> 8)


def load(dialects: tuple[str, ...] = DEFAULT_DIALECTS) -> Dialect:
    """Read the dialects and everything they include from the installed pymavlink.

    Raises FileNotFoundError for a dialect that pymavlink does not have.
    """
    messages: dict[int, Definition] = {}
    enums: dict[str, dict[int, str]] = {}
    for root in _roots(dialects):
        for element in root.iterfind("messages/message"):
            number = int(element.attrib["id"])
            messages[number] = make_definition(number, element.attrib["name"], list(_fields(element)))
        for element in root.iterfind("enums/enum"):
            entries = enums.setdefault(element.attrib["name"], {})
            following = 0
            for entry in element.iterfind("entry"):
                following = _number(entry.attrib.get("value", str(following)))
                entries[following] = entry.attrib["name"]
                following += 1
    _supplement(messages, enums)
    return Dialect(messages, enums)


def _supplement(messages: dict[int, Definition], enums: dict[str, dict[int, str]]) -> None:
    def read(text: str) -> list[FieldDefinition]:
        return [
            FieldDefinition(name, kind, array, extension) for name, kind, array, extension in supplement.fields(text)
        ]

    for number, name, text in supplement.MESSAGES:
        messages.setdefault(number, make_definition(number, name, read(text)))
    for definition in list(messages.values()):
        text = supplement.EXTENSIONS.get(definition.name, "")
        if text:
            known = {item.name for item in definition.fields}
            added = [replace(item, extension=True) for item in read(text) if item.name not in known]
            messages[definition.id] = make_definition(definition.id, definition.name, [*definition.fields, *added])
    for enum, entries in supplement.ENTRIES.items():
        enums[enum] = {**entries, **enums.get(enum, {})}


@functools.cache
def default_dialect() -> Dialect:
    """The default dialects, read once (about 50 ms)."""
    return load()


def _roots(names: tuple[str, ...]) -> Iterator[ElementTree.Element]:
    folder = importlib.resources.files("pymavlink.dialects.v20")
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # The file belongs to the installed package, so it is trusted.
        root = ElementTree.fromstring(folder.joinpath(name).read_bytes())  # noqa: S314
        waiting.extend(text.strip() for item in root.iterfind("include") if (text := item.text))
        yield root


def _fields(message: ElementTree.Element) -> Iterator[FieldDefinition]:
    extension = False
    for element in message:
        if element.tag == "extensions":
            extension = True
        elif element.tag == "field":
            kind, _, rest = element.attrib["type"].partition("[")
            if (message.attrib["name"], element.attrib["name"]) in _RAW_FLOATS:
                kind = "raw float"
            yield FieldDefinition(
                name=element.attrib["name"],
                type=kind,
                array=int(rest.rstrip("]")) if rest else 0,
                extension=extension,
                enum=element.attrib.get("enum", ""),
                units=element.attrib.get("units", ""),
            )


def _number(text: str) -> int:
    base, _, power = text.partition("**")
    return int(base) ** int(power) if power else int(text, 0)
