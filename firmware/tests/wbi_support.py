"""What the tests share: the interpreter behind a flat interface."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasmtime

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Refusal:
    """Why a load or a call ended."""

    status: int
    reason: str
    function: int
    offset: int


class Interpreter:
    """The interpreter's host build behind the flat interface of unit/shim.c."""

    def __init__(self, library: Path) -> None:
        self.lib = ctypes.CDLL(str(library))
        self.lib.shim_result.restype = ctypes.c_uint64
        self.lib.shim_error.restype = ctypes.c_char_p
        self.lib.shim_memory.restype = ctypes.POINTER(ctypes.c_uint8)
        self.lib.shim_object.restype = ctypes.POINTER(ctypes.c_uint8)
        for name in ("shim_fuel", "shim_debt", "shim_object_bytes", "shim_violations", "shim_stack_used"):
            getattr(self.lib, name).restype = ctypes.c_uint32

    def load(
        self,
        module: str | bytes,
        *,
        piece: int = 256,
        scratch: int = 4096,
        flash: int = 1 << 20,
        function_bytes: int = 0,
        memory_bytes: int = 0,
        stack_bytes: int = 0,
    ) -> int:
        wasm = bytes(wasmtime.wat2wasm(module)) if isinstance(module, str) else module
        status = self.lib.shim_load(wasm, len(wasm), piece, scratch, flash, function_bytes, memory_bytes, stack_bytes)
        assert self.lib.shim_violations() == 0, "a programmed place of the flash was programmed again"
        return int(status)

    def start(self, *, ram: int = 1 << 20, stack: int = 8192) -> int:
        return int(self.lib.shim_start(ram, stack))

    def run(self, module: str | bytes, **limits: int) -> None:
        """Loads and starts; fails the test when either is refused."""
        assert self.load(module) == OK, self.load_error()
        assert self.start(**limits) == OK, self.error()

    def call(self, name: str, *arguments: int, fuel: int = 1_000_000) -> int:
        words = (ctypes.c_uint64 * max(1, len(arguments)))(*(a & 0xFFFFFFFFFFFFFFFF for a in arguments))
        return int(self.lib.shim_call(name.encode(), words, len(arguments), fuel))

    def resume(self, fuel: int) -> int:
        return int(self.lib.shim_resume(fuel))

    def result(self, name: str, index: int = 0) -> int:
        return int(self.lib.shim_result(name.encode(), index))

    def value(self, name: str, *arguments: int) -> int:
        assert self.call(name, *arguments) == OK, self.error()
        return self.result(name)

    def _refusal(self, which: int) -> Refusal:
        status, function, offset = ctypes.c_uint32(), ctypes.c_uint32(), ctypes.c_uint32()
        reason = self.lib.shim_error(which, ctypes.byref(status), ctypes.byref(function), ctypes.byref(offset))
        return Refusal(status.value, reason.decode(), function.value, offset.value)

    def load_error(self) -> Refusal:
        return self._refusal(0)

    def error(self) -> Refusal:
        return self._refusal(1)

    def memory(self) -> bytes:
        size = ctypes.c_uint32()
        data = self.lib.shim_memory(ctypes.byref(size))
        return bytes(data[: size.value])

    def object(self) -> bytes:
        return bytes(self.lib.shim_object()[: self.lib.shim_object_bytes()])


(
    OK, OUT_OF_FUEL, TIMED_OUT, MALFORMED, INVALID, UNSUPPORTED, LIMIT, FLASH_FULL, FLASH_FAILED, BAD_OBJECT,
    UNKNOWN_IMPORT, IMPORT_TYPE, NO_MEMORY, BAD_CALL, UNREACHABLE, OUT_OF_MEMORY_BOUNDS, DIVIDE, OVERFLOW, CONVERSION,
    TABLE, NULL, SIGNATURE, STACK, HOST,
) = range(24)  # fmt: skip
