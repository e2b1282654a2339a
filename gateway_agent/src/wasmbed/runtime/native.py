"""The few calls of wasmtime's C API on the way of every event, by addresses: Python wrappers of them take longer.

What returns at once keeps the interpreter's lock, so that no other instance's thread gets in between. Addresses are
objects of C, made once: ctypes takes them in half the time of a number.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from wasmtime import _ffi as ffi

if TYPE_CHECKING:
    from wasmtime import Func, Memory, Store

_address = ctypes.c_void_p
memory_size: Final = ctypes.PYFUNCTYPE(ctypes.c_size_t, _address, _address)(("wasmtime_memory_data_size", ffi.dll))
"""(context, memory) -> bytes of a memory now."""
memory_data: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, _address, _address)(("wasmtime_memory_data", ffi.dll))
"""(context, memory) -> address of its first byte, which growing may move."""
set_epoch_deadline: Final = ctypes.PYFUNCTYPE(None, _address, ctypes.c_uint64)(
    ("wasmtime_context_set_epoch_deadline", ffi.dll)
)
"""(context, ticks beyond the engine's epoch now)."""
_view_of: Final = ctypes.PYFUNCTYPE(ctypes.py_object, _address, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
_PYBUF_WRITE: Final = 0x200
call: Final = ctypes.CFUNCTYPE(_address, _address, _address, _address, ctypes.c_size_t, _address)(
    ("wasmtime_func_call_unchecked", ffi.dll)
)
"""(context, function, values, their number, place for a trap) -> an error or None; without the interpreter's lock."""


def view(address: int | None, size: int) -> memoryview:
    """So many bytes at an address, to read and write; who asks sees to it that they stay there."""
    found: memoryview = _view_of(address, size, _PYBUF_WRITE) if size else memoryview(bytearray())
    return found


def context_of(store: Store) -> ctypes.c_void_p:
    """The address of a store's context, which is valid until the store is closed."""
    return ctypes.cast(store._context(), ctypes.c_void_p)


def memory_of(memory: Memory) -> ctypes.c_void_p:
    """The address by which a memory is known, valid as long as the object."""
    return ctypes.c_void_p(ctypes.addressof(memory._memory))


def function_of(function: Func) -> ctypes.c_void_p:
    """The address by which a function is known, valid as long as the object."""
    return ctypes.c_void_p(ctypes.addressof(function._func))
