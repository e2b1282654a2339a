"""Ends WebAssembly calls that used up their CPU time, measured on the calling thread's own clock.

wasmtime interrupts by epochs, which belong to an engine and count wall time. Every instance has an engine of its own
(5 us to make, 22 us to load a module into; measured with wasmtime 50), so advancing the epoch ends that instance's call
alone, and no running module ever has to come back to Python to be asked. One thread looks at each call not before the
call can have used up its time.

Short calls take no lock and no system call. What an owner's thread and the watching thread tell each other they tell by
Dekker's pattern: each first writes its own word and then reads the other's, so at least one of them sees both; the
interpreter's lock puts all reads and writes in one order. And the thread's CPU clock, a system call of 0.7 us, is read
once in READ_EVERY_NS, but for owners that are exact.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

WALL_FACTOR: Final = 4
READ_EVERY_NS: Final = 1_000_000
_MIN_WAIT_NS: Final = 1_000_000
_NEVER: Final = 1 << 63

Verdict = Literal["cpu", "wall", "stopped"]


class StoppedError(Exception):
    """The instance was asked to stop before its call began."""


class Owner:
    """What makes calls: one at a time, on its own thread, until it is stopped.

    verdict is why the last call was interrupted if it was; it does not change between `end` and the next `begin`.
    cpu_ns is what its thread has used since its first call, also between calls, as of the last reading of the clock: at
    a beginning or an end of a call, when READ_EVERY_NS have passed since the one before. When exact it is what calls
    alone have used, each of which is read: the last one cpu_ns less cpu_start_ns.
    """

    __slots__ = (
        *("_clock_id", "_cpu_first_ns", "check_at_ns", "cpu_ns", "cpu_start_ns", "exact", "interrupt"),
        *("limit_ns", "read_at_ns", "running", "stopping", "verdict", "wall_start_ns"),
    )

    def __init__(self, interrupt: Callable[[], None], *, exact: bool = False) -> None:
        self.interrupt = interrupt
        self.exact = exact
        self.running = False
        self.stopping = False
        self.verdict: Verdict | None = None
        self.cpu_ns = 0
        # Of the call under way; written before `running`, and not as long as somebody else may look at it.
        self.limit_ns = self.wall_start_ns = self.check_at_ns = self.cpu_start_ns = 0
        self.read_at_ns = -READ_EVERY_NS
        # Of its thread, from its first call on.
        self._clock_id: int | None = None
        self._cpu_first_ns = 0

    def is_interrupted(self) -> bool:
        """Whether the call under way is to end."""
        return self.stopping or (self.running and self.verdict is not None)

    def hold(self, seconds: float) -> None:
        """Have the call under way wait, on its thread; not once it has lasted as long as it may compute."""
        if self.running and time.monotonic_ns() - self.wall_start_ns < self.limit_ns:
            time.sleep(seconds)

    def read_clock(self, now_ns: int) -> None:
        """Bring cpu_ns up to now, on the owner's thread."""
        if self._clock_id is None:
            self.leave_out()
        self.cpu_ns = time.thread_time_ns() - self._cpu_first_ns
        self.read_at_ns = now_ns

    def leave_out(self) -> None:
        """Have what the thread used since the last reading not be in cpu_ns."""
        if self._clock_id is None:
            self._clock_id = time.pthread_getcpuclockid(threading.get_ident())
        self._cpu_first_ns = time.thread_time_ns() - self.cpu_ns

    def used_ns(self) -> int:
        """CPU time of the call under way, or at most READ_EVERY_NS more; for another thread."""
        if self._clock_id is None:
            return 0
        return time.clock_gettime_ns(self._clock_id) - self._cpu_first_ns - self.cpu_start_ns


class Watchdog:
    """The watching thread; start it with `start`, end it with `close`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._owners: set[Owner] = set()
        # Written under the lock: whether a call may be interrupted just now, and when the calls are looked at next.
        self._judging = False
        self._wake_at_ns = _NEVER
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def watch(self, owner: Owner) -> None:
        """Look after the calls of an owner from now on."""
        with self._lock:
            self._owners.add(owner)

    def forget(self, owner: Owner) -> None:
        """Look after them no more; it makes none until it is watched again."""
        with self._lock:
            self._owners.discard(owner)

    def begin(self, owner: Owner, limit_ns: int) -> None:
        """Watch a call that the current thread is about to make; raises StoppedError when it must not.

        The call may use limit_ns of CPU time, and what the thread used since the clock was last read, which counts as
        the call's, at most READ_EVERY_NS, is given on top.
        """
        now_ns = time.monotonic_ns()
        if owner.exact:
            owner.leave_out()
        elif now_ns - owner.read_at_ns >= READ_EVERY_NS:
            owner.read_clock(now_ns)
        owner.verdict = None
        owner.limit_ns = limit_ns
        owner.wall_start_ns = now_ns
        owner.check_at_ns = check_at_ns = now_ns + limit_ns
        owner.cpu_start_ns = owner.cpu_ns
        # Here first, then what the others wrote: either they see the call or it is seen here what they want of it.
        owner.running = True
        if owner.stopping:
            owner.running = False
            self._wait_for_judgement()
            raise StoppedError
        if check_at_ns < self._wake_at_ns:
            with self._lock:
                self._changed.notify()

    def end(self, owner: Owner) -> None:
        """End watching: from here on neither the verdict changes nor is anything interrupted."""
        owner.running = False
        if self._judging:
            self._wait_for_judgement()
        now_ns = time.monotonic_ns()
        if owner.exact or now_ns - owner.read_at_ns >= READ_EVERY_NS:
            owner.read_clock(now_ns)

    def _wait_for_judgement(self) -> None:
        """When the lock is free nobody looks at a call that has ended, and none sees it afterwards."""
        with self._lock:
            pass

    def stop(self, owner: Owner) -> None:
        """Interrupt the owner's call, if there is one, and refuse every later one."""
        with self._lock:
            owner.stopping = True
            self._judging = True
            if owner.running and owner.verdict is None:
                owner.verdict = "stopped"
                owner.interrupt()
            self._judging = False

    def _run(self) -> None:
        with self._lock:
            while not self._closed:
                # Before the calls are looked at: one that begins too late to be seen gives notice.
                self._wake_at_ns = _NEVER
                now_ns = time.monotonic_ns()
                self._judging = True
                wake_at_ns = min((self._look(owner, now_ns) for owner in self._owners), default=_NEVER)
                self._judging = False
                self._wake_at_ns = wake_at_ns
                self._changed.wait(None if wake_at_ns == _NEVER else max(0, wake_at_ns - now_ns) / 1e9)

    @staticmethod
    def _look(owner: Owner, now_ns: int) -> int:
        """Interrupt the owner's call if it has used up its time; return when it is to be looked at next."""
        if not owner.running or owner.verdict is not None:
            return _NEVER
        if owner.check_at_ns > now_ns:
            return owner.check_at_ns
        cpu_left_ns = owner.limit_ns + READ_EVERY_NS - owner.used_ns()
        wall_left_ns = WALL_FACTOR * owner.limit_ns - (now_ns - owner.wall_start_ns)
        if cpu_left_ns > 0 and wall_left_ns > 0:
            # A thread cannot use CPU time faster than time passes.
            owner.check_at_ns = now_ns + max(_MIN_WAIT_NS, min(cpu_left_ns, wall_left_ns))
            return owner.check_at_ns
        owner.verdict = "cpu" if cpu_left_ns <= 0 else "wall"
        owner.interrupt()
        return _NEVER
