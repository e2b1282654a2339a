"""Host functions bound to a module, with every argument checked, every call counted and its rate held.

They are bound through wasmtime's unchecked C callbacks, not through its Python functions: a call costs a third, and an
exception of one thread cannot surface in another's call (wasmtime-py keeps the last exception in one global).
"""

from __future__ import annotations

import ctypes
import logging
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from wasmtime import FuncType, Linker, Memory, Store, ValType, WasmtimeError
from wasmtime import _ffi as ffi

from wasmbed.runtime import native
from wasmbed.runtime.abi import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmbed.runtime.wasm import FunctionType

log = logging.getLogger(__name__)

# A module that goes on calling above its rates waits after so many refusals in a row: what it could do there is burn
# the processor that others need, and send what its rates let through in bursts.
REFUSALS: Final = 16
HOLD_S: Final = 0.0005
SLOT_BYTES: Final = 16  # a wasmtime_val_raw_t holds the widest value, a v128
_CODES: Final = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_NO_FINALIZER: Final = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_TYPES: Final = {"i32": ValType.i32, "i64": ValType.i64, "f32": ValType.f32, "f64": ValType.f64}


class HostTrap(Exception):  # noqa: N818 - it becomes a trap of the module, not an error of ours
    """Ends the module's call; the message says which argument was wrong."""


class Exit(Exception):  # noqa: N818 - an orderly end that the module asked for
    """The module ended itself (WASI `proc_exit`)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Rate:
    """A token bucket of as many tokens as it gets in a second."""

    def __init__(self, per_s: float, *, now: float) -> None:
        self._rate = per_s
        self._tokens = per_s
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def drain(self, debt_s: float) -> None:
        """Take all tokens, and those of the next debt_s seconds."""
        self._tokens = -debt_s * self._rate


class ModuleMemory:
    """The exported memory of one running module; used by its thread alone."""

    def __init__(self) -> None:
        # Addresses, None while there is no memory; what they point to is kept beside them.
        self._context: ctypes.c_void_p | None = None
        self._memory: ctypes.c_void_p | None = None
        self._kept: tuple[Store, Memory] | None = None
        # All of it. It can only move when it grows.
        self._view = memoryview(bytearray())

    def attach(self, store: Store, memory: Memory | None) -> None:
        """Use this store's memory from now on."""
        self.detach()
        if memory is not None:
            self._context, self._memory = native.context_of(store), native.memory_of(memory)
            self._kept = (store, memory)

    def detach(self) -> None:
        self._context = self._memory = self._kept = None
        self._view = memoryview(bytearray())

    def at(self, pointer: int, length: int) -> int:
        """Return where in the memory a range begins; raises HostTrap when it is not all inside."""
        if self._memory is None or self._context is None:
            raise HostTrap("the module exports no memory")
        pointer &= 0xFFFF_FFFF
        size: int = native.memory_size(self._context, self._memory)
        if length < 0 or pointer + length > size:
            raise HostTrap(f"{length} bytes at {pointer:#x} are not inside the memory of {size} bytes")
        if size != len(self._view):
            self._view = native.view(native.memory_data(self._context, self._memory), size)
        return pointer

    def get(self, pointer: int, length: int) -> bytes:
        """Copy a range out; raises HostTrap."""
        place = self.at(pointer, length)
        return self._view[place : place + length].tobytes()

    def put(self, pointer: int, capacity: int, data: bytes) -> int:
        """Write data; the whole capacity must be the module's, whatever is written. Its length, or TOOBIG."""
        place = self.at(pointer, capacity)
        if len(data) > capacity:
            return Code.TOOBIG
        return self.write(place, data)

    def write(self, place: int, data: bytes) -> int:
        """Write data where `at` found room for it; return its length."""
        length = len(data)
        self._view[place : place + length] = data
        return length


class Binder:
    """Makes C callbacks of Python functions, counting by name; used by one instance's thread alone."""

    def __init__(self) -> None:
        self._callbacks: list[Any] = []
        # By name: calls, and how many of them were over their rate.
        self.counts: dict[str, list[int]] = {}
        self.rates: dict[str, Rate] = {}
        self.hold: Callable[[float], None] = time.sleep
        """Waits so many seconds in a call."""
        self._refusals = 0  # in a row
        self.trap: str | None = None
        self.exit_status: int | None = None

    def define(
        self, linker: Linker, module: str, name: str, kind: FunctionType, rate_per_s: int, handler: Callable[..., Any]
    ) -> None:
        """Define one function in a linker; the linker must not outlive this object."""
        callback = self._bind(f"{module}.{name}", kind, rate_per_s, handler)
        self._callbacks.append(callback)
        wasm_type = FuncType([_TYPES[t]() for t in kind.params], [_TYPES[t]() for t in kind.results])
        error = ffi.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            *(ctypes.create_string_buffer(module.encode()), len(module.encode())),
            *(ctypes.create_string_buffer(name.encode()), len(name.encode())),
            wasm_type.ptr(),
            ctypes.cast(callback, ffi.wasmtime_func_unchecked_callback_t),
            None,
            _NO_FINALIZER,
        )
        if error:
            raise WasmtimeError._from_ptr(error)

    def _bind(self, label: str, kind: FunctionType, rate_per_s: int, handler: Callable[..., Any]) -> Any:
        """Make the C callback: read the arguments, call, write the result; a HostTrap becomes the call's trap."""
        params = struct.Struct(
            "=" + "".join(f"{_CODES[t]}{SLOT_BYTES - struct.calcsize(_CODES[t])}x" for t in kind.params)
        )
        put_result = struct.Struct("=" + _CODES[kind.results[0]]).pack_into if kind.results else None
        slots = ctypes.c_char * (SLOT_BYTES * max(len(kind.params), len(kind.results), 1))
        from_address, get_arguments = slots.from_address, params.unpack_from
        count = self.counts.setdefault(label, [0, 0])
        if rate_per_s and put_result is not None:
            handler = self._limited(label, rate_per_s, handler)
        # Where the values were the last time, mostly there again, and a view of that place.
        place, raw = 0, memoryview(bytearray())

        def call(_env: int, _caller: int, values: int, _count: int) -> int:
            nonlocal place, raw
            try:
                if values != place:
                    place, raw = values, memoryview(from_address(values)).cast("B")
                count[0] += 1
                value = handler(*get_arguments(raw))
                if put_result is not None:
                    put_result(raw, 0, value)
            except HostTrap as trap:
                return self._fail(f"{label}: {trap}")
            except Exit as ended:
                self.exit_status = ended.status
                return self._fail(str(ended))
            except BaseException:  # nothing may unwind through WebAssembly frames
                log.exception("host function failed name=%s", label)
                return self._fail(f"{label}: internal error of the host")
            return 0

        return _CALLBACK(call)

    def _limited(self, label: str, rate_per_s: int, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which is not called above its rate."""
        count, monotonic = self.counts[label], time.monotonic
        rate = self.rates[label] = Rate(rate_per_s, now=monotonic())

        def limited(*arguments: float) -> Any:
            if rate.take(monotonic()):
                self._refusals = 0
                return handler(*arguments)
            count[1] += 1
            self._refused()
            return Code.RATE

        return limited

    def _refused(self) -> None:
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self._refusals = 0
            self.hold(HOLD_S)

    def _fail(self, message: str) -> int:
        self.trap = message
        data = message.encode()
        trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(data), len(data))
        return ctypes.cast(trap, ctypes.c_void_p).value or 0
