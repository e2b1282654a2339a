"""What generated codecs call: XCDR1 strings, sequences and padding, with every length checked against the bytes there.

Offsets count from the first byte of the four-byte encapsulation header; alignment is relative to the byte after it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.errors import CdrError

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER: Final = b"\0\1\0\0"  # CDR little endian
HEADER_SIZE: Final = 4
MAX_PADDING: Final = 3
PAD: Final = tuple(bytes(size) for size in range(8))
# struct format of each primitive that is not an octet, and the typecode of array.array for sequences of numbers.
FORMATS: Final = {
    "bool": "?",
    "byte": "B",
    "char": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_HOST: Final = "<" if sys.byteorder == "little" else ">"
_U4: Final = {order: struct.Struct(f"{order}I") for order in "<>"}


def make_tables(order: str, atoms: Sequence[tuple[str, int]]) -> tuple[struct.Struct, ...]:
    """One Struct for each offset modulo 8 at which a run of (format, alignment) can begin, padding included."""
    tables = []
    for start in range(8):
        offset = (start - HEADER_SIZE) % 8
        text = order
        for code, alignment in atoms:
            pad = -offset % alignment
            if pad:
                text += f"{pad}x"
            text += code
            offset += pad + struct.calcsize(f"<{code}")
        tables.append(struct.Struct(text))
    return tuple(tables)


def check_header(data: bytes) -> str:
    """The byte order of a message; raises CdrError when it is not plain CDR."""
    if len(data) < HEADER_SIZE:
        raise CdrError(f"{len(data)} bytes are too short for an encapsulation header")
    if data[0] or data[1] > 1:
        raise CdrError(f"encapsulation {data[0]:02x}{data[1]:02x} is not plain CDR (0000 or 0001)")
    return "<" if data[1] else ">"


def check_end(data: bytes, offset: int) -> None:
    """A message may be followed by padding to four bytes."""
    if len(data) - offset > MAX_PADDING:
        raise CdrError(f"{len(data) - offset} bytes follow the message")


def check_count(count: int, least: int, bound: int, remaining: int) -> None:
    """Check the length of a sequence before anything is allocated for it."""
    if bound and count > bound:
        raise CdrError(f"a sequence of {count} elements, the bound is {bound}")
    if count * least > remaining:
        raise CdrError(f"a sequence of {count} elements in {remaining} bytes")


def read_text(data: bytes, offset: int, count: int, bound: int) -> tuple[str, int]:
    """A string of `count` bytes with its NUL; no bytes at all are taken as the empty string."""
    if not count:
        return "", offset
    end = offset + count
    if end > len(data) or data[end - 1]:
        raise CdrError(f"a string of {count} bytes is not inside the message or has no NUL")
    if bound and count - 1 > bound:
        raise CdrError(f"a string of {count - 1} bytes, the bound is {bound}")
    return str(data[offset : end - 1], "utf-8"), end


def read_wide(order: str, data: bytes, offset: int, count: int, bound: int) -> tuple[str, int]:
    """A wide string as rmw_fastrtps writes it: UTF-16 units in four bytes each, without a NUL."""
    end = offset + count * 4
    if end > len(data):
        raise CdrError(f"a wide string of {count} units is not inside the message")
    if bound and count > bound:
        raise CdrError(f"a wide string of {count} units, the bound is {bound}")
    units = struct.unpack(f"{order}{count}I", data[offset:end])
    return struct.pack(f"<{count}H", *units).decode("utf-16-le"), end


def read_texts(order: str, data: bytes, offset: int, count: int, bound: int, wide: bool) -> tuple[list[str], int]:
    """`count` strings, each aligned to four."""
    check_count(count, 4, 0, len(data) - offset)
    unpack = _U4[order].unpack_from
    texts = []
    for _ in range(count):
        offset = (offset + 3) & ~3
        (length,) = unpack(data, offset)
        if wide:
            text, offset = read_wide(order, data, offset + 4, length, bound)
        else:
            text, offset = read_text(data, offset + 4, length, bound)
        texts.append(text)
    return texts, offset


def read_numbers(order: str, code: str, data: bytes, offset: int, count: int, bound: int) -> tuple[array[Any], int]:
    """A sequence of numbers in one step; its elements are aligned only when there are any."""
    values = array(code)
    if not count:
        return values, offset
    size = values.itemsize
    start = offset + (-(offset - HEADER_SIZE) % size)
    check_count(count, size, bound, len(data) - start)
    end = start + count * size
    values.frombytes(data[start:end])
    if order != _HOST and size > 1:
        values.byteswap()
    return values, end


def skip_numbers(size: int, data: bytes, offset: int, count: int, bound: int) -> int:
    """As `read_numbers` for elements of so many bytes, without making them; returns the new offset."""
    if not count:
        return offset
    start = offset + (-(offset - HEADER_SIZE) % size)
    check_count(count, size, bound, len(data) - start)
    return start + count * size


def read_octets(data: bytes, offset: int, count: int, bound: int) -> tuple[bytes, int]:
    check_count(count, 1, bound, len(data) - offset)
    return data[offset : offset + count], offset + count


def read_bools(data: bytes, offset: int, count: int, bound: int) -> tuple[list[bool], int]:
    check_count(count, 1, bound, len(data) - offset)
    return [value != 0 for value in data[offset : offset + count]], offset + count


def text_bytes(value: str, bound: int) -> bytes:
    """UTF-8 with its NUL; raises CdrError above the bound or with a NUL inside."""
    data = value.encode()
    if 0 in data:
        raise CdrError("a string contains a NUL")
    if bound and len(data) > bound:
        raise CdrError(f"a string of {len(data)} bytes, the bound is {bound}")
    return data + b"\0"


def wide_bytes(order: str, value: str, bound: int) -> bytes:
    """The inverse of `read_wide`, without the count."""
    data = value.encode("utf-16-le")
    count = len(data) // 2
    if bound and count > bound:
        raise CdrError(f"a wide string of {count} units, the bound is {bound}")
    return struct.pack(f"{order}{count}I", *struct.unpack(f"<{count}H", data))


def write_texts(order: str, parts: list[bytes], offset: int, values: Sequence[str], bound: int, wide: bool) -> int:
    """Append strings, each aligned to four; returns the new offset."""
    pack = _U4[order].pack
    for value in values:
        pad = -offset & 3
        data = wide_bytes(order, value, bound) if wide else text_bytes(value, bound)
        parts += (PAD[pad], pack(len(data) // 4 if wide else len(data)), data)
        offset += pad + 4 + len(data)
    return offset


def number_bytes(order: str, code: str, values: Sequence[Any]) -> bytes:
    """A sequence of numbers in one step: from array.array as it is, from any other sequence packed."""
    if type(values) is array and values.typecode == code:
        if order == _HOST or values.itemsize == 1:
            return values.tobytes()
        swapped = array(code, values)
        swapped.byteswap()
        return swapped.tobytes()
    return struct.pack(f"{order}{len(values)}{code}", *values)


def check_length(value: Sequence[Any], size: int, name: str) -> Sequence[Any]:
    """A fixed array has its exact length."""
    if len(value) != size:
        raise CdrError(f"{name}: {len(value)} elements, the array has {size}")
    return value


def check_bound(value: Sequence[Any], bound: int, name: str) -> Sequence[Any]:
    if len(value) > bound:
        raise CdrError(f"{name}: {len(value)} elements, the bound is {bound}")
    return value
