"""`wasmbed pack`: makes a module small and says what it costs on each board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasmbed.tools import binary

if TYPE_CHECKING:
    from wasmbed.tools.interpreter import Info

# Of a 32-bit build: struct wbi_loader, rounded up to 8, and the header before a module in flash.
LOADER_BYTES = 544
HEADER_BYTES = 76
LINKER_EXPORTS = ("__heap_base", "__data_end")


@dataclass(frozen=True)
class Board:
    """What a board has for one application.

    module_bytes: of a module as it comes; flash_bytes: of the place for it and its translation; ram_bytes: linear
    memory, globals, imports and table; stack_bytes: values and calls; scratch_bytes: for a load.
    """

    name: str
    device_class: str
    ram_bytes: int
    stack_bytes: int
    module_bytes: int = 48 * 1024
    flash_bytes: int = 128 * 1024

    @property
    def scratch_bytes(self) -> int:
        """A load borrows the stack, and its own state lies there too."""
        return self.stack_bytes - LOADER_BYTES


BOARDS = (
    Board("stm32", "mcu", ram_bytes=32 * 1024, stack_bytes=8192),
    Board("hifive1", "riscv", ram_bytes=6144, stack_bytes=2048),
)


@dataclass(frozen=True)
class Packed:
    """The packed module and what was done to it."""

    wasm: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What a module takes on one board, in bytes."""

    board: Board
    module_bytes: int
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int
    scratch_bytes: int

    @property
    def over(self) -> tuple[str, ...]:
        """What the board does not have enough of, in words."""
        figures = {
            "module": (self.module_bytes, self.board.module_bytes),
            "flash": (self.flash_bytes, self.board.flash_bytes),
            "RAM": (self.ram_bytes, self.board.ram_bytes),
            "frame of a function": (self.stack_bytes, self.board.stack_bytes),
            "nesting": (self.scratch_bytes, self.board.scratch_bytes),
        }
        return tuple(f"{name} {used:,} of {most:,} bytes" for name, (used, most) in figures.items() if used > most)

    @property
    def fits(self) -> bool:
        """The board takes it."""
        return not self.over


def heap_base(sections: list[binary.Section]) -> int | None:
    """The address after data and stack, when the linker exported it as `__heap_base`."""
    values = binary.constant_globals(sections)
    for export in binary.exports(sections):
        if export.name == "__heap_base" and export.kind == 3:
            return values.get(export.index)
    return None


def _small_pages(sections: list[binary.Section], base: int | None) -> tuple[list[binary.Section], str]:
    memories = binary.memories(sections)
    if len(memories) != 1:
        return sections, "page size kept: the module defines no memory of its own"
    if memories[0].page_bytes != binary.PAGE_BYTES:
        return sections, f"page size is {memories[0].page_bytes} already"
    if binary.uses_memory_size(sections):
        return sections, "page size kept: the module uses memory.grow or memory.size"
    if base is None:
        return sections, "page size kept: link with --export=__heap_base or give --heap-base"
    size = (max(base, binary.data_end(sections)) + 7) & ~7
    if size > memories[0].bytes:
        raise binary.ModuleError(f"the heap base {base} lies beyond the memory of {memories[0].bytes} bytes")
    memory = binary.Memory(size, size, 1)
    return binary.replaced(sections, binary.MEMORY, binary.write_memory(memory)), f"memory is {size} bytes, page size 1"


def pack(wasm: bytes, *, heap_base_bytes: int | None = None) -> Packed:
    """Strips names and other custom sections and gives the memory a page size of 1 where that changes nothing else.

    heap_base_bytes: where data and stack end, when the linker did not export `__heap_base`.
    Raises ModuleError when the module cannot be read.
    """
    sections = binary.read_sections(wasm)
    kept = [section for section in sections if section.number != binary.CUSTOM]
    notes = []
    custom = sum(len(section.data) for section in sections if section.number == binary.CUSTOM)
    if custom:
        notes.append(f"{custom} bytes of names and other custom sections left out")
    base = heap_base_bytes if heap_base_bytes is not None else heap_base(kept)
    kept, note = _small_pages(kept, base)
    notes.append(note)
    exported = binary.exports(kept)
    wanted = [export for export in exported if export.name not in LINKER_EXPORTS]
    if len(wanted) != len(exported):
        kept = binary.replaced(kept, binary.EXPORT, binary.write_exports(wanted))
    return Packed(binary.write_sections(kept), tuple(notes))


def costs(info: Info) -> list[Cost]:
    """What the module takes on each board: flash with its translation, RAM without the stack of the class."""
    flash = (HEADER_BYTES + info.module_bytes + 7 & ~7) + info.flash_bytes
    figures = (info.module_bytes, flash, info.ram_bytes, info.largest_frame_bytes, info.scratch_bytes)
    return [Cost(board, *figures) for board in BOARDS]


def cost_table(info: Info) -> str:
    """The costs for people."""
    lines = [
        f"{'board':10}{'flash':>10}{'of':>10}{'RAM':>10}{'of':>10}  largest frame {info.largest_frame_bytes} bytes"
    ]
    for cost in costs(info):
        verdict = f"does not fit: {', '.join(cost.over)}" if cost.over else "fits"
        lines.append(
            f"{cost.board.name:10}{cost.flash_bytes:>10}{cost.board.flash_bytes:>10}"
            f"{cost.ram_bytes:>10}{cost.board.ram_bytes:>10}  {verdict}"
        )
    return "\n".join(lines)
