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
_WITH_RESULT: Final = frozenset(name for name, kind in abi.ENTRIES.items() if kind.results)
_MAX_VALUES: Final = max(max(len(kind.params), len(kind.results)) for kind in abi.ENTRIES.values())
_ARGUMENTS: Final = tuple(struct.Struct("=" + f"i{SLOT_BYTES - 4}x" * count) for count in range(_MAX_VALUES + 1))
_MS: Final = 1_000_000
_TRAP: Final = ctypes.POINTER(ffi.wasm_trap_t)
_ERROR: Final = ctypes.POINTER(ffi.wasmtime_error_t)


class Finished(Exception):  # noqa: N818 - an orderly end that the module asked for
    """The module ended its own call with exit status 0 (WASI)."""


class Sandbox:
    """A module with its limits. `renew` makes a fresh store; every method belongs on the instance's thread.

    That thread has a stack of profile.stack_bytes + THREAD_MARGIN_BYTES.
    """

    def __init__(
        self, artifact: Path, profile: Profile, host: HostFunctions, watchdog: Watchdog, *, exact: bool = False
    ) -> None:
        """Load the compiled module; raises faults.Fault when it cannot be loaded.

        exact is whether the CPU time of each call is wanted, which costs two system calls.
        """
        self._profile = profile
        self._host = host
        self._watchdog = watchdog
        self._engine = running_engine(profile.stack_bytes)
        try:
            self._module = Module.deserialize_file(self._engine, str(artifact))
        except WasmtimeError as error:
            raise faults.Fault(f"the compiled module cannot be loaded: {error}") from error
        self.owner = Owner(self._engine.increment_epoch, exact=exact)
        host.context.interrupted = self.owner.is_interrupted
        host.binder.hold = self.owner.hold
        self._linker = Linker(self._engine)
        host.define(self._linker, [(item.module, item.name or "") for item in self._module.imports])
        self._store: Store | None = None
        self._memory: Memory | None = None
        self._entries: dict[str, Func] = {}
        # Addresses of these, as C takes them; and where calls have their arguments, results and traps.
        self._context = self._memory_at = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        values = (ffi.wasmtime_val_raw_t * _MAX_VALUES)()
        self._values_at = ctypes.c_void_p(ctypes.addressof(values))
        self._values = memoryview(values).cast("B").cast("i")
        self._trap = ctypes.c_void_p()
        self._trap_at = ctypes.c_void_p(ctypes.addressof(self._trap))

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
        if isinstance(memory, Memory):
            self._memory_at = native.memory_of(memory)
        for name in _CALLABLE:
            entry = exports.get(name)
            if isinstance(entry, Func):
                self._entries[name] = entry
                self._functions[name] = native.function_of(entry)
        self._host.context.memory.attach(store, self._memory)

    def _instantiate(self, store: Store) -> Instance:
        self._set_deadline()
        self._watchdog.watch(self.owner)
        self._watchdog.begin(self.owner, self._profile.cpu_ms_per_call * _MS)
        try:
            return self._linker.instantiate(store, self._module)
        except Trap as trap:
            raise faults.trapped("instantiation", trap, self._profile, 0) from None
        except WasmtimeError as error:
            raise faults.refused("instantiation", error, None) from None
        finally:
            self._watchdog.end(self.owner)
            self._set_deadline()

    def _set_deadline(self) -> None:
        """Have the next advance of the engine's epoch interrupt the store's calls.

        Again after each call that was interrupted: that may have been too late, and is not to end the next.
        """
        native.set_epoch_deadline(self._context, 1)

    def has(self, entry: str) -> bool:
        """Tell whether the module exports this function."""
        return entry in self._entries

    def call(self, entry: str, arguments: tuple[int, ...] = (), limit_ms: int | None = None) -> int:
        """Call an exported function with the class' CPU time, or limit_ms of it; return its result, 0 without one.

        Raises faults.Fault when it traps or takes too long, Finished when it ended itself well, StoppedError when the
        instance is to stop.
        """
        binder, values = self._host.binder, self._values
        if self._store is None:
            raise StoppedError
        function = self._functions[entry]
        binder.trap = binder.exit_status = None
        limit_ms = limit_ms or self._profile.cpu_ms_per_call
        if arguments:
            _ARGUMENTS[len(arguments)].pack_into(values, 0, *arguments)
        owner, watchdog = self.owner, self._watchdog
        watchdog.begin(owner, limit_ms * _MS)
        try:
            error = native.call(self._context, function, self._values_at, _MAX_VALUES, self._trap_at)
        finally:
            watchdog.end(owner)
            if owner.verdict is not None:
                self._set_deadline()
        if error is None and self._trap.value is None:
            return values[0] if entry in _WITH_RESULT else 0
        raise self._failure(entry, limit_ms, error)

    def _failure(self, entry: str, limit_ms: int, error: int | None) -> Exception:
        """What a call raises that came back with an error or a trap."""
        binder, verdict = self._host.binder, self.owner.verdict
        trap = Trap._from_ptr(ctypes.cast(self._trap, _TRAP)) if self._trap.value else None
        self._trap.value = None
        failure = WasmtimeError._from_ptr(ctypes.cast(error, _ERROR)) if error else None
        if binder.exit_status == 0:
            return Finished()
        if failure is not None and binder.trap is not None:
            return faults.refused(entry, failure, binder.trap)
        if verdict == "stopped":
            return StoppedError()
        if verdict is not None:
            return faults.overtime(entry, verdict, limit_ms, WALL_FACTOR)
        if trap is not None:
            return faults.trapped(entry, trap, self._profile, self.memory_bytes)
        return faults.Fault(f"{entry}: {failure}")

    @property
    def cpu_ns(self) -> int:
        """CPU time of the thread since the first call, to within a millisecond."""
        return self.owner.cpu_ns

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
        self._watchdog.forget(self.owner)
        self._host.context.memory.detach()
        self._entries.clear()
        self._functions.clear()
        self._memory = None
        if self._store is not None:
            self._store.close()
            self._store = None
