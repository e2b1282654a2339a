"""What a module may use, by the class of the device it serves. An application or a board can only lower a limit.

| class        | stack  | CPU time per call | memory | WebAssembly                                                     |
|--------------|--------|-------------------|--------|-----------------------------------------------------------------|
| mpu, gateway | 8 MiB  | 60 s              | 64 MiB | 2.0 with SIMD, relaxed SIMD, tail calls, custom page sizes      |
| riscv        | 32 KiB | 500 ms            | 64 KiB | 1.0 with sign extension, saturating conversions, bulk memory,   |
| mcu          | 8 KiB  | 100 ms            | 64 KiB | multi-value, mutable globals, custom page sizes; no SIMD        |

For mpu and gateway 64 MiB is only what holds when the application names no limit; MAX_MEMORY_BYTES bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wasmbed.runtime.protocol import Limits

KIB: Final = 1024
MIB: Final = 1024 * KIB
MAX_MEMORY_BYTES: Final = 4096 * MIB

# Setters of wasmtime's configuration. No class has these: their use of memory or time escapes the limits of a store
# (the memory limit holds for each memory by itself, threads may block), or the host functions' 32-bit pointers.
_NEVER: Final = ("threads", "gc", "function_references", "exceptions", "memory64", "multi_memory", "wide_arithmetic")
_SMALL: Final = (*_NEVER, "simd", "relaxed_simd", "tail_call", "reference_types")


@dataclass(frozen=True)
class Profile:
    """The limits of one class, or of one instance after lowering.

    default_memory_bytes holds when nothing is asked for, max_memory_bytes when something is; forbidden names the
    WebAssembly proposals that are off.
    """

    name: str
    stack_bytes: int
    cpu_ms_per_call: int
    default_memory_bytes: int
    max_memory_bytes: int
    forbidden: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """Bytes of linear memory an instance may have."""
        return min(self.default_memory_bytes, self.max_memory_bytes)

    def lowered(self, limits: Limits) -> Profile:
        """Return the profile with an application's limits, none of which can raise one of the class."""
        memory = self.memory_bytes if limits.memory_bytes is None else min(limits.memory_bytes, self.max_memory_bytes)
        return Profile(
            name=self.name,
            stack_bytes=min(self.stack_bytes, limits.stack_bytes or self.stack_bytes),
            cpu_ms_per_call=min(self.cpu_ms_per_call, limits.cpu_ms_per_call or self.cpu_ms_per_call),
            default_memory_bytes=memory,
            max_memory_bytes=memory,
            forbidden=self.forbidden,
        )


CLASSES: Final = {
    profile.name: profile
    for profile in (
        Profile("mpu", 8 * MIB, 60_000, 64 * MIB, MAX_MEMORY_BYTES, _NEVER),
        Profile("gateway", 8 * MIB, 60_000, 64 * MIB, MAX_MEMORY_BYTES, _NEVER),
        Profile("riscv", 32 * KIB, 500, 64 * KIB, 64 * KIB, _SMALL),
        Profile("mcu", 8 * KIB, 100, 64 * KIB, 64 * KIB, _SMALL),
    )
}
