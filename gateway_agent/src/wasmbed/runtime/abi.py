"""The functions a module may import, as declared in the SDK header, and the ones it must export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wasmbed.runtime.wasm import FunctionType

SYS: Final = "wasmbed:sys"
MEMORY_EXPORT: Final = "memory"
START: Final = "wasmbed_start"
TICK: Final = "wasmbed_tick"
EXPORTS: Final = (MEMORY_EXPORT, START, TICK)
ENTRY_TYPE: Final = FunctionType((), ("i32",))

# Bounds that the SDK header names.
LOG_MAX: Final = 4096
RANDOM_MAX: Final = 256
TOPIC_MAX: Final = 64
MESSAGE_MAX: Final = 4096
ENV_NAME_MAX: Final = 256
SLEEP_MIN_MS: Final = 10
SLEEP_MAX_MS: Final = 60_000
TICK_MS: Final = 1_000


@dataclass(frozen=True)
class HostFunction:
    """One function of the host; pointers says that it reads or writes the module's exported memory."""

    module: str
    name: str
    type: FunctionType
    pointers: bool


def _function(
    name: str, params: tuple[str, ...], results: tuple[str, ...] = (), *, pointers: bool = False
) -> HostFunction:
    return HostFunction(SYS, name, FunctionType(params, results), pointers)


_I32X4: Final = ("i32",) * 4

FUNCTIONS: Final = {
    (function.module, function.name): function
    for function in (
        _function("log", ("i32",) * 3, pointers=True),
        _function("clock_monotonic_ns", (), ("i64",)),
        _function("clock_realtime_ns", (), ("i64",)),
        _function("random", ("i32", "i32"), ("i32",), pointers=True),
        _function("send", _I32X4, ("i32",), pointers=True),
        _function("recv", _I32X4, ("i32",), pointers=True),
        _function("device_name", ("i32", "i32"), ("i32",), pointers=True),
        _function("env", _I32X4, ("i32",), pointers=True),
        _function("sleep_hint", ("i32",)),
    )
}

# Import modules an application can be granted, and what grants them.
GRANTS: Final = {
    SYS: "every application",
    "wasmbed:px4": "spec.communication.px4.enabled and the device's capability px4",
    "wasmbed:ros2": "spec.communication.ros2.enabled",
    "wasmbed:sensor": "the device's capabilities",
    "wasmbed:secure": "the gateway's configuration",
}
