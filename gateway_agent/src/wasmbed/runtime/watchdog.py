"""Ends WebAssembly calls that used up their CPU time, measured on the calling thread's own clock.

wasmtime interrupts by epochs, which belong to an engine and count wall time. Every instance has an engine of its own
(5 us to make, 22 us to load a module into; measured with wasmtime 50), so advancing the epoch ends that instance's call
alone, and no running module ever has to come back to Python to be asked. One thread looks at each call not before the
call can have used up its time, so short calls cost two locked dictionary operations.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

WALL_FACTOR: Final = 4
_MIN_WAIT_NS: Final = 1_000_000
_NEVER: Final = 1 << 63

Verdict = Literal["cpu", "wall", "stopped"]


@dataclass(slots=True)
class Call:
    """One running call: its limit, where it began, and why it was interrupted if it was."""

    interrupt: Callable[[], None]
    limit_ns: int
    clock_id: int
    cpu_start_ns: int
    wall_start_ns: int
    check_at_ns: int
    verdict: Verdict | None = None
    cpu_ns: int = 0


class StoppedError(Exception):
    """The instance was asked to stop before its call began."""


class Owner:
    """What makes calls: one at a time, on its own thread, until it is stopped."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt
        self.call: Call | None = None
        self.stopping = False
        # Of its thread, from its first call on.
        self.clock_id: int | None = None

    def is_interrupted(self) -> bool:
        """Whether the call under way is to end."""
        call = self.call
        return self.stopping or (call is not None and call.verdict is not None)

    def hold(self, seconds: float) -> None:
        """Have the call under way wait, on its thread; not once it has lasted as long as it may compute."""
        call = self.call
        if call is not None and time.monotonic_ns() - call.wall_start_ns < call.limit_ns:
            time.sleep(seconds)


class Watchdog:
    """The watching thread; start it with `start`, end it with `close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: dict[int, Call] = {}
        self._wake_at_ns = _NEVER
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def begin(self, owner: Owner, limit_ns: int) -> Call:
        """Watch a call that the current thread is about to make; raises StoppedError when it must not."""
        clock_id = owner.clock_id
        if clock_id is None:
            clock_id = owner.clock_id = time.pthread_getcpuclockid(threading.get_ident())
        now = time.monotonic_ns()
        call = Call(owner.interrupt, limit_ns, clock_id, time.clock_gettime_ns(clock_id), now, now + limit_ns)
        with self._changed:
            if owner.stopping:
                raise StoppedError
            owner.call = call
            self._calls[id(call)] = call
            if call.check_at_ns < self._wake_at_ns:
                self._changed.notify()
        return call

    def end(self, owner: Owner, call: Call) -> None:
        """End watching; after this the call's verdict and cpu_ns do not change."""
        call.cpu_ns = time.thread_time_ns() - call.cpu_start_ns
        with self._changed:
            owner.call = None
            self._calls.pop(id(call), None)

    def stop(self, owner: Owner) -> None:
        """Interrupt the owner's call, if there is one, and refuse every later one."""
        with self._changed:
            owner.stopping = True
            if owner.call is not None and owner.call.verdict is None:
                owner.call.verdict = "stopped"
                owner.call.interrupt()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic_ns()
                self._wake_at_ns = _NEVER
                for call in self._calls.values():
                    if call.verdict is None and call.check_at_ns <= now:
                        self._check(call, now)
                    if call.verdict is None:
                        self._wake_at_ns = min(self._wake_at_ns, call.check_at_ns)
                wait_s = None if self._wake_at_ns == _NEVER else max(0, self._wake_at_ns - now) / 1e9
                self._changed.wait(wait_s)

    @staticmethod
    def _check(call: Call, now: int) -> None:
        cpu_left = call.limit_ns - (time.clock_gettime_ns(call.clock_id) - call.cpu_start_ns)
        wall_left = WALL_FACTOR * call.limit_ns - (now - call.wall_start_ns)
        if cpu_left > 0 and wall_left > 0:
            # A thread cannot use CPU time faster than time passes.
            call.check_at_ns = now + max(_MIN_WAIT_NS, min(cpu_left, wall_left))
            return
        call.verdict = "cpu" if cpu_left <= 0 else "wall"
        call.interrupt()
