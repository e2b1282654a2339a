"""Modules that behave and misbehave, and the registry they are pushed to without any check on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasmtime

from tests.support.artifacts import push

if TYPE_CHECKING:
    from pathlib import Path

SYS_LOG = '(import "wasmbed:sys" "log" (func $log (param i32 i32 i32)))'
MARKER = '(func (export "wasmbed_abi_1"))'


def wat(text: str) -> bytes:
    """Return the binary form of a module in text form."""
    return bytes(wasmtime.wat2wasm(text))


def counting(name: str) -> bytes:
    """A module that logs "<name> started", then "<name> tick" every second."""
    start, tick = f"{name} started", f"{name} tick"
    return wat(f"""(module {SYS_LOG}
      (import "wasmbed:sys" "timer_set" (func $timer (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "{start}") (data (i32.const 256) "{tick}") {MARKER}
      (func (export "wasmbed_init") (result i32)
        (call $log (i32.const 2) (i32.const 0) (i32.const {len(start)}))
        (call $timer (i32.const 0) (i32.const 1000) (i32.const 1000)))
      (func (export "wasmbed_event") (param i32 i32 i32) (result i32)
        (call $log (i32.const 2) (i32.const 256) (i32.const {len(tick)})) (i32.const 0)))""")


NOT_WASM = b"#!/bin/sh\necho this is no WebAssembly module\n" * 8
UNKNOWN_IMPORT = wat(f"""(module (import "wasmbed:warp" "engage" (func)) {MARKER} (memory (export "memory") 1)
  (func (export "wasmbed_init") (result i32) (i32.const 0)))""")
NEVER_RETURNS = wat(f"""(module {MARKER} (memory (export "memory") 1)
  (func (export "wasmbed_init") (result i32) (loop $again (br $again)) (i32.const 0)))""")
ALLOCATES = wat(f"""(module {MARKER} (memory (export "memory") 1)
  (func (export "wasmbed_init") (result i32)
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))""")
RECURSES = wat(f"""(module {MARKER} (memory (export "memory") 1)
  (func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (i32.add (local.get 0) (i32.const 1)))))
  (func (export "wasmbed_init") (result i32) (call $deeper (i32.const 0))))""")


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
