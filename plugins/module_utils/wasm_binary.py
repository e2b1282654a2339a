# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""The outer form of a WebAssembly module: magic, version, and sections that fill the file exactly.

WebAssembly core specification, binary format, "Modules". What is inside the sections is the runtime's to validate.
"""

from __future__ import annotations

MAGIC = b"\0asm"
CORE_VERSION = b"\x01\0\0\0"
COMPONENT_VERSION = b"\x0d\0\x01\0"
HEADER_BYTES = 8
CUSTOM_SECTION = 0
MAX_SECTION_ID = 13
MAX_LEB_BYTES = 5


class WasmError(Exception):
    """The bytes are no module that can be published; the message says what they are."""


def read_leb_u32(data: bytes, offset: int) -> tuple[int, int]:
    """Return an unsigned LEB128 number of at most 32 bits and the offset behind it."""
    value = 0
    for index in range(MAX_LEB_BYTES):
        if offset + index >= len(data):
            raise WasmError(f"it ends within a number at byte {offset}; is the file complete?")
        byte = data[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            if value >> 32:
                break
            return value, offset + index + 1
    raise WasmError(f"the number at byte {offset} does not fit into 32 bits")


def check(data: bytes, limit_bytes: int) -> None:
    """Raise WasmError unless the bytes have the form of a core module and are within the limit."""
    if len(data) > limit_bytes:
        raise WasmError(
            f"it has more than {limit_bytes} bytes; strip it (wasm-strip), or raise max_bytes on all gateways"
        )
    if data[:4] != MAGIC:
        raise WasmError("it does not begin with the magic bytes of WebAssembly; is it a compiled .wasm file?")
    version = data[4:HEADER_BYTES]
    if version == COMPONENT_VERSION:
        raise WasmError("it is a component; build a core module (for example with the target wasm32-unknown-unknown)")
    if version != CORE_VERSION:
        raise WasmError(f"its version is {version.hex(' ')}, not 01 00 00 00")
    offset = HEADER_BYTES
    while offset < len(data):
        section = data[offset]
        if section > MAX_SECTION_ID:
            raise WasmError(f"there is an unknown section {section} at byte {offset}")
        size, start = read_leb_u32(data, offset + 1)
        if start + size > len(data):
            raise WasmError(f"section {section} at byte {offset} goes beyond the end; is the file complete?")
        offset = start + size
