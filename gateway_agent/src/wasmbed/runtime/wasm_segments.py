"""Globals, element and data segments of a module, and where the active ones go (core specification, section 5.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import wasm_code
from wasmbed.runtime.features import Feature

if TYPE_CHECKING:
    from wasmbed.runtime.wasm_bytes import Bytes
    from wasmbed.runtime.wasm_types import Types

_I32_CONST, _I64_CONST, _GLOBAL_GET, _END = 0x41, 0x42, 0x23, 0x0B
_OPERATIONS: Final = {
    0x6A: lambda a, b: a + b,
    0x6B: lambda a, b: a - b,
    0x6C: lambda a, b: a * b,
    0x7C: lambda a, b: a + b,
    0x7D: lambda a, b: a - b,
    0x7E: lambda a, b: a * b,
}
_I32_OPERATIONS: Final = (0x6A, 0x6B, 0x6C)


@dataclass(frozen=True)
class Segment:
    """An active segment: `length` entries at `begin` (None when not constant) of the memory or table `target`."""

    kind: str
    number: int
    target: int
    begin: int | None
    length: int
    offset: int


class Segments:
    """Reads globals and segments; an address is computed where every part of it is a constant of the module."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._globals: list[int | None] = []
        self._imported = 0
        self._counts = {"element": 0, "data": 0}
        self.active: list[Segment] = []
        self.data_bytes = 0

    def import_global(self) -> None:
        """Take note of an imported global, whose value nobody knows yet."""
        self._globals.append(None)
        self._imported += 1

    def global_(self, body: Bytes) -> None:
        """Read one entry of the global section."""
        self._types.global_(body)
        mutable = body.data[body.at - 1] & 1
        value = self.expression(body)
        self._globals.append(None if mutable else value)

    def expression(self, body: Bytes) -> int | None:
        """Read a constant expression; return its value when it is a known integer, as an unsigned one."""
        stack: list[int | None] = []
        while True:
            at = body.at
            if body.left and body.data[at] == _END:
                body.at += 1
                return stack[-1] if stack else None
            opcode = wasm_code.instruction(body, self._types)
            stack.append(self._value(opcode, body, at, stack))

    def _value(self, opcode: int, body: Bytes, at: int, stack: list[int | None]) -> int | None:
        after = body.at
        if opcode in _OPERATIONS:
            self._types.note(Feature.EXTENDED_CONST, at)
            right = stack.pop() if stack else None
            left = stack.pop() if stack else None
            if left is None or right is None:
                return None
            bits = 32 if opcode in _I32_OPERATIONS else 64
            return int(_OPERATIONS[opcode](left, right)) & (1 << bits) - 1
        body.at = at + 1
        try:
            if opcode == _I32_CONST:
                return body.signed_leb(32) & 0xFFFFFFFF
            if opcode == _I64_CONST:
                return body.signed_leb(64) & 0xFFFFFFFFFFFFFFFF
            if opcode == _GLOBAL_GET:
                index = body.leb()
                if index >= self._imported:
                    self._types.note(Feature.GC, at)
                return self._globals[index] if index < len(self._globals) else None
        finally:
            body.at = after
        return None

    def element(self, body: Bytes) -> None:
        """Read one element segment."""
        at = body.at
        flags = body.leb()
        if flags > 7:
            raise body.fail(f"an element segment has unknown flags {flags:#x}", at)
        active, explicit, expressions = not flags & 1, bool(flags & 2), bool(flags & 4)
        table = body.leb() if active and explicit else 0
        begin = self.expression(body) if active else None
        if not active or explicit:
            if expressions:
                self._types.reference(body)
            else:
                body.byte()
        count = body.count()
        for _ in range(count):
            if expressions:
                self.expression(body)
            else:
                body.leb()
        self._add("element", active, table, begin, count, at)

    def data(self, body: Bytes) -> None:
        """Read one data segment."""
        at = body.at
        flags = body.leb()
        if flags > 2:
            raise body.fail(f"a data segment has unknown flags {flags:#x}", at)
        memory = body.leb() if flags == 2 else 0
        if memory:
            self._types.note(Feature.MULTI_MEMORY, at)
        begin = self.expression(body) if flags != 1 else None
        length = body.leb()
        body.skip(length)
        self.data_bytes += length
        self._add("data", flags != 1, memory, begin, length, at)

    def _add(self, kind: str, active: bool, target: int, begin: int | None, length: int, offset: int) -> None:
        number = self._counts[kind]
        self._counts[kind] += 1
        if active:
            self.active.append(Segment(kind, number, target, begin, length, offset))
