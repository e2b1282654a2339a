"""All host functions of one instance, defined as far as its module imports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmbed.runtime import abi
from wasmbed.runtime.host.binding import Binder
from wasmbed.runtime.host.px4 import Px4Functions
from wasmbed.runtime.host.ros2 import Ros2Functions
from wasmbed.runtime.host.secure import SecureFunctions
from wasmbed.runtime.host.sensor import SensorFunctions
from wasmbed.runtime.host.sys import SysFunctions
from wasmbed.runtime.host.wasi import WasiFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from wasmtime import Linker

    from wasmbed.runtime.host.context import Context


class HostFunctions:
    """The host's side of one instance; used by its thread alone."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.binder = Binder()
        system = SysFunctions(context)
        self._wasi = WasiFunctions(context, system.log_line)
        self._handlers: dict[str, dict[str, Callable[..., int | None]]] = {
            abi.SYS: system.handlers(),
            abi.PX4: {**Px4Functions(context).handlers()},
            abi.ROS2: {**Ros2Functions(context).handlers()},
            abi.SENSOR: {**SensorFunctions(context).handlers()},
            abi.SECURE: {**SecureFunctions(context).handlers()},
        }

    def define(self, linker: Linker, imports: Collection[tuple[str, str]]) -> None:
        """Define what a module imports in a linker of its engine; the linker must not outlive this object."""
        for module, name in dict.fromkeys(imports):
            if module == abi.WASI:
                self._wasi.define(self.binder, linker, name)
            elif (function := abi.FUNCTIONS.get((module, name))) is not None:
                # Lines over the rate of `log` are counted by its own gate, which tells of them.
                rate = function.rate_per_s if function.type.results else 0
                self.binder.define(linker, module, name, function.type, rate, self._handlers[module][name])

    def finish(self) -> None:
        """Log what a module wrote last without the end of a line."""
        self._wasi.finish()
