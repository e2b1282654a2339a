"""Modules that behave and misbehave, and the registry they are pushed to without any check on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasmtime

from tests.support.artifacts import push

if TYPE_CHECKING:
    from pathlib import Path

SYS_LOG = '(import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))'


def wat(text: str) -> bytes:
    """Return the binary form of a module in text form."""
    return bytes(wasmtime.wat2wasm(text))


def counting(name: str) -> bytes:
    """A module that logs "<name> started", then "<name> tick" every second."""
    start, tick = f"{name} started", f"{name} tick"

    def logs(export: str, address: int, text: str) -> str:
        call = f"(call $log (i32.const 2) (i32.const {address}) (i32.const {len(text)}))"
        return f'(data (i32.const {address}) "{text}") (func (export "{export}") (result i32) {call} (i32.const 0))'

    functions = logs("wasmbed_start", 0, start) + logs("wasmbed_tick", 256, tick)
    return wat(f'(module {SYS_LOG} (memory (export "memory") 1) {functions})')


NOT_WASM = b"#!/bin/sh\necho this is no WebAssembly module\n" * 8
UNKNOWN_IMPORT = wat("""(module (import "wasmbed:warp" "engage" (func)) (memory (export "memory") 1)
  (func (export "wasmbed_start") (result i32) (i32.const 0)))""")
NEVER_RETURNS = wat("""(module (memory (export "memory") 1)
  (func (export "wasmbed_start") (result i32) (loop $again (br $again)) (i32.const 0)))""")
ALLOCATES = wat("""(module (memory (export "memory") 1)
  (func (export "wasmbed_start") (result i32)
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))""")
RECURSES = wat("""(module (memory (export "memory") 1)
  (func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (i32.add (local.get 0) (i32.const 1)))))
  (func (export "wasmbed_start") (result i32) (call $deeper (i32.const 0))))""")


def too_large() -> bytes:
    """A valid module with a custom section that makes it larger than 8 MiB."""
    size = 9 * 1024 * 1024
    payload = b"\x03big" + bytes(size)
    length = len(payload)
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return counting("large") + b"\x00" + bytes(encoded) + payload


@dataclass(frozen=True)
class Registry:
    """The site's registry: its address, the account that may push, and the authority of its certificate."""

    address: str
    username: str
    password: str
    ca_file: Path

    def push(self, repository: str, tag: str, data: bytes) -> str:
        """Push bytes as the layer of a Wasm artifact, whatever they are; return the reference for a manifest."""
        push(self, repository, tag, data)
        return f"registry.wasmbed.io/{repository}:{tag}"
