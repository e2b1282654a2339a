# Copyright (c) 2026 Wasmbed contributors
# MIT License (see LICENSE)
# SPDX-License-Identifier: MIT
"""What is taken for a module, and what is not."""

from __future__ import annotations

import pytest
from ansible_collections.wasmbed.edge.plugins.module_utils import wasm_binary

EMPTY = b"\0asm\x01\0\0\0"


@pytest.mark.parametrize("data", [EMPTY, EMPTY + b"\0\x02\x01a", EMPTY + b"\x01\x81\x80\x00\0", EMPTY + b"\x0d\0"])
def test_modules_pass(data):
    wasm_binary.check(data, 100)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "magic"),
        (b"\0asn\x01\0\0\0", "magic"),
        (b"\0asm", "version"),
        (b"\0asm\x02\0\0\0", "version is 02 00 00 00"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (EMPTY + b"\x0e\0", "unknown section 14 at byte 8"),
        (EMPTY + b"\x01", "ends within a number"),
        (EMPTY + b"\x01\x05abc", "beyond the end"),
        (EMPTY + b"\x01\x80", "ends within a number"),
        (EMPTY + b"\x01\xff\xff\xff\xff\x7f", "32 bits"),
        (EMPTY + b"\x01\x80\x80\x80\x80\x80\0", "32 bits"),
        (EMPTY + bytes(200), "more than 100 bytes"),
    ],
)
def test_what_is_no_module_is_named(data, words):
    with pytest.raises(wasm_binary.WasmError, match=words):
        wasm_binary.check(data, 100)
