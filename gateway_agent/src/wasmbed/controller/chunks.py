"""Dividing devices into objects of at most 250, so that a device stays where it is whatever happens to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from wasmbed.api import CHUNK_DEVICES, DeviceSlice, Placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Key = tuple[str, str]
V = TypeVar("V", DeviceSlice, Placement)


def assign(
    wanted: Iterable[Key], existing: Mapping[int, Sequence[Key]], limit: int = CHUNK_DEVICES
) -> dict[int, list[Key]]:
    """Chunk number to the sorted devices in it; chunks that have none are left out.

    A device that is in a chunk stays there (in the first, if it is in several). Others fill the gaps of the lowest
    chunks and then new ones, whose numbers are the lowest that are free.
    """
    missing = set(wanted)
    chunks: dict[int, list[Key]] = {}
    for number in sorted(existing):
        kept = [key for key in existing[number] if key in missing][:limit]
        missing.difference_update(kept)
        chunks[number] = kept
    rest = sorted(missing, reverse=True)
    number = 0
    while rest:
        chunk = chunks.setdefault(number, [])
        while rest and len(chunk) < limit:
            chunk.append(rest.pop())
        number += 1
    return {number: sorted(keys) for number, keys in sorted(chunks.items()) if keys}


def by_number(existing: Iterable[V], prefix: str) -> tuple[dict[int, V], list[V]]:
    """Objects by the chunk number that follows `prefix` in their names, and those whose names have another form."""
    numbered: dict[int, V] = {}
    others = []
    for item in existing:
        tail = item.metadata.name.removeprefix(prefix)
        number = int(tail) if tail.isascii() and tail.isdigit() and len(tail) <= 6 else None
        if number is not None and item.metadata.name == f"{prefix}{number}":
            numbered[number] = item
        else:
            others.append(item)
    return numbered, others
