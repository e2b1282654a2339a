"""One running copy of a module: engine, store, limits and guarded calls, all on one thread."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final

from wasmtime import Func, Linker, Memory, Module, Store, Trap, WasmtimeError
from wasmtime import _ffi as ffi

from wasmbed.runtime import abi, faults, native, wasm
from wasmbed.runtime.engine import running_engine
from wasmbed.runtime.host.binding import SLOT_BYTES
from wasmbed.runtime.profiles import MIB
from wasmbed.runtime.watchdog import WALL_FACTOR, Owner, StoppedError

if TYPE_CHECKING:
    from pathlib import Path

    from wasmtime import Instance

    from wasmbed.runtime.host import HostFunctions
    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.watchdog import Watchdog

# Below the limit of the WebAssembly stack the thread needs room for host functions in Python; without it the overflow
# meets the guard page and ends the process.
THREAD_MARGIN_BYTES: Final = 8 * MIB
_CALLABLE: Final = tuple(name for name in abi.ENTRIES if name != abi.MARKER)
_MAX_VALUES: Final = max(max(len(kind.params), len(kind.results)) for kind in abi.ENTRIES.values())
_ARGUMENTS: Final = tuple(struct.Struct("=" + f"i{SLOT_BYTES - 4}x" * count) for count in range(_MAX_VALUES + 1))
_RESULT: Final = struct.Struct("=i")
_MS: Final = 1_000_000
_TRAP: Final = ctypes.POINTER(ffi.wasm_trap_t)
_ERROR: Final = ctypes.POINTER(ffi.wasmtime_error_t)


class Finished(Exception):  # noqa: N818 - an orderly end that the module asked for
    """The module ended its own call with exit status 0 (WASI)."""


class Sandbox:
    """A module with its limits. `renew` makes a fresh store; every method belongs on the instance's thread.

    That thread has a stack of profile.stack_bytes + THREAD_MARGIN_BYTES.
    """

    def __init__(self, artifact: Path, profile: Profile, host: HostFunctions, watchdog: Watchdog) -> None:
        """Load the compiled module; raises faults.Fault when it cannot be loaded."""
        self._profile = profile
        self._host = host
        self._watchdog = watchdog
        self._engine = running_engine(profile.stack_bytes)
        try:
            self._module = Module.deserialize_file(self._engine, str(artifact))
        except WasmtimeError as error:
            raise faults.Fault(f"the compiled module cannot be loaded: {error}") from error
        self.owner = Owner(self._engine.increment_epoch)
        host.context.interrupted = self.owner.is_interrupted
        host.binder.hold = self.owner.hold
        self._linker = Linker(self._engine)
        host.define(self._linker, [(item.module, item.name or "") for item in self._module.imports])
        self._store: Store | None = None
        self._memory: Memory | None = None
        self._memory_at = 0
        self._entries: dict[str, Func] = {}
        # The same by addresses, and where calls have their arguments, results and traps.
        self._context = 0
        self._functions: dict[str, int] = {}
        self._values = (ffi.wasmtime_val_raw_t * _MAX_VALUES)()
        self._values_at = ctypes.addressof(self._values)
        self._trap = ctypes.c_void_p()
        self._trap_at = ctypes.addressof(self._trap)
        self.cpu_ns = 0

    def renew(self) -> None:
        """Throw the store away and instantiate the module again; raises faults.Fault or StoppedError."""
        self.close()
        store = Store(self._engine)
        store.set_limits(
            memory_size=self._profile.memory_bytes,
            table_elements=wasm.MAX_TABLE_ELEMENTS,
            instances=1,
            tables=wasm.MAX_TABLES,
            memories=wasm.MAX_MEMORIES,
        )
        self._store = store
        self._context = native.context_of(store)
        instance = self._instantiate(store)
        exports = instance.exports(store)
        memory = exports.get(abi.MEMORY_EXPORT)
        self._memory = memory if isinstance(memory, Memory) else None
        self._memory_at = native.memory_of(memory) if isinstance(memory, Memory) else 0
        for name in _CALLABLE:
            entry = exports.get(name)
            if isinstance(entry, Func):
                self._entries[name] = entry
                self._functions[name] = native.function_of(entry)
        self._host.context.memory.attach(store, self._memory)

    def _instantiate(self, store: Store) -> Instance:
        store.set_epoch_deadline(1)
        call = self._watchdog.begin(self.owner, self._profile.cpu_ms_per_call * _MS)
        try:
            return self._linker.instantiate(store, self._module)
        except Trap as trap:
            raise faults.trapped("instantiation", trap, self._profile, 0) from None
        except WasmtimeError as error:
            raise faults.refused("instantiation", error, None) from None
        finally:
            self._watchdog.end(self.owner, call)

    def has(self, entry: str) -> bool:
        """Tell whether the module exports this function."""
        return entry in self._entries

    def call(self, entry: str, *arguments: int, limit_ms: int | None = None) -> int:
        """Call an exported function with the class' CPU time, or limit_ms of it; return its result, 0 without one.

        Raises faults.Fault when it traps or takes too long, Finished when it ended itself well, StoppedError when the
        instance is to stop.
        """
        function, binder = self._functions[entry], self._host.binder
        if self._store is None:
            raise StoppedError
        binder.trap = binder.exit_status = None
        limit_ms = limit_ms or self._profile.cpu_ms_per_call
        values = self._values
        _ARGUMENTS[len(arguments)].pack_into(values, 0, *arguments)
        self._trap.value = None
        # Relative to the engine's epoch now: an interruption too late for the last call is past, and none from `begin`
        # on is lost.
        native.set_epoch_deadline(self._context, 1)
        call = self._watchdog.begin(self.owner, limit_ms * _MS)
        try:
            error = native.call(self._context, function, self._values_at, _MAX_VALUES, self._trap_at)
        finally:
            self._watchdog.end(self.owner, call)
            self.cpu_ns += call.cpu_ns
        if not error and not self._trap.value:
            return int(_RESULT.unpack_from(values)[0]) if abi.ENTRIES[entry].results else 0
        trap = Trap._from_ptr(ctypes.cast(self._trap, _TRAP)) if self._trap.value else None
        failure = WasmtimeError._from_ptr(ctypes.cast(error, _ERROR)) if error else None
        if binder.exit_status == 0:
            raise Finished
        if failure is not None and binder.trap is not None:
            raise faults.refused(entry, failure, binder.trap)
        if call.verdict == "stopped":
            raise StoppedError
        if call.verdict is not None:
            raise faults.overtime(entry, call.verdict, limit_ms, WALL_FACTOR)
        if trap is not None:
            raise faults.trapped(entry, trap, self._profile, self.memory_bytes)
        raise faults.Fault(f"{entry}: {failure}")

    @property
    def memory_bytes(self) -> int:
        """Bytes of the exported memory now."""
        if self._memory is None or self._store is None:
            return 0
        return int(native.memory_size(self._context, self._memory_at))

    def failed(self, entry: str, result: int) -> faults.Fault:
        """Make the fault of a call that returned a failure."""
        return faults.failed(entry, result, self._profile, self.memory_bytes)

    def close(self) -> None:
        """Free the store and its memory."""
        self._host.context.memory.detach()
        self._entries.clear()
        self._functions.clear()
        self._memory = None
        if self._store is not None:
            self._store.close()
            self._store = None
