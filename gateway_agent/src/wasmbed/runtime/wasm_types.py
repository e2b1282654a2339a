"""Types of the WebAssembly binary format (core specification 3.0, section 5.3), those of proposals included.

A type that no class has is read all the same, so that the finding can name the proposal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime.features import Feature

if TYPE_CHECKING:
    from wasmbed.runtime.features import Uses
    from wasmbed.runtime.wasm_bytes import Bytes

PAGE_BYTES_LOG2: Final = 16

_NUMBERS: Final = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}
# Abstract heap types as one byte; alone they stand for the nullable reference to them.
_HEAP_TYPES: Final = {
    0x70: ("func", Feature.REFERENCE_TYPES),
    0x6F: ("extern", Feature.REFERENCE_TYPES),
    0x6E: ("any", Feature.GC),
    0x6D: ("eq", Feature.GC),
    0x6C: ("i31", Feature.GC),
    0x6B: ("struct", Feature.GC),
    0x6A: ("array", Feature.GC),
    0x71: ("none", Feature.GC),
    0x72: ("noextern", Feature.GC),
    0x73: ("nofunc", Feature.GC),
    0x69: ("exn", Feature.EXCEPTIONS),
    0x74: ("noexn", Feature.EXCEPTIONS),
    0x68: ("cont", Feature.STACK_SWITCHING),
    0x75: ("nocont", Feature.STACK_SWITCHING),
}
_V128, _REF_NULL, _REF = 0x7B, 0x63, 0x64
_SHARED, _EXACT = 0x65, 0x62
_PACKED: Final = {0x78: "i8", 0x77: "i16"}


@dataclass(frozen=True)
class FunctionType:
    """Parameter and result types by their names in the text format."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


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


class Types:
    """Reads types; notes the features they belong to, for `function` when one is being read."""

    def __init__(self, uses: Uses) -> None:
        self._uses = uses
        self._memories = self._tables = 0
        self._defined: int | None = None
        self.function: int | None = None

    def note(self, feature: Feature, offset: int) -> None:
        self._uses.note(feature, offset, self.function)

    def value(self, body: Bytes) -> str:
        at = body.at
        code = body.byte()
        if code in _NUMBERS:
            return _NUMBERS[code]
        if code == _V128:
            self.note(Feature.SIMD, at)
            return "v128"
        body.at = at
        return self.reference(body)

    def reference(self, body: Bytes, *, in_table: bool = False) -> str:
        """Read a reference type; that of functions in a table is as old as WebAssembly."""
        at = body.at
        code = body.byte()
        if code in (_REF, _REF_NULL):
            self.note(Feature.FUNCTION_REFERENCES, at)
            return f"(ref {'null ' if code == _REF_NULL else ''}{self.heap(body)})"
        if code == _SHARED:
            self.note(Feature.SHARED_EVERYTHING, at)
            code = body.byte()
        if code not in _HEAP_TYPES:
            raise body.fail(f"value type {code:#x} is not supported", at)
        name, feature = _HEAP_TYPES[code]
        if not (in_table and name == "func"):
            self.note(feature, at)
        return f"{name}ref" if not name.startswith("no") else f"null{name.removeprefix('no')}ref"

    def heap(self, body: Bytes) -> str:
        """Read a heap type: an abstract one or the index of a type."""
        at = body.at
        code = body.byte()
        if code == _EXACT:
            self.note(Feature.CUSTOM_DESCRIPTORS, at)
            return f"(exact {self.heap_index(body)})"
        if code == _SHARED:
            self.note(Feature.SHARED_EVERYTHING, at)
            code = body.byte()
        if code in _HEAP_TYPES:
            name, feature = _HEAP_TYPES[code]
            self.note(feature, at)
            return name
        body.at = at
        return self.heap_index(body)

    def heap_index(self, body: Bytes) -> str:
        at = body.at
        index = body.signed_leb(33)
        if index < 0:
            raise body.fail("an unknown heap type", at)
        self.note(Feature.FUNCTION_REFERENCES, at)
        if self._defined is not None and index >= self._defined:  # a type that contains itself
            self.note(Feature.GC, at)
        return str(index)

    def block(self, body: Bytes) -> None:
        """Read the type of a block: nothing, a value type or the index of a function type."""
        code = body.data[body.at] if body.left else body.byte()
        if code == 0x40:
            body.at += 1
        elif code < 0x40 or code >= 0x80:
            body.signed_leb(33)
        else:
            self.value(body)

    def limits(self, body: Bytes, what: str, page_log2: int) -> Extent:
        at = body.at
        flags = body.byte()
        if flags & ~0x0F:
            raise body.fail(f"limits of a {what} have unknown flags {flags:#x}", at)
        if flags & 0x02:
            self.note(Feature.THREADS if what == "memory" else Feature.SHARED_EVERYTHING, at)
        if flags & 0x04:
            self.note(Feature.MEMORY64, at)
        bits = 64 if flags & 0x04 else 32
        minimum = body.leb(bits)
        maximum = body.leb(bits) if flags & 0x01 else None
        if flags & 0x08:
            page_log2 = body.leb()
            if page_log2 > 64:
                raise body.fail(f"a page size of 2^{page_log2} bytes is not allowed", at)
        return Extent(minimum, maximum, page_log2, at)

    def memory(self, body: Bytes) -> Extent:
        """Read the type of a memory, imported or not; more than one is a feature."""
        self._memories += 1
        if self._memories > 1:
            self.note(Feature.MULTI_MEMORY, body.at)
        return self.limits(body, "memory", PAGE_BYTES_LOG2)

    def table(self, body: Bytes) -> Extent:
        """Read the type of a table, imported or not; more than one is a feature."""
        self._tables += 1
        if self._tables > 1:
            self.note(Feature.REFERENCE_TYPES, body.at)
        self.reference(body, in_table=True)
        return self.limits(body, "table", 0)

    def global_(self, body: Bytes) -> None:
        self.value(body)
        at = body.at
        flags = body.byte()
        if flags & 0x02:
            self.note(Feature.SHARED_EVERYTHING, at)
        elif flags > 1:
            raise body.fail(f"mutability {flags:#x} of a global is unknown", at)

    def definitions(self, body: Bytes, defined: int) -> list[FunctionType | None]:
        """Read one entry of the type section, after `defined` types; None stands for a type that is no function."""
        at, count = body.at, 1
        if body.left and body.data[at] == 0x4E:
            self.note(Feature.GC, at)
            body.at += 1
            count = body.count()
        self._defined = defined
        types = [self._sub(body) for _ in range(count)]
        self._defined = None
        return types

    def _sub(self, body: Bytes) -> FunctionType | None:
        at = body.at
        form = body.byte()
        if form in (0x50, 0x4F):
            self.note(Feature.GC, at)
            for _ in range(body.count()):
                body.leb()
            form = body.byte()
        while form in (_SHARED, 0x4D, 0x4C):
            self.note(Feature.SHARED_EVERYTHING if form == _SHARED else Feature.CUSTOM_DESCRIPTORS, at)
            if form != _SHARED:
                body.leb()
            form = body.byte()
        return self._composite(form, body, at)

    def _composite(self, form: int, body: Bytes, at: int) -> FunctionType | None:
        match form:
            case 0x60:
                params = tuple(self.value(body) for _ in range(body.count()))
                return FunctionType(params, tuple(self.value(body) for _ in range(body.count())))
            case 0x5F:
                self.note(Feature.GC, at)
                for _ in range(body.count(2)):
                    self._field(body)
            case 0x5E:
                self.note(Feature.GC, at)
                self._field(body)
            case 0x5D:
                self.note(Feature.STACK_SWITCHING, at)
                self.heap_index(body)
            case _:
                raise body.fail(f"type form {form:#x} is not supported", at)
        return None

    def _field(self, body: Bytes) -> None:
        if body.left and body.data[body.at] in _PACKED:
            body.at += 1
        else:
            self.value(body)
        body.byte()
