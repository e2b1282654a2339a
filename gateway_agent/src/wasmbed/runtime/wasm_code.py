"""Instructions of the WebAssembly binary format (core specification 3.0, section 5.4): their length and their feature.

Nothing is validated here: wasmtime does that. A body is read to its end or to the first byte that is no instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmbed.runtime.features import Feature

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.wasm_bytes import Bytes
    from wasmbed.runtime.wasm_types import Types

# Immediates, a letter each: i index, m memory argument, b type of a block, h heap type, 1/4/8/g bytes (g: 16),
# v labels of br_table, t value types of select, c clauses of try_table, r handlers of resume,
# M index of a memory, T index of a table; see _IMMEDIATES.
_BASE: Final = {
    **dict.fromkeys((0x02, 0x03, 0x04), "b"),
    **dict.fromkeys((0x0C, 0x0D, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24), "i"),
    0x0E: "v",
    0x11: "iT",
    **dict.fromkeys(range(0x28, 0x3F), "m"),
    **dict.fromkeys((0x3F, 0x40), "M"),
    **dict.fromkeys((0x41, 0x42), "i"),
    0x43: "4",
    0x44: "8",
    **dict.fromkeys((0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, *range(0x45, 0xC5)), ""),
}
_FEATURED: Final = {
    0x06: ("b", Feature.LEGACY_EXCEPTIONS),
    0x07: ("i", Feature.LEGACY_EXCEPTIONS),
    0x08: ("i", Feature.EXCEPTIONS),
    0x09: ("i", Feature.LEGACY_EXCEPTIONS),
    0x0A: ("", Feature.EXCEPTIONS),
    0x12: ("i", Feature.TAIL_CALLS),
    0x13: ("iT", Feature.TAIL_CALLS),
    0x14: ("i", Feature.FUNCTION_REFERENCES),
    0x15: ("i", Feature.FUNCTION_REFERENCES),
    0x18: ("i", Feature.LEGACY_EXCEPTIONS),
    0x19: ("", Feature.LEGACY_EXCEPTIONS),
    0x1C: ("t", Feature.REFERENCE_TYPES),
    0x1F: ("bc", Feature.EXCEPTIONS),
    0x25: ("i", Feature.REFERENCE_TYPES),
    0x26: ("i", Feature.REFERENCE_TYPES),
    0xD0: ("h", Feature.REFERENCE_TYPES),
    0xD1: ("", Feature.REFERENCE_TYPES),
    0xD2: ("i", Feature.REFERENCE_TYPES),
    0xD3: ("", Feature.GC),
    0xD4: ("", Feature.FUNCTION_REFERENCES),
    0xD5: ("i", Feature.FUNCTION_REFERENCES),
    0xD6: ("i", Feature.FUNCTION_REFERENCES),
    0xE0: ("i", Feature.STACK_SWITCHING),
    0xE1: ("ii", Feature.STACK_SWITCHING),
    0xE2: ("i", Feature.STACK_SWITCHING),
    0xE3: ("ir", Feature.STACK_SWITCHING),
    0xE4: ("iir", Feature.STACK_SWITCHING),
    0xE5: ("ir", Feature.STACK_SWITCHING),
    0xE6: ("ii", Feature.STACK_SWITCHING),
}
# Instructions of two parts: prefix and number.
_PREFIXED: Final[dict[tuple[int, int], tuple[str, Feature | None]]] = {
    **{(0xFB, n): ("i", Feature.GC) for n in (0, 1, 6, 7, 11, 12, 13, 14, 16)},
    **{(0xFB, n): ("ii", Feature.GC) for n in (2, 3, 4, 5, 8, 9, 10, 17, 18, 19)},
    **{(0xFB, n): ("h", Feature.GC) for n in (20, 21, 22, 23)},
    **{(0xFB, n): ("1ihh", Feature.GC) for n in (24, 25)},
    **{(0xFB, n): ("", Feature.GC) for n in (15, 26, 27, 28, 29, 30)},
    **{(0xFB, n): ("i", Feature.CUSTOM_DESCRIPTORS) for n in (32, 33, 34)},
    **{(0xFB, n): ("h", Feature.CUSTOM_DESCRIPTORS) for n in (35, 36)},
    **{(0xFB, n): ("1ihh", Feature.CUSTOM_DESCRIPTORS) for n in (37, 38)},
    **{(0xFC, n): ("", None) for n in range(8)},
    (0xFC, 8): ("iM", None),
    (0xFC, 9): ("i", None),
    (0xFC, 10): ("MM", None),
    (0xFC, 11): ("M", None),
    (0xFC, 12): ("iT", None),
    (0xFC, 13): ("i", None),
    (0xFC, 14): ("TT", None),
    **{(0xFC, n): ("i", Feature.REFERENCE_TYPES) for n in (15, 16, 17)},
    (0xFC, 18): ("M", Feature.MEMORY_CONTROL),
    **{(0xFC, n): ("", Feature.WIDE_ARITHMETIC) for n in range(19, 23)},
    **{(0xFD, n): ("", Feature.SIMD) for n in range(256)},
    **{(0xFD, n): ("m", Feature.SIMD) for n in (*range(12), 92, 93)},
    **{(0xFD, n): ("g", Feature.SIMD) for n in (12, 13)},
    **{(0xFD, n): ("1", Feature.SIMD) for n in range(21, 35)},
    **{(0xFD, n): ("m1", Feature.SIMD) for n in range(84, 92)},
    **{(0xFD, n): ("", Feature.RELAXED_SIMD) for n in range(0x100, 0x114)},
    **{(0xFE, n): ("m", Feature.THREADS) for n in (0, 1, 2, *range(0x10, 0x4F))},
    (0xFE, 3): ("1", Feature.THREADS),
    **{(0xFE, n): ("1i", Feature.SHARED_EVERYTHING) for n in range(0x4F, 0x73)},
}
_PREFIXES: Final = (0xFB, 0xFC, 0xFD, 0xFE)

# What is in almost every instruction: no immediate, one number, an ordinary memory argument.
_PLAIN, _NUMBER, _MEMORY, _OTHER = range(4)
_FAST: Final = bytes(
    {"": _PLAIN, "i": _NUMBER, "m": _MEMORY}.get(_BASE.get(opcode, "?"), _OTHER) for opcode in range(256)
)


def scan(body: Bytes, types: Types) -> None:
    """Read one function's instructions up to the end of `body` and note their features.

    Raises ModuleError for what is no instruction.
    """
    start = body.at
    # Of its own, so that a number without end stops where the function does.
    code = body.data[start : body.end]
    at, end = 0, len(code)
    try:
        while at < end:
            kind = _FAST[code[at]]
            if kind == _PLAIN:
                at += 1
            elif kind == _NUMBER:
                at += 1
                while code[at] >= 0x80:
                    at += 1
                at += 1
            elif kind == _MEMORY and code[at + 1] < 0x40:
                at += 2
                while code[at] >= 0x80:
                    at += 1
                at += 1
            else:
                body.at = start + at
                instruction(body, types)
                at = body.at - start
    except IndexError:
        raise body.fail("a function ends inside an instruction", body.end) from None
    body.at = body.end


def instruction(body: Bytes, types: Types) -> int:
    """Read one instruction and note its feature; return the first byte of it. Raises ModuleError."""
    start = body.at
    opcode = body.byte()
    feature: Feature | None = None
    try:
        if opcode in _PREFIXES:
            immediates, feature = _PREFIXED[opcode, body.leb()]
        elif opcode in _FEATURED:
            immediates, feature = _FEATURED[opcode]
        else:
            immediates = _BASE[opcode]
    except KeyError:
        raise body.fail(f"unknown instruction {body.data[start : body.at].hex(' ')}", start) from None
    if feature is not None:
        types.note(feature, start)
    for letter in immediates:
        _IMMEDIATES[letter](body, types, start)
    return opcode


def _memory_argument(body: Bytes, types: Types, start: int) -> None:
    # Bit 6 of the alignment announces the index of a memory (core specification 3.0, section 5.4.6).
    if body.leb() & 0x40:
        _zero(body, types, start, Feature.MULTI_MEMORY)
    body.leb(64)


def _labels(body: Bytes, _types: Types, _start: int) -> None:
    for _ in range(body.count() + 1):
        body.leb()


def _value_types(body: Bytes, types: Types, _start: int) -> None:
    for _ in range(body.count()):
        types.value(body)


def _clauses(body: Bytes, _types: Types, _start: int) -> None:
    for _ in range(body.count(2)):
        if body.byte() & 0x02 == 0:
            body.leb()
        body.leb()


def _handlers(body: Bytes, _types: Types, _start: int) -> None:
    for _ in range(body.count(2)):
        kind = body.byte()
        body.leb()
        if kind == 0:
            body.leb()


def _zero(body: Bytes, types: Types, start: int, feature: Feature) -> None:
    at = body.at
    if body.leb() or body.at - at > 1:
        types.note(feature, start)


_IMMEDIATES: Final[dict[str, Callable[[Bytes, Types, int], object]]] = {
    "i": lambda body, _types, _start: body.signed_leb(64),
    "m": _memory_argument,
    "M": lambda body, types, start: _zero(body, types, start, Feature.MULTI_MEMORY),
    # Before reference types this was one byte of zero.
    "T": lambda body, types, start: _zero(body, types, start, Feature.REFERENCE_TYPES),
    "b": lambda body, types, _start: types.block(body),
    "h": lambda body, types, _start: types.heap(body),
    "v": _labels,
    "t": _value_types,
    "c": _clauses,
    "r": _handlers,
    "1": lambda body, _types, _start: body.skip(1),
    "4": lambda body, _types, _start: body.skip(4),
    "8": lambda body, _types, _start: body.skip(8),
    "g": lambda body, _types, _start: body.skip(16),
}
