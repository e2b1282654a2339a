"""The host functions of `wasmbed:sys`: what a module can ask of the host, with every argument checked.

They are bound through wasmtime's unchecked C callbacks, not through its Python functions: a call costs a third, and an
exception of one thread cannot surface in another's call (wasmtime-py keeps the last exception in one global).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from wasmtime import FuncType, Linker, Memory, Store, ValType, WasmtimeError
from wasmtime import _ffi as ffi

from wasmbed.runtime import abi
from wasmbed.runtime.messages import Exchange, Reader, TooManyTopicsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

LOG_LINES_PER_S: Final = 100
_SLOT_BYTES: Final = 16  # a wasmtime_val_raw_t holds the widest value, a v128
_CODES: Final = {"i32": "i", "i64": "q"}
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_NO_FINALIZER: Final = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_TYPES: Final = {"i32": ValType.i32, "i64": ValType.i64}
# What must not reach a log: control characters but tab.
_PRINTABLE: Final = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�")


class HostTrap(Exception):  # noqa: N818 - it becomes a trap of the module, not an error of ours
    """Ends the module's call; the message says which argument was wrong."""


class LogGate:
    """Lets LOG_LINES_PER_S lines through, with a burst as large, and counts the others."""

    def __init__(self, lines_per_s: float = LOG_LINES_PER_S, *, now: float = 0.0) -> None:
        self._rate = lines_per_s
        self._tokens = lines_per_s
        self._at = now
        self._dropped = 0

    def admit(self, now: float) -> int | None:
        """Return how many lines were dropped since the last admitted one, or None when this one is dropped too."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            self._dropped += 1
            return None
        self._tokens -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped


class HostFunctions:
    """The host's side of one instance; used by its thread alone."""

    def __init__(
        self,
        *,
        device: str,
        env: Mapping[str, str],
        exchange: Exchange,
        reader: Reader,
        on_log: Callable[[int, str, int], None],
    ) -> None:
        """on_log gets the level (0..4), the text and the number of lines dropped before it."""
        self._device = device.encode()
        self._env = {name.encode(): value.encode() for name, value in env.items()}
        self._exchange = exchange
        self._reader = reader
        self._on_log = on_log
        self._gate = LogGate(now=time.monotonic())
        self._context: Any = None
        self._memory: Memory | None = None
        self._callbacks: list[Any] = []
        self.sleep_ms: int | None = None
        self.trap: str | None = None

    def attach(self, store: Store, memory: Memory | None) -> None:
        """Use this store's memory from now on."""
        self._context = store._context()
        self._memory = memory

    def detach(self) -> None:
        self._context = self._memory = None

    def define(self, linker: Linker) -> None:
        """Define every function in a linker of this instance's engine; the linker must not outlive this object."""
        handlers: dict[str, Callable[..., int | None]] = {
            "log": self._log,
            "clock_monotonic_ns": time.monotonic_ns,
            "clock_realtime_ns": time.time_ns,
            "random": self._random,
            "send": self._send,
            "recv": self._recv,
            "device_name": self._device_name,
            "env": self._get_env,
            "sleep_hint": self._sleep_hint,
        }
        for (module, name), function in abi.FUNCTIONS.items():
            if module == abi.SYS and name in handlers:
                self._define(linker, module, name, function, handlers[name])

    def _define(
        self, linker: Linker, module: str, name: str, function: abi.HostFunction, handler: Callable[..., int | None]
    ) -> None:
        callback = self._bind(f"{module}.{name}", function, handler)
        self._callbacks.append(callback)
        kind = FuncType([_TYPES[t]() for t in function.type.params], [_TYPES[t]() for t in function.type.results])
        error = ffi.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            *(ctypes.create_string_buffer(module.encode()), len(module.encode())),
            *(ctypes.create_string_buffer(name.encode()), len(name.encode())),
            kind.ptr(),
            ctypes.cast(callback, ffi.wasmtime_func_unchecked_callback_t),
            None,
            _NO_FINALIZER,
        )
        if error:
            raise WasmtimeError._from_ptr(error)

    def _bind(self, label: str, function: abi.HostFunction, handler: Callable[..., int | None]) -> Any:
        """Make the C callback: read the arguments, call, write the result; a HostTrap becomes the call's trap."""
        params = struct.Struct(
            "=" + "".join(f"{_CODES[t]}{_SLOT_BYTES - struct.calcsize(_CODES[t])}x" for t in function.type.params)
        )
        result = struct.Struct("=" + _CODES[function.type.results[0]]) if function.type.results else None
        slots = ctypes.c_char * (_SLOT_BYTES * max(len(function.type.params), len(function.type.results), 1))
        from_address, unpack_from = slots.from_address, params.unpack_from

        def call(_env: int, _caller: int, values: int, _count: int) -> int:
            try:
                raw = from_address(values)
                value = handler(*unpack_from(raw))
                if result is not None:
                    result.pack_into(raw, 0, value)
            except HostTrap as trap:
                return self._fail(f"{label}: {trap}")
            except BaseException:  # nothing may unwind through WebAssembly frames
                log.exception("host function failed name=%s", label)
                return self._fail(f"{label}: internal error of the host")
            return 0

        return _CALLBACK(call)

    def _fail(self, message: str) -> int:
        self.trap = message
        data = message.encode()
        trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(data), len(data))
        return ctypes.cast(trap, ctypes.c_void_p).value or 0

    def _at(self, pointer: int, length: int) -> int:
        """Return the host address of a range of the module's memory; raises HostTrap when it is not all inside."""
        if self._memory is None or self._context is None:
            raise HostTrap("the module exports no memory")
        pointer &= 0xFFFF_FFFF
        size = ffi.wasmtime_memory_data_size(self._context, self._memory._memory)
        if length < 0 or pointer + length > size:
            raise HostTrap(f"{length} bytes at {pointer:#x} are not inside the memory of {size} bytes")
        base = ctypes.cast(ffi.wasmtime_memory_data(self._context, self._memory._memory), ctypes.c_void_p).value or 0
        return base + pointer

    def _get(self, pointer: int, length: int) -> bytes:
        return ctypes.string_at(self._at(pointer, length), length) if length else b""

    def _put(self, pointer: int, capacity: int, data: bytes) -> int:
        """Write data to the module; the whole capacity must be the module's, whatever is written."""
        address = self._at(pointer, capacity)
        if len(data) > capacity:
            return -errno.EMSGSIZE
        ctypes.memmove(address, data, len(data))
        return len(data)

    def _log(self, level: int, pointer: int, length: int) -> None:
        self._at(pointer, length)
        dropped = self._gate.admit(time.monotonic())
        if dropped is None:
            return
        text = self._get(pointer, min(length, abi.LOG_MAX)).decode("utf-8", "replace").translate(_PRINTABLE)
        self._on_log(max(0, min(4, level)), text, dropped)

    def _random(self, pointer: int, length: int) -> int:
        self._at(pointer, length)
        if length > abi.RANDOM_MAX:
            return -errno.EINVAL
        return self._put(pointer, length, os.urandom(length))

    def _send(self, topic: int, topic_length: int, data: int, length: int) -> int:
        self._at(data, length)
        name = self._topic(topic, topic_length)
        if name is None:
            return -errno.EINVAL
        if length > abi.MESSAGE_MAX:
            return -errno.EMSGSIZE
        delivered, full = self._exchange.send(self._reader, name, self._get(data, length))
        return -errno.EAGAIN if full else delivered

    def _recv(self, topic: int, topic_length: int, buffer: int, capacity: int) -> int:
        self._at(buffer, capacity)
        name = self._topic(topic, topic_length)
        if name is None:
            return -errno.EINVAL
        try:
            message = self._exchange.receive(self._reader, name, capacity)
        except TooManyTopicsError:
            return -errno.EINVAL
        if message is None:
            return -errno.EAGAIN
        if isinstance(message, int):
            return -errno.EMSGSIZE
        return self._put(buffer, capacity, message)

    def _topic(self, pointer: int, length: int) -> bytes | None:
        self._at(pointer, length)
        return self._get(pointer, length) if 0 < length <= abi.TOPIC_MAX else None

    def _device_name(self, pointer: int, capacity: int) -> int:
        return self._put(pointer, capacity, self._device)

    def _get_env(self, name: int, name_length: int, pointer: int, capacity: int) -> int:
        self._at(name, name_length)
        self._at(pointer, capacity)
        value = self._env.get(self._get(name, name_length)) if name_length <= abi.ENV_NAME_MAX else None
        return -errno.EINVAL if value is None else self._put(pointer, capacity, value)

    def _sleep_hint(self, milliseconds: int) -> None:
        self.sleep_ms = max(abi.SLEEP_MIN_MS, min(abi.SLEEP_MAX_MS, milliseconds))
