"""A bounded reader of the WebAssembly binary format (core specification 3.0, section 5) for untrusted bytes.

It reads what a decision needs: declarations, features with their places, segments. wasmtime validates the code. Every
count is checked against the bytes that are left, so time and memory are linear in the input. It raises ModuleError and
nothing else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from wasmbed.runtime import wasm_code
from wasmbed.runtime.features import Feature, Use, Uses
from wasmbed.runtime.wasm_bytes import Bytes, ModuleError
from wasmbed.runtime.wasm_segments import Segment, Segments
from wasmbed.runtime.wasm_types import Extent, FunctionType, Types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Contents", "Export", "Extent", "FunctionType", "Import", "ModuleError", "Segment", "Use", "read"]

T = TypeVar("T")

MAGIC: Final = b"\0asm"

MAX_TABLES: Final = 16
MAX_TABLE_ELEMENTS: Final = 100_000
MAX_MEMORIES: Final = 1
_LIMITS: Final = {
    "types": 10_000,
    "imports": 1_000,
    "functions": 50_000,
    "tables": MAX_TABLES,
    # More than one is the business of the feature; this only bounds the reading.
    "memories": 1_000,
    "globals": 10_000,
    "exports": 1_000,
    "element segments": 10_000,
    "data segments": 10_000,
    "tags": 10_000,
}
_KINDS: Final = ("function", "table", "memory", "global", "tag")
_SECTIONS: Final = (
    *("custom", "type", "import", "function", "table", "memory", "global"),
    *("export", "start", "element", "code", "data", "data count", "tag"),
)
_MAX_NAME: Final = 64


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


@dataclass
class Contents:
    """What a module declares. over_limit has one text for each list that is too long; such a list is not read.

    uses has the first place of each feature, segments the active ones, functions where the bodies begin (the number of
    imported functions is first_function).
    """

    size: int
    imports: list[Import] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    tables: list[Extent] = field(default_factory=list)
    memories: list[Extent] = field(default_factory=list)
    start_offset: int | None = None
    over_limit: list[str] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    first_function: int = 0
    functions: list[int] = field(default_factory=list)
    code_end: int = 0
    data_bytes: int = 0
    names_at: tuple[int, int] | None = None


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


def function_names(data: bytes, contents: Contents, wanted: Iterable[int]) -> dict[int, str]:
    """Return the names of functions that the custom section `name` has, cut and printable; none when it is damaged."""
    indices, names = set(wanted), dict[int, str]()
    if contents.names_at is None or not indices:
        return names
    body = Bytes(data, *contents.names_at)
    with contextlib.suppress(ModuleError):
        while body.left:
            kind, length = body.byte(), body.leb()
            if kind != 1:
                body.skip(length)
                continue
            for _ in range(body.count(2)):
                index = body.leb()
                length = body.leb()
                if index in indices:
                    text = body.take(length)[: 4 * _MAX_NAME].decode("utf-8", "replace")[:_MAX_NAME]
                    names[index] = "".join(c if c.isprintable() else "?" for c in text)
                else:
                    body.skip(length)
            break
    return names


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._contents = Contents(size=len(data))
        self._uses = Uses()
        self._types_reader = Types(self._uses)
        self._segments = Segments(self._types_reader)
        self._types: list[FunctionType | None] = []
        # Type indices of all functions, the imported ones first.
        self._functions: list[int] = []

    def run(self) -> Contents:
        file = Bytes(self._data, 8, len(self._data))
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
            body = Bytes(self._data, file.at, file.at + length)
            file.at += length
            self._section(section, body, at)
        self._contents.uses = sorted(self._uses.first.values(), key=lambda use: use.offset)
        self._contents.segments = self._segments.active
        self._contents.data_bytes = self._segments.data_bytes
        return self._contents

    def _section(self, section: int, body: Bytes, at: int) -> None:
        name, types, segments = _SECTIONS[section], self._types_reader, self._segments
        match name:
            case "element" | "data":
                self._list(f"{name} segments", body, at, segments.element if name == "element" else segments.data)
            case "global":
                self._list("globals", body, at, segments.global_)
            case "start":
                self._contents.start_offset = at
            case "tag":
                types.note(Feature.EXCEPTIONS, at)
            case "custom":
                self._custom(body)
            case "code":
                self._list("functions", body, at, self._function)
                types.function = None
                self._contents.code_end = body.end
            case _:
                self._declarations(name, body, at)

    def _declarations(self, section: str, body: Bytes, at: int) -> None:
        contents, types = self._contents, self._types_reader
        match section:
            case "type":
                self._list("types", body, at, self._type)
            case "import":
                contents.imports = self._list("imports", body, at, self._import)
                contents.first_function = len(self._functions)
            case "function":
                self._functions += self._list("functions", body, at, Bytes.leb)
            case "table":
                contents.tables = self._list("tables", body, at, self._table)
            case "memory":
                contents.memories = self._list("memories", body, at, types.memory)
            case "export":
                contents.exports = self._list("exports", body, at, self._export)

    def _list(self, what: str, body: Bytes, at: int, entry: Callable[[Bytes], T]) -> list[T]:
        count = body.count()
        if count <= _LIMITS[what]:
            return [entry(body) for _ in range(count)]
        text = f"{count} {what} (at byte {at:#x}); the limit is {_LIMITS[what]}"
        # Functions are counted twice, with their types and with their code.
        if not any(f" {what} (" in other for other in self._contents.over_limit):
            self._contents.over_limit.append(text)
        return []

    def _type(self, body: Bytes) -> None:
        self._types += self._types_reader.definitions(body, len(self._types))

    def _custom(self, body: Bytes) -> None:
        try:
            if body.name() == "name":
                self._contents.names_at = (body.at, body.end)
        except ModuleError as error:
            raise ModuleError(f"a custom section: {error}") from None

    def _function(self, body: Bytes) -> None:
        length = body.leb()
        at = body.at
        body.skip(length)
        index = self._contents.first_function + len(self._contents.functions)
        self._contents.functions.append(at)
        types = self._types_reader
        types.function = index
        code = Bytes(self._data, at, at + length)
        try:
            for _ in range(code.count(2)):
                code.leb()
                types.value(code)
            wasm_code.scan(code, types)
        except ModuleError as error:
            raise ModuleError(f"{error} in function {index}") from None

    def _type_at(self, index: int, body: Bytes, at: int) -> FunctionType | None:
        if index < len(self._types):
            return self._types[index]
        if self._contents.over_limit:  # a list that is too long was not read
            return None
        raise body.fail(f"type {index} does not exist", at)

    def _table(self, body: Bytes) -> Extent:
        at = body.at
        initialised = body.data[at : at + 2] == b"\x40\x00" and body.left > 1
        if initialised:
            self._types_reader.note(Feature.FUNCTION_REFERENCES, at)
            body.at += 2
        table = self._types_reader.table(body)
        if initialised:
            self._segments.expression(body)
        return table

    def _import(self, body: Bytes) -> Import:
        at = body.at
        module, name = body.name(), body.name()
        if body.left and body.data[body.at] == 0x20:  # a function of exactly this type
            self._types_reader.note(Feature.CUSTOM_DESCRIPTORS, body.at)
            body.at += 1
            kind = "function"
        else:
            kind = self._kind(body)
        function_type: FunctionType | None = None
        match kind:
            case "function":
                index = body.leb()
                function_type = self._type_at(index, body, at)
                self._functions.append(index)
            case "table":
                self._types_reader.table(body)
            case "memory":
                self._types_reader.memory(body)
            case "global":
                self._types_reader.global_(body)
                self._segments.import_global()
            case _:
                self._types_reader.note(Feature.EXCEPTIONS, at)
                body.byte()
                body.leb()
        return Import(module, name, kind, function_type, at)

    def _export(self, body: Bytes) -> Export:
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

    def _kind(self, body: Bytes) -> str:
        at = body.at
        kind = body.byte()
        if kind >= len(_KINDS):
            raise body.fail(f"kind {kind} of an import or export is unknown", at)
        return _KINDS[kind]
