"""WASI preview 1 with nothing granted: clocks, random numbers, environment, and standard output as lines of the log.

Everything else answers ENOTCAPABLE or ENOSYS, and is told once by its name. Layouts are those of the published
`wasi_snapshot_preview1.witx`.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.host.binding import Exit
from wasmbed.runtime.wasi_types import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wasmtime import Linker

    from wasmbed.runtime.host.binding import Binder
    from wasmbed.runtime.host.context import Context

SUCCESS: Final = 0
E2BIG: Final = 1
EBADF: Final = 8
EINVAL: Final = 28
ENOSYS: Final = 52
ENOTSUP: Final = 58
ESPIPE: Final = 70
ENOTCAPABLE: Final = 76

_STANDARD: Final = (0, 1, 2)
_CHARACTER_DEVICE: Final = 2
_RIGHT_FD_WRITE: Final = 1 << 6
_CLOCK_REALTIME: Final = 0
_CLOCK_MONOTONIC: Final = 1
_MAX_VECTORS: Final = 1024
_MAX_RANDOM: Final = 65_536
_MAX_SUBSCRIPTIONS: Final = 64
_SUBSCRIPTION_BYTES: Final = 48
_ABSOLUTE: Final = 1
_SLEEP_STEP_S: Final = 0.05
_INFO: Final = 2
_WARNING: Final = 1


class WasiFunctions:
    """The functions of one instance; used by its thread alone."""

    def __init__(self, context: Context, log_line: Callable[[int, bytes], None]) -> None:
        self._context = context
        self._memory = context.memory
        self._log_line = log_line
        self._told: set[str] = set()
        self._lines = {1: bytearray(), 2: bytearray()}
        self._arguments = [context.request.application.encode()]
        self._environment = [f"{name}={value}".encode() for name, value in context.request.env.items()]

    def define(self, binder: Binder, linker: Linker, name: str) -> None:
        """Define one function; an unknown name is left undefined, which validation has refused before."""
        kind = FUNCTIONS.get(name)
        if kind is not None:
            handler = getattr(self, f"_{name}", None) or self._refusal(name)
            binder.define(linker, abi.WASI, name, kind, 0, handler)

    def finish(self) -> None:
        """Log the lines that were not ended."""
        for stream, line in self._lines.items():
            if line:
                self._log_line(_INFO if stream == 1 else _WARNING, bytes(line))
                line.clear()

    def _refusal(self, name: str) -> Callable[..., int]:
        answer = ENOSYS if name in ("proc_raise", "sock_accept") else ENOTCAPABLE

        def refuse(*arguments: int) -> int:
            # A program that looks for its directories asks until there is no more, and closes what it has.
            if name in ("fd_prestat_get", "fd_prestat_dir_name", "fd_close", "fd_filestat_get"):
                known = bool(arguments) and arguments[0] in _STANDARD
                if name.startswith("fd_prestat") or not known:
                    return EBADF
            self._tell(name)
            return answer

        return refuse

    def _tell(self, name: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._log_line(_WARNING, f"{abi.WASI}.{name} is not granted; told once".encode())

    def _put_u32(self, pointer: int, value: int) -> None:
        self._memory.put(pointer, 4, struct.pack("<I", value & 0xFFFF_FFFF))

    def _put_u64(self, pointer: int, value: int) -> None:
        self._memory.put(pointer, 8, struct.pack("<Q", value))

    def _sizes(self, texts: list[bytes], count: int, size: int) -> int:
        self._put_u32(count, len(texts))
        self._put_u32(size, sum(len(text) + 1 for text in texts))
        return SUCCESS

    def _texts(self, texts: list[bytes], pointers: int, buffer: int) -> int:
        for number, text in enumerate(texts):
            self._put_u32(pointers + 4 * number, buffer)
            self._memory.put(buffer, len(text) + 1, text + b"\0")
            buffer += len(text) + 1
        return SUCCESS

    def _args_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._arguments, count, size)

    def _args_get(self, pointers: int, buffer: int) -> int:
        return self._texts(self._arguments, pointers, buffer)

    def _environ_sizes_get(self, count: int, size: int) -> int:
        return self._sizes(self._environment, count, size)

    def _environ_get(self, pointers: int, buffer: int) -> int:
        return self._texts(self._environment, pointers, buffer)

    def _clock_res_get(self, clock: int, pointer: int) -> int:
        if clock not in (_CLOCK_REALTIME, _CLOCK_MONOTONIC):
            return EINVAL
        self._put_u64(pointer, 1)
        return SUCCESS

    def _clock_time_get(self, clock: int, _precision: int, pointer: int) -> int:
        if clock not in (_CLOCK_REALTIME, _CLOCK_MONOTONIC):
            return EINVAL
        self._put_u64(pointer, time.time_ns() if clock == _CLOCK_REALTIME else time.monotonic_ns())
        return SUCCESS

    def _random_get(self, pointer: int, length: int) -> int:
        length &= 0xFFFF_FFFF
        self._memory.at(pointer, length)
        for at in range(0, length, _MAX_RANDOM):
            part = min(_MAX_RANDOM, length - at)
            self._memory.put(pointer + at, part, os.urandom(part))
        return SUCCESS

    def _sched_yield(self) -> int:
        time.sleep(0)
        return SUCCESS

    def _proc_exit(self, status: int) -> None:
        raise Exit(status)

    def _fd_write(self, stream: int, vectors: int, count: int, written: int) -> int:
        line = self._lines.get(stream)
        if line is None:
            return EBADF
        if not 0 <= count <= _MAX_VECTORS:
            return EINVAL
        total = 0
        for pointer, length in struct.iter_unpack("<II", self._memory.get(vectors, 8 * count)):
            self._memory.at(pointer, length)
            total += length
            for at in range(0, length, abi.LOG_MAX):
                self._add(stream, line, self._memory.get(pointer + at, min(abi.LOG_MAX, length - at)))
        self._put_u32(written, total)
        return SUCCESS

    def _add(self, stream: int, line: bytearray, data: bytes) -> None:
        level = _INFO if stream == 1 else _WARNING
        *whole, rest = data.split(b"\n")
        for part in whole:
            line += part
            self._log_line(level, bytes(line))
            line.clear()
        line += rest
        if len(line) >= abi.LOG_MAX:
            self._log_line(level, bytes(line))
            line.clear()

    def _fd_fdstat_get(self, stream: int, pointer: int) -> int:
        if stream not in _STANDARD:
            return EBADF
        rights = _RIGHT_FD_WRITE if stream else 0
        self._memory.put(pointer, 24, struct.pack("<BxH4xQQ", _CHARACTER_DEVICE, 0, rights, 0))
        return SUCCESS

    def _fd_seek(self, stream: int, _offset: int, _whence: int, _pointer: int) -> int:
        return ESPIPE if stream in _STANDARD else EBADF

    def _fd_read(self, stream: int, _vectors: int, _count: int, read: int) -> int:
        if stream != 0:
            return EBADF
        self._put_u32(read, 0)
        return SUCCESS

    def _poll_oneoff(self, subscriptions: int, events: int, count: int, stored: int) -> int:
        """Sleep until the first clock is due; nothing else can be waited for."""
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            return EINVAL
        data = self._memory.get(subscriptions, _SUBSCRIPTION_BYTES * count)
        self._memory.at(events, 32 * count)
        clocks: list[tuple[int, int]] = []
        others: list[tuple[int, int]] = []
        for number in range(count):
            fields = struct.unpack_from("<QB7xI4xQQH", data, number * _SUBSCRIPTION_BYTES)
            user, kind, clock, timeout_ns, _, flags = fields
            if kind != 0:
                others.append((user, kind))
                continue
            now_ns = time.time_ns() if clock == _CLOCK_REALTIME else time.monotonic_ns()
            clocks.append((max(0, timeout_ns - now_ns) if flags & _ABSOLUTE else timeout_ns, user))
        if others:
            self._tell("poll_oneoff")
            happened = [(user, ENOTSUP, kind) for user, kind in others]
        else:
            clocks.sort()
            self._sleep(clocks[0][0])
            happened = [(user, SUCCESS, 0) for wait_ns, user in clocks if wait_ns <= clocks[0][0]]
        for number, (user, error, kind) in enumerate(happened):
            self._memory.put(events + 32 * number, 32, struct.pack("<QHB21x", user, error, kind))
        self._put_u32(stored, len(happened))
        return SUCCESS

    def _sleep(self, wait_ns: int) -> None:
        """Sleep, but wake for the end of the instance; the wall limit of the call bounds it."""
        until_ns = time.monotonic_ns() + min(wait_ns, 1 << 62)
        while (left_s := (until_ns - time.monotonic_ns()) / 1e9) > 0 and not self._context.interrupted():
            time.sleep(min(left_s, _SLEEP_STEP_S))
