"""Prints what a board's images take of flash and RAM, from their section headers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import NamedTuple


class Sizes(NamedTuple):
    """Bytes."""

    flash: int
    data: int  # .data and .bss
    stacks: int
    kept: int  # RAM that start-up leaves alone

    @property
    def ram(self) -> int:
        return self.data + self.stacks + self.kept


def sections(elf: bytes) -> dict[str, tuple[int, int, int]]:
    """Name -> type, flags, size of a 32-bit little-endian ELF file."""
    offset = struct.unpack_from("<I", elf, 32)[0]
    size, count, names = struct.unpack_from("<HHH", elf, 46)
    headers = [struct.unpack_from("<10I", elf, offset + number * size) for number in range(count)]
    strings = headers[names][4]
    return {
        elf[strings + header[0] : elf.index(b"\0", strings + header[0])].decode(): (header[1], header[2], header[5])
        for header in headers
    }


def sizes(elf: bytes) -> Sizes:
    """Of one image. Loaded sections are in flash: code where it runs, data where it is copied from."""
    found = sections(elf)
    flash = sum(size for kind, flags, size in found.values() if kind == 1 and flags & 2)
    data = sum(found[name][2] for name in (".data", ".bss") if name in found)
    return Sizes(flash, data, found[".stacks"][2], found[".noinit"][2])


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        row = sizes(path.read_bytes())
        cells = (path.stem, path.parent.name, *(f"{value:,}" for value in (*row, row.ram)))
        print("| " + " | ".join(f"`{cell}`" if index < 2 else cell for index, cell in enumerate(cells)) + " |")
