"""Reads and rewrites WebAssembly modules (core specification, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAGIC = b"\x00asm\x01\x00\x00\x00"
CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT = range(13)
PAGE_BYTES = 65536


class ModuleError(Exception):
    """The module cannot be read; the message says where."""


@dataclass(frozen=True)
class Section:
    """One section: its number and its contents without the size."""

    number: int
    data: bytes


@dataclass(frozen=True)
class Memory:
    """Limits of a linear memory, in pages of `page_bytes`."""

    minimum: int
    maximum: int | None
    page_bytes: int

    @property
    def bytes(self) -> int:
        return self.minimum * self.page_bytes


class Reader:
    """A cursor over bytes; every read beyond the end is a ModuleError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ModuleError("unexpected end of the module")
        self.at += 1
        return self.data[self.at - 1]

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise ModuleError("unexpected end of the module")
        self.at += length
        return self.data[self.at - length : self.at]

    def leb(self, *, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value
            if shift >= 70:
                raise ModuleError("integer too long")

    def name(self) -> str:
        return self.take(self.leb()).decode(errors="replace")


def leb(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def read_sections(wasm: bytes) -> list[Section]:
    """Splits a module; raises ModuleError when it is none."""
    if wasm[:8] != MAGIC:
        raise ModuleError("not a WebAssembly module of version 1")
    reader = Reader(wasm[8:])
    sections = []
    while reader:
        number = reader.byte()
        sections.append(Section(number, reader.take(reader.leb())))
    return sections


def write_sections(sections: list[Section]) -> bytes:
    return MAGIC + b"".join(bytes([s.number]) + leb(len(s.data)) + s.data for s in sections)


def section(sections: list[Section], number: int) -> Reader:
    """The contents of a section; of one that is not there, an empty vector."""
    return Reader(next((found.data for found in sections if found.number == number), b"\0"))


def read_memory(reader: Reader) -> Memory:
    flags = reader.byte()
    minimum = reader.leb()
    maximum = reader.leb() if flags & 1 else None
    page_bytes = 1 << min(reader.leb(), 64) if flags & 8 else PAGE_BYTES
    return Memory(minimum, maximum, page_bytes)


def memories(sections: list[Section]) -> list[Memory]:
    """The memories that the module defines itself."""
    reader = section(sections, MEMORY)
    return [read_memory(reader) for _ in range(reader.leb())]


def write_memory(memory: Memory) -> bytes:
    """A memory section with one memory."""
    flags = (1 if memory.maximum is not None else 0) | (8 if memory.page_bytes != PAGE_BYTES else 0)
    limits = leb(memory.minimum) + (leb(memory.maximum) if memory.maximum is not None else b"")
    page = leb(memory.page_bytes.bit_length() - 1) if memory.page_bytes != PAGE_BYTES else b""
    return leb(1) + bytes([flags]) + limits + page


@dataclass(frozen=True)
class Export:
    """An export: its name, kind (0 function, 1 table, 2 memory, 3 global) and index."""

    name: str
    kind: int
    index: int


def exports(sections: list[Section]) -> list[Export]:
    reader = section(sections, EXPORT)
    return [Export(reader.name(), reader.byte(), reader.leb()) for _ in range(reader.leb())]


def write_exports(entries: list[Export]) -> bytes:
    names = [(entry.name.encode(), entry) for entry in entries]
    return leb(len(names)) + b"".join(leb(len(n)) + n + bytes([e.kind]) + leb(e.index) for n, e in names)


def imported(sections: list[Section], kind: int) -> int:
    """How many functions (0), tables, memories or globals (3) the module imports."""
    reader = section(sections, IMPORT)
    count = 0
    for _ in range(reader.leb()):
        reader.name()
        reader.name()
        found = reader.byte()
        count += found == kind
        if found == 0:
            reader.leb()
        elif found == 1:
            reader.byte()
            read_memory(reader)
        elif found == 2:
            read_memory(reader)
        else:
            reader.byte()
            reader.byte()
    return count


def constant_globals(sections: list[Section]) -> dict[int, int]:
    """Values of the i32 globals that are constants, by index."""
    reader = section(sections, GLOBAL)
    first = imported(sections, 3)
    values = {}
    for index in range(reader.leb()):
        kind = reader.byte()
        reader.byte()
        opcode = reader.byte()
        if opcode in {0x43, 0x44}:
            reader.take(4 if opcode == 0x43 else 8)
        else:
            value = reader.leb(signed=opcode != 0x23)
            if kind == 0x7F and opcode == 0x41:
                values[first + index] = value & 0xFFFFFFFF
        if reader.byte() != 0x0B:
            raise ModuleError(f"the initial value of global {first + index} is not a constant")
    return values


def data_end(sections: list[Section]) -> int:
    """The first address after every active data segment with a constant address."""
    reader = section(sections, DATA)
    end = 0
    for _ in range(reader.leb()):
        flags = reader.leb()
        address = 0
        if flags == 2:
            reader.leb()
        if flags != 1:
            opcode = reader.byte()
            address = reader.leb(signed=opcode == 0x41) & 0xFFFFFFFF
            reader.byte()
        end = max(end, address + len(reader.take(reader.leb())))
    return end


def _skip_instruction(reader: Reader) -> int:
    opcode = reader.byte()
    if opcode in {0x02, 0x03, 0x04, 0x0C, 0x0D, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x41, 0x42}:
        reader.leb(signed=True)
    elif 0x28 <= opcode <= 0x3E or opcode == 0x11:
        reader.leb()
        reader.leb()
    elif opcode == 0x0E:
        for _ in range(reader.leb() + 1):
            reader.leb()
    elif opcode in {0x3F, 0x40}:
        reader.byte()
    elif opcode in {0x43, 0x44}:
        reader.take(4 if opcode == 0x43 else 8)
    elif opcode == 0xFC:
        number = reader.leb()
        for _ in range({8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2}.get(number, 0)):
            reader.leb()
    elif opcode not in {0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B} and not 0x45 <= opcode <= 0xC4:
        raise ModuleError(f"instruction 0x{opcode:02x} is of a feature that microcontrollers do not have")
    return opcode


def uses_memory_size(sections: list[Section]) -> bool:
    """True when the code asks for or changes the number of pages."""
    reader = section(sections, CODE)
    for _ in range(reader.leb()):
        body = Reader(reader.take(reader.leb()))
        for _ in range(body.leb()):
            body.leb()
            body.byte()
        while body:
            if _skip_instruction(body) in {0x3F, 0x40}:
                return True
    return False


def replaced(sections: list[Section], number: int, data: bytes) -> list[Section]:
    return [replace(found, data=data) if found.number == number else found for found in sections]
