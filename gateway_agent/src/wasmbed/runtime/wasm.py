"""A bounded reader of the WebAssembly binary format (core specification 2.0, section 5) for untrusted bytes.

It reads what a decision needs (types, imports, exports, declarations, counts) and skips bodies: wasmtime validates
those. Every count is checked against the bytes that are left, so time and memory are linear in the input. It raises
ModuleError and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAGIC: Final = b"\0asm"
PAGE_BYTES_LOG2: Final = 16

MAX_TABLES: Final = 16
MAX_TABLE_ELEMENTS: Final = 100_000
MAX_MEMORIES: Final = 1
_LIMITS: Final = {
    "types": 10_000,
    "imports": 1_000,
    "functions": 50_000,
    "tables": MAX_TABLES,
    "memories": MAX_MEMORIES,
    "globals": 10_000,
    "exports": 1_000,
    "element segments": 10_000,
    "data segments": 10_000,
}
_COUNTED: Final = {"global": "globals", "element": "element segments", "data": "data segments"}

_VALUE_TYPES: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
_KINDS: Final = ("function", "table", "memory", "global", "tag")
_SECTIONS: Final = (
    *(
        "custom",
        "type",
        "import",
        "function",
        "table",
        "memory",
        "global",
        "export",
        "start",
        "element",
        "code",
        "data",
    ),
    *("data count", "tag"),
)


class ModuleError(Exception):
    """The bytes are not a module this reader accepts; the message says why and at which byte."""


@dataclass(frozen=True)
class FunctionType:
    """Parameter and result types by their names in the text format."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True)
class Import:
    """One import; type is None for anything but a function."""

    module: str
    name: str
    kind: str
    type: FunctionType | None
    offset: int


@dataclass(frozen=True)
class Export:
    """One export; type is None for anything but a function."""

    name: str
    kind: str
    type: FunctionType | None
    offset: int


@dataclass(frozen=True)
class Extent:
    """A memory (sizes in pages of 1 << page_log2 bytes) or a table (sizes in elements)."""

    minimum: int
    maximum: int | None
    page_log2: int
    offset: int

    @property
    def minimum_bytes(self) -> int:
        return self.minimum << self.page_log2


@dataclass
class Contents:
    """What a module declares. over_limit has one text for each list that is too long; such a list is not read."""

    size: int
    imports: list[Import] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    tables: list[Extent] = field(default_factory=list)
    memories: list[Extent] = field(default_factory=list)
    start_offset: int | None = None
    over_limit: list[str] = field(default_factory=list)


class _Bytes:
    """A cursor over a part of the file; offsets are those of the file."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def fail(self, why: str, at: int | None = None) -> ModuleError:
        return ModuleError(f"{why} at byte {self.at if at is None else at:#x}")

    @property
    def left(self) -> int:
        return self.end - self.at

    def byte(self) -> int:
        if self.at >= self.end:
            raise self.fail("the file ends inside an entry" if self.end == len(self.data) else "a section is too short")
        value = self.data[self.at]
        self.at += 1
        return value

    def leb(self, bits: int = 32) -> int:
        """Read an unsigned LEB128 number (section 5.2.2)."""
        start, value, shift = self.at, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= bits:
                raise self.fail("a number is too long", start)
        if value >> bits:
            raise self.fail("a number is too large", start)
        return value

    def count(self, least: int = 1) -> int:
        """Read a vector's length; each entry takes at least `least` bytes."""
        start = self.at
        value = self.leb()
        if value * least > self.left:
            raise self.fail(f"a list of {value} entries does not fit its section", start)
        return value

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise self.fail(f"{length} bytes are announced and {self.left} are left")
        value = self.data[self.at : self.at + length]
        self.at += length
        return value

    def name(self) -> str:
        start = self.at
        try:
            return self.take(self.leb()).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8", start) from None


def read(data: bytes) -> Contents:
    """Read a module; raises ModuleError."""
    if data[:4] != MAGIC:
        raise ModuleError("not a WebAssembly module: it does not begin with the bytes 00 61 73 6d")
    if len(data) < 8:
        raise ModuleError(f"the file ends inside its header at byte {len(data):#x}")
    version = int.from_bytes(data[4:8], "little")
    if version != 1:
        hint = " (a component: build a core module instead)" if version >> 16 == 1 else ""
        raise ModuleError(f"version {version:#x} of the format is not supported, 1 is{hint}")
    return _Reader(data).run()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._contents = Contents(size=len(data))
        self._types: list[FunctionType] = []
        # Type indices of all functions, the imported ones first.
        self._functions: list[int] = []

    def run(self) -> Contents:
        file = _Bytes(self._data, 8, len(self._data))
        seen: set[int] = set()
        while file.left:
            at = file.at
            section = file.byte()
            length = file.leb()
            if section >= len(_SECTIONS):
                raise file.fail(f"unknown section {section}", at)
            if length > file.left:
                raise file.fail(f"the file is truncated: section {_SECTIONS[section]} needs {length} bytes", at)
            if section and section in seen:
                raise file.fail(f"a second {_SECTIONS[section]} section", at)
            seen.add(section)
            body = _Bytes(self._data, file.at, file.at + length)
            file.at += length
            self._section(section, body, at)
        return self._contents

    def _section(self, section: int, body: _Bytes, at: int) -> None:
        contents = self._contents
        match _SECTIONS[section]:
            case "type":
                self._types = self._list("types", body, at, self._function_type)
            case "import":
                contents.imports = self._list("imports", body, at, self._import)
            case "function":
                self._functions += self._list("functions", body, at, _Bytes.leb)
            case "table":
                contents.tables = self._list("tables", body, at, self._table)
            case "memory":
                contents.memories = self._list("memories", body, at, self._memory)
            case "export":
                contents.exports = self._list("exports", body, at, self._export)
            case "start":
                contents.start_offset = at
            case "global" | "element" | "data" as name:
                self._count(_COUNTED[name], body, at)

    def _list(self, what: str, body: _Bytes, at: int, entry: Callable[[_Bytes], T]) -> list[T]:
        count = self._count(what, body, at)
        return [entry(body) for _ in range(count)] if count <= _LIMITS[what] else []

    def _count(self, what: str, body: _Bytes, at: int) -> int:
        count = body.count()
        if count > _LIMITS[what]:
            self._contents.over_limit.append(f"{count} {what} (at byte {at:#x}); the limit is {_LIMITS[what]}")
        return count

    def _value_type(self, body: _Bytes) -> str:
        at = body.at
        code = body.byte()
        if code not in _VALUE_TYPES:
            raise body.fail(f"value type {code:#x} is not supported", at)
        return _VALUE_TYPES[code]

    def _function_type(self, body: _Bytes) -> FunctionType:
        at = body.at
        form = body.byte()
        if form != 0x60:
            raise body.fail(f"type form {form:#x} is not supported, only functions are (the gc proposal is off)", at)
        params = tuple(self._value_type(body) for _ in range(body.count()))
        return FunctionType(params, tuple(self._value_type(body) for _ in range(body.count())))

    def _type_at(self, index: int, body: _Bytes, at: int) -> FunctionType | None:
        if index < len(self._types):
            return self._types[index]
        if self._contents.over_limit:  # a list that is too long was not read
            return None
        raise body.fail(f"type {index} does not exist", at)

    def _extent(self, body: _Bytes, what: str, page_log2: int) -> Extent:
        at = body.at
        flags = body.byte()
        if flags & ~0x0F:
            raise body.fail(f"limits of a {what} have unknown flags {flags:#x}", at)
        if flags & 0x02:
            raise body.fail(f"a shared {what} is not allowed (the threads proposal is off)", at)
        bits = 64 if flags & 0x04 else 32
        minimum = body.leb(bits)
        maximum = body.leb(bits) if flags & 0x01 else None
        if flags & 0x08:
            page_log2 = body.leb()
            if page_log2 > 64:
                raise body.fail(f"a page size of 2^{page_log2} bytes is not allowed", at)
        return Extent(minimum, maximum, page_log2, at)

    def _memory(self, body: _Bytes) -> Extent:
        return self._extent(body, "memory", PAGE_BYTES_LOG2)

    def _table(self, body: _Bytes) -> Extent:
        at = body.at
        initialised = body.left > 1 and body.data[body.at : body.at + 2] == b"\x40\x00"
        if initialised:
            raise body.fail(
                "a table with an initial value is not allowed (the function-references proposal is off)", at
            )
        self._value_type(body)
        return self._extent(body, "table", 0)

    def _import(self, body: _Bytes) -> Import:
        at = body.at
        module, name = body.name(), body.name()
        kind = self._kind(body)
        function_type: FunctionType | None = None
        match kind:
            case "function":
                index = body.leb()
                function_type = self._type_at(index, body, at)
                self._functions.append(index)
            case "table":
                self._table(body)
            case "memory":
                self._memory(body)
            case "global":
                self._value_type(body)
                body.byte()
            case _:
                body.byte()
                body.leb()
        return Import(module, name, kind, function_type, at)

    def _export(self, body: _Bytes) -> Export:
        at = body.at
        name = body.name()
        kind = self._kind(body)
        index = body.leb()
        function_type: FunctionType | None = None
        if kind == "function":
            if index < len(self._functions):
                function_type = self._type_at(self._functions[index], body, at)
            elif not self._contents.over_limit:
                raise body.fail(f"export {name[:64]!r} names function {index}, which does not exist", at)
        return Export(name, kind, function_type, at)

    def _kind(self, body: _Bytes) -> str:
        at = body.at
        kind = body.byte()
        if kind >= len(_KINDS):
            raise body.fail(f"kind {kind} of an import or export is unknown", at)
        return _KINDS[kind]
