"""What the watchdog and the owners of calls promise each other, without a lock on the way of a short call."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from wasmbed.runtime.watchdog import READ_EVERY_NS, Owner, StoppedError, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MS = 1_000_000
FOR_EVER_NS = 60_000 * MS


@pytest.fixture
def _hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Raced(Owner):
    """Is stopped by another thread while `begin` asks whether it is."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.race: Callable[[], None] | None = None
        self._stopping = False
        super().__init__(interrupt)

    @property  # type: ignore[override]
    def stopping(self) -> bool:
        answer, race = self._stopping, self.race
        self.race = None
        if race is not None:
            on_threads(race)
        return answer

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._stopping = value


class Seen(Owner):
    """Something happens just after the watchdog has looked whether it is in a call."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.race: Callable[[], None] | None = None
        self._running = False
        super().__init__(interrupt)

    @property  # type: ignore[override]
    def running(self) -> bool:
        answer, race = self._running, self.race
        if race is not None and threading.current_thread().name == "watchdog":
            self.race = None
            race()
        return answer

    @running.setter
    def running(self, value: bool) -> None:
        self._running = value


class Caller:
    """Makes calls that do nothing but last, and notes when they are interrupted."""

    def __init__(self, watchdog: Watchdog, pause_s: float = 0) -> None:
        self.watchdog = watchdog
        self.owner = Owner(self._interrupt)
        watchdog.watch(self.owner)
        self.interrupted = threading.Event()
        self.in_call = False
        self.outside = 0
        self._pause_s = pause_s

    def _interrupt(self) -> None:
        self.outside += not self.in_call
        time.sleep(self._pause_s)
        self.outside += not self.in_call
        self.interrupted.set()

    def call(self, limit_ns: int, is_over: Callable[[], bool]) -> None:
        self.interrupted.clear()
        self.in_call = True
        self.watchdog.begin(self.owner, limit_ns)
        while not is_over():
            pass
        self.watchdog.end(self.owner)
        self.in_call = False

    def is_interrupted(self) -> bool:
        return self.interrupted.is_set()


def on_threads(*works: Callable[[], None]) -> None:
    """Run each on a thread of its own, all at once; raise what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(60)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("_hurried")
def test_nothing_is_interrupted_between_the_end_of_a_call_and_the_next(watchdog: Watchdog) -> None:
    """Calls that last about as long as the watchdog lets them, while an interruption takes its time."""
    caller = Caller(watchdog, pause_s=0.0005)
    dice = random.Random(1)
    verdicts = []

    def work() -> None:
        for _ in range(500):
            until_ns = time.monotonic_ns() + dice.choice((5_000, dice.randrange(1_400_000)))
            caller.call(10_000, lambda: time.monotonic_ns() >= until_ns)  # noqa: B023
            verdict = caller.owner.verdict
            verdicts.append(verdict)
            assert caller.interrupted.is_set() == (verdict is not None)
            time.sleep(dice.choice((0, 0.0003)))
            assert caller.owner.verdict == verdict

    on_threads(work)
    assert caller.outside == 0
    assert {verdict is None for verdict in verdicts} == {True, False}


@pytest.mark.usefixtures("_hurried")
def test_a_stop_beside_a_beginning_is_seen_by_one_of_them(watchdog: Watchdog) -> None:
    dice = random.Random(1)
    refused = 0
    for _ in range(300):
        caller = Caller(watchdog)

        def work() -> None:
            deadline_s = time.monotonic() + 5
            caller.call(FOR_EVER_NS, lambda: caller.is_interrupted() or time.monotonic() > deadline_s)  # noqa: B023
            assert caller.is_interrupted()  # noqa: B023
            assert caller.owner.verdict == "stopped"  # noqa: B023

        def stop() -> None:
            while not caller.in_call:  # noqa: B023
                pass
            until_ns = time.monotonic_ns() + dice.randrange(30_000)
            while time.monotonic_ns() < until_ns:
                pass
            watchdog.stop(caller.owner)  # noqa: B023

        try:
            on_threads(work, stop)
        except StoppedError:
            refused += 1
        with pytest.raises(StoppedError):
            watchdog.begin(caller.owner, MS)
        watchdog.forget(caller.owner)
    assert refused < 300


def test_a_stop_just_after_a_beginning_looked_for_it_interrupts_the_call(watchdog: Watchdog) -> None:
    interrupted = threading.Event()
    owner = Raced(interrupted.set)
    owner.race = lambda: watchdog.stop(owner)
    watchdog.watch(owner)
    watchdog.begin(owner, FOR_EVER_NS)
    assert interrupted.is_set()
    assert owner.verdict == "stopped"
    watchdog.end(owner)


def test_a_call_that_begins_just_after_its_owner_was_looked_at_is_looked_at_again(watchdog: Watchdog) -> None:
    interrupted = threading.Event()
    late, early = Seen(interrupted.set), Owner(lambda: None)

    def begin() -> None:
        watchdog.begin(late, 50 * MS)
        interrupted.wait(20)
        watchdog.end(late)

    def race() -> None:
        threading.Thread(target=begin).start()
        while not late.running:
            pass
        # It goes on to ask when the watchdog wakes, and perhaps waits until this look is over.
        time.sleep(0.05)

    watchdog.watch(late)
    watchdog.watch(early)
    # Of a call that is over when the watchdog wakes for it.
    watchdog.begin(early, 1000 * MS)
    while watchdog._wake_at_ns > time.monotonic_ns() + 1000 * MS:
        time.sleep(0.001)
    watchdog.end(early)
    late.race = race
    assert interrupted.wait(10)


@pytest.mark.usefixtures("_hurried")
def test_calls_that_begin_while_the_others_are_looked_at_are_not_overlooked(watchdog: Watchdog) -> None:
    """Beside a call whose end the watchdog could sleep for."""
    patient = Caller(watchdog)
    ended = threading.Event()
    waiting = threading.Thread(target=lambda: patient.call(FOR_EVER_NS, ended.is_set))
    callers = [Caller(watchdog) for _ in range(4)]

    def work(caller: Caller) -> None:
        for number in range(40):
            deadline_s = time.monotonic() + 5
            caller.call(MS * (1 + number % 3), lambda: caller.is_interrupted() or time.monotonic() > deadline_s)  # noqa: B023
            assert caller.owner.verdict in ("cpu", "wall")

    patient.call(FOR_EVER_NS, lambda: True)
    waiting.start()
    try:
        on_threads(*(lambda caller=caller: work(caller) for caller in callers))  # type: ignore[misc]
    finally:
        ended.set()
        waiting.join()
    assert patient.owner.verdict is None


def test_the_clock_is_read_once_in_a_while_and_forgets_nothing(
    watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(watchdog)
    readings: list[int] = []
    thread_time_ns = time.thread_time_ns

    def read() -> int:
        readings.append(thread_time_ns())
        return readings[-1]

    def work() -> None:
        began_ns, cpu_began_ns = time.monotonic_ns(), thread_time_ns()
        monkeypatch.setattr(time, "thread_time_ns", read)
        while time.monotonic_ns() - began_ns < 50 * MS:
            caller.call(FOR_EVER_NS, lambda: True)
        lasted_ns, used_ns = time.monotonic_ns() - began_ns, thread_time_ns() - cpu_began_ns
        assert len(readings) <= 2 + lasted_ns / READ_EVERY_NS
        assert used_ns - 2 * READ_EVERY_NS < caller.owner.cpu_ns <= used_ns
        # The rest is found with the next call.
        time.sleep(2 * READ_EVERY_NS / 1e9)
        watchdog.begin(caller.owner, FOR_EVER_NS)
        assert caller.owner.cpu_ns >= used_ns - (readings[0] - cpu_began_ns)
        watchdog.end(caller.owner)

    on_threads(work)


@pytest.mark.usefixtures("_hurried")
def test_what_went_before_does_not_shorten_a_call(watchdog: Watchdog) -> None:
    """The time since the last reading of the clock counts as the call's, and is given on top of the limit.

    A call that waits at first: one that never does is not looked at before it has lasted as long as its limit.
    """
    caller = Caller(watchdog)
    limit_ns = 5 * MS

    def is_over() -> bool:
        if time.monotonic_ns() - caller.owner.wall_start_ns < 3 * MS:
            time.sleep(0.003)
        return caller.is_interrupted()

    def work() -> None:
        used_ms = []
        for _ in range(10):
            read_at_ns = caller.owner.read_at_ns
            while caller.owner.read_at_ns == read_at_ns:
                caller.call(FOR_EVER_NS, lambda: True)
            until_ns = time.monotonic_ns() + READ_EVERY_NS * 9 // 10
            while time.monotonic_ns() < until_ns:
                pass
            began_ns = time.thread_time_ns()
            caller.call(limit_ns, is_over)
            if caller.owner.verdict == "cpu":
                used_ms.append((time.thread_time_ns() - began_ns) / MS)
        assert all(5 <= used < 5 + 20 for used in used_ms)
        assert used_ms

    on_threads(work)
