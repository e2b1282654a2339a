"""Keeps one instance running: its thread, its ticks, its states, and restarts with back-off after a failure."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.faults import Fault
from wasmbed.runtime.hostfuncs import HostFunctions
from wasmbed.runtime.instance import THREAD_MARGIN_BYTES, Sandbox
from wasmbed.runtime.reports import InstanceStatus, LogEvent, StateEvent
from wasmbed.runtime.watchdog import StoppedError
from wasmbed.runtime.wire import shorten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wasmbed.runtime.events import EventQueue
    from wasmbed.runtime.messages import Exchange
    from wasmbed.runtime.profiles import Profile
    from wasmbed.runtime.protocol import StartRequest
    from wasmbed.runtime.reports import State
    from wasmbed.runtime.watchdog import Watchdog

log = logging.getLogger(__name__)

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 60.0
# A failed instance is Running again after this long without a failure; the back-off begins anew after LONGEST_DELAY_S.
RECOVERY_S: Final = 10.0
_PAGE: Final = 4096
_stack_size_lock: Final = threading.Lock()


@dataclass
class Course:
    """States and back-off of one instance; times are seconds of one clock. No input or output."""

    state: State = "Starting"
    reason: str = ""
    message: str = ""
    restarts: int = 0
    _delay_s: float = FIRST_DELAY_S
    _began_s: float = 0.0

    def began(self, now_s: float) -> None:
        """The module is being instantiated; again, if it failed before."""
        self._began_s = now_s
        self.restarts += self.state == "Failed"

    def worked(self, now_s: float) -> bool:
        """A call came back well, the start call included; tell whether the state changed."""
        healthy_s = now_s - self._began_s
        if healthy_s >= LONGEST_DELAY_S:
            self._delay_s = FIRST_DELAY_S
        if self.state == "Running" or (self.state == "Failed" and healthy_s < RECOVERY_S):
            return False
        self.state, self.reason, self.message = "Running", "", ""
        return True

    def check_again_s(self, now_s: float) -> float | None:
        """Seconds until `worked` may change something by the passing of time alone, None when it will not."""
        return max(0.0, self._began_s + RECOVERY_S - now_s) if self.state == "Failed" else None

    def failed(self, message: str) -> float:
        """The module failed; return the seconds to wait before the restart."""
        self.state, self.reason, self.message = "Failed", "DeviceError", shorten(message)
        delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2, LONGEST_DELAY_S)
        return delay_s


class Supervisor:
    """One instance from its start request to its stop."""

    def __init__(
        self,
        request: StartRequest,
        profile: Profile,
        artifact: Path,
        *,
        events: EventQueue,
        exchange: Exchange,
        watchdog: Watchdog,
        on_end: Callable[[], None],
    ) -> None:
        """on_end is called on the instance's thread as its last act."""
        self.request = request
        self.key = request.key()
        self._profile = profile
        self._artifact = artifact
        self._events = events
        self._exchange = exchange
        self._watchdog = watchdog
        self._on_end = on_end
        self._course = Course()
        self._stopping = threading.Event()
        self._sandbox: Sandbox | None = None
        self._thread = threading.Thread(target=self._run, name=f"wasm {request.instance[:32]}", daemon=True)

    def start(self) -> None:
        """Start the thread; raises RuntimeError when the system has no room for it."""
        with _stack_size_lock:
            before = threading.stack_size(-(-self._profile.stack_bytes // _PAGE) * _PAGE + THREAD_MARGIN_BYTES)
            try:
                self._thread.start()
            finally:
                threading.stack_size(before)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have the instance end soon, in the middle of a call if it must; on_end tells when it is gone."""
        self._stopping.set()
        if self._sandbox is not None:
            self._watchdog.stop(self._sandbox.owner)

    def status(self) -> InstanceStatus:
        """Return the row of `list`."""
        course = self._course
        return InstanceStatus(
            instance=self.request.instance,
            digest=self.request.digest,
            state=course.state,
            reason=course.reason,
            message=course.message,
            restarts=course.restarts,
            key=self.key,
            grants=self.request.grants,
        )

    def _run(self) -> None:
        reader = self._exchange.join(self.request.application)
        try:
            host = HostFunctions(
                device=self.request.device,
                env=self.request.env,
                exchange=self._exchange,
                reader=reader,
                on_log=self._log,
            )
            self._report()
            while not self._stopping.is_set():
                delay_s = self._live(host)
                self._stopping.wait(delay_s)
        except StoppedError:
            pass
        except Exception as error:  # a fault of ours must show as this instance's state, not end unseen
            log.exception("instance ended instance=%s", self.request.instance)
            self._course.failed(f"internal error of the runtime: {error}")
            self._report()
        finally:
            if self._sandbox is not None:
                self._sandbox.close()
            self._exchange.leave(reader)
            self._on_end()

    def _live(self, host: HostFunctions) -> float:
        """Run the module until it fails; return the seconds to wait. Raises StoppedError."""
        self._course.began(time.monotonic())
        try:
            if self._sandbox is None:
                self._sandbox = Sandbox(self._artifact, self._profile, host, self._watchdog)
                # A stop that came before there was a sandbox to stop.
                if self._stopping.is_set():
                    raise StoppedError
            self._sandbox.renew()
            if self._sandbox.has(abi.START) and (result := self._sandbox.call(abi.START)) != 0:
                raise self._sandbox.failed(abi.START, result)
            self._worked()
            self._tick(self._sandbox, host)
        except Fault as fault:
            delay_s = self._course.failed(str(fault))
            self._report()
            if self._sandbox is not None:
                self._sandbox.close()
            log.info(
                "instance failed instance=%s restarts=%d delay_s=%g message=%s",
                *(self.request.instance, self._course.restarts, delay_s, fault),
            )
            return delay_s
        raise StoppedError

    def _tick(self, sandbox: Sandbox, host: HostFunctions) -> None:
        """Call the tick at its times until the instance is to stop; raises Fault."""
        ticking = sandbox.has(abi.TICK)
        due_s = time.monotonic() + (host.sleep_ms or abi.TICK_MS) / 1000
        while True:
            wait_s = due_s - time.monotonic() if ticking else self._course.check_again_s(time.monotonic())
            if self._stopping.wait(wait_s if wait_s is None else max(0.0, wait_s)):
                return
            if ticking:
                began_s = time.monotonic()
                if (result := sandbox.call(abi.TICK)) < 0:
                    raise sandbox.failed(abi.TICK, result)
                # At a steady rate; ticks that a long call missed are left out.
                due_s = max(
                    (due_s if due_s + 1 > began_s else began_s) + (host.sleep_ms or abi.TICK_MS) / 1000,
                    time.monotonic() + abi.SLEEP_MIN_MS / 1000,
                )
            self._worked()

    def _worked(self) -> None:
        if self._course.worked(time.monotonic()):
            self._report()

    def _report(self) -> None:
        course = self._course
        self._events.put(
            StateEvent(self.request.instance, course.state, course.reason, course.message, course.restarts)
        )

    def _log(self, level: int, text: str, dropped: int) -> None:
        request = self.request
        self._events.put(LogEvent(request.instance, request.application, request.device, level, text, dropped))
