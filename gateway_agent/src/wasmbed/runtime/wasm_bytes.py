"""A bounded cursor over untrusted bytes of a module (WebAssembly core specification, section 5)."""

from __future__ import annotations


class ModuleError(Exception):
    """The bytes are not a module this reader accepts; the message says why and at which byte."""


class Bytes:
    """A part of the file; offsets are those of the file. Every read beyond the end is a ModuleError."""

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

    def signed_leb(self, bits: int) -> int:
        """Read a signed LEB128 number; of more than `bits` bits only the lower ones count."""
        start, value, shift = self.at, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.fail("a number is too long", start)
        return value - (1 << shift) if byte & 0x40 else value

    def count(self, least: int = 1) -> int:
        """Read a vector's length; each entry takes at least `least` bytes."""
        start = self.at
        value = self.leb()
        if value * least > self.left:
            raise self.fail(f"a list of {value} entries does not fit its section", start)
        return value

    def skip(self, length: int) -> None:
        if length > self.left:
            raise self.fail(f"{length} bytes are announced and {self.left} are left")
        self.at += length

    def take(self, length: int) -> bytes:
        self.skip(length)
        return self.data[self.at - length : self.at]

    def name(self) -> str:
        start = self.at
        try:
            return self.take(self.leb()).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8", start) from None
