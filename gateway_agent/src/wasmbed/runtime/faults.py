"""What ended a module's call, in words for the person who wrote it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from wasmtime import Frame, TrapCode
from wasmtime import _ffi as ffi
from wasmtime._trap import FrameList

from wasmbed.runtime.wire import shorten

if TYPE_CHECKING:
    from wasmtime import Trap, WasmtimeError

    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.watchdog import Verdict

_PAGE_BYTES: Final = 65536
_WORDS: Final = {
    TrapCode.MEMORY_OUT_OF_BOUNDS: "access outside its memory",
    TrapCode.TABLE_OUT_OF_BOUNDS: "access outside a table",
    TrapCode.INDIRECT_CALL_TO_NULL: "call through a null function pointer",
    TrapCode.BAD_SIGNATURE: "call through a function pointer of another type",
    TrapCode.INTEGER_OVERFLOW: "integer overflow in a division or conversion",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "division by zero",
    TrapCode.BAD_CONVERSION_TO_INTEGER: "conversion of a float that is no integer",
    TrapCode.UNREACHABLE: "unreachable executed",
}


class Fault(Exception):  # noqa: N818 - the module's failure, not the runtime's
    """A module's call failed; the message has at most 256 bytes and begins with the call's name."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten(message))


def amount(size: int) -> str:
    """Write a number of bytes in the largest unit that divides it."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def overtime(entry: str, verdict: Verdict, limit_ms: int, wall_factor: int) -> Fault:
    """Tell of a call that the watchdog interrupted."""
    if verdict == "wall":
        return Fault(
            f"{entry} took {limit_ms * wall_factor} ms and got less than its {limit_ms} ms of CPU time (busy gateway?)"
        )
    return Fault(f"{entry} used its {limit_ms} ms of CPU time")


def refused(entry: str, error: WasmtimeError, host_message: str | None) -> Fault:
    """Tell of a call that ended without a trap of its own: host_message when a host function ended it."""
    if host_message is None:
        return Fault(f"{entry}: {' '.join(str(error).split())}")
    frames = FrameList(error)
    ffi.wasmtime_error_wasm_trace(error.ptr(), ctypes.byref(frames.vec))
    place = _place([Frame._from_ptr(frames.vec.data[at], frames) for at in range(frames.vec.size)])
    return Fault(f"{entry}: {host_message}{place}")


def trapped(entry: str, trap: Trap, profile: Profile, memory_bytes: int) -> Fault:
    """Tell of a trap by wasmtime's code and the innermost frame."""
    place = _place(trap.frames)
    code = trap.trap_code
    if code == TrapCode.STACK_OVERFLOW:
        return Fault(f"{entry}: stack of {amount(profile.stack_bytes)} exhausted (recursion?){place}")
    words = _WORDS.get(code) if code is not None else None
    if words is None:
        words = trap.message.strip().rsplit("\n", 1)[-1].strip().removeprefix("wasm trap: ") or "unknown trap"
    full = _full(profile, memory_bytes)
    if code == TrapCode.UNREACHABLE and memory_bytes and not full:
        # Allocators give up this way; a large growth may have been refused with room left.
        place += f"; its memory was {amount(memory_bytes)}, limit {amount(profile.memory_bytes)}"
    return Fault(f"{entry}: {full}{words}{place}")


def failed(entry: str, result: int, profile: Profile, memory_bytes: int) -> Fault:
    """Tell of a call that returned a failure."""
    return Fault(f"{entry}: {_full(profile, memory_bytes)}returned {result}")


def _full(profile: Profile, memory_bytes: int) -> str:
    # wasmtime's C interface does not report a refused growth; a memory without room for one more page says as much.
    if memory_bytes and memory_bytes + _PAGE_BYTES > profile.memory_bytes:
        return f"memory limit of {amount(profile.memory_bytes)} reached, then "
    return ""


def _place(frames: list[Frame]) -> str:
    if not frames:
        return ""
    name = frames[0].func_name
    if not name:
        return f" in function {frames[0].func_index}"
    shown = "".join(character if character.isprintable() else "?" for character in name[:64])
    return f" in {shown} (function {frames[0].func_index})"
