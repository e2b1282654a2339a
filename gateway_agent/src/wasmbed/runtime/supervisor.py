"""Keeps one instance running: its thread, its events, its states, restarts with back-off, and its part in an update."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from wasmbed.runtime import abi
from wasmbed.runtime.backends import Ownership
from wasmbed.runtime.calls import Calls, Feeds
from wasmbed.runtime.course import Course, Share
from wasmbed.runtime.deliveries import take_deliveries, tell_taken
from wasmbed.runtime.faults import Fault
from wasmbed.runtime.host import HostFunctions
from wasmbed.runtime.host.context import Context
from wasmbed.runtime.inbox import Inbox
from wasmbed.runtime.instance import THREAD_MARGIN_BYTES, Finished, Sandbox
from wasmbed.runtime.reports import BACKENDS, InstanceStatus, LogEvent, StateEvent
from wasmbed.runtime.update import Fallback, HandOver, RolledBackError, rolled_back_message
from wasmbed.runtime.watchdog import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wasmbed.runtime.content import Content, Shared
    from wasmbed.runtime.host.context import Phase

log = logging.getLogger(__name__)

STOP_CPU_MS: Final = 1000
_ROS2: Final = int(abi.EventType.ROS2)
_PAGE: Final = 4096
_stack_size_lock: Final = threading.Lock()


class Supervisor:
    """One version of an instance, from its start to its stop."""

    def __init__(
        self,
        content: Content,
        shared: Shared,
        *,
        on_end: Callable[[Supervisor], None],
        course: Course | None = None,
        predecessor: Supervisor | None = None,
        on_taken_over: Callable[[Supervisor], None] | None = None,
        on_rolled_back: Callable[[Supervisor, str], None] | None = None,
        state: bytes | None = None,
    ) -> None:
        """Callbacks come on the instance's thread: on_end as its last act.

        With a predecessor it is an update: on_taken_over when this version is the one that runs, on_rolled_back with
        the failure's message when it is not, or not any more. state is what a version before handed over.
        """
        self.content = content
        self.request = content.request
        self.key = content.request.key()
        self._shared = shared
        self._on_end = on_end
        self._on_taken_over = on_taken_over
        self._on_rolled_back = on_rolled_back
        self._predecessor = predecessor
        self.fallback: Fallback | None = None
        self._quiet = predecessor is not None
        self._course = course or Course()
        # What was tried instead of this one and failed, for `list`.
        self.previous = ""
        self.previous_message = ""
        self._stopping = threading.Event()
        self._attention = threading.Event()
        self._hand_over: HandOver | None = None
        self._owned = False
        self._memory_bytes = 0
        self._sandbox: Sandbox | None = None
        self._finished = False
        tokens = predecessor.tokens if predecessor is not None else None
        self.context = self._make_context(tokens)
        self.context.state_in = state
        self._share = Share(self.request.cpu_share, time.monotonic_ns())
        self._seen_cpu_ns = 0
        self._host: HostFunctions | None = None
        self._thread = threading.Thread(target=self._run, name=f"wasm {self.request.instance[:32]}", daemon=True)

    def _make_context(self, tokens: Iterator[int] | None) -> Context:
        request, shared = self.request, self._shared
        inbox = Inbox(request.device_class)
        return Context(
            request=request,
            inbox=inbox,
            calls=Calls(request, inbox, shared.post, tokens),
            feeds=Feeds(inbox),
            backends=shared.backends,
            exchange=shared.exchange,
            reader=shared.exchange.join(request.application, inbox),
            ownership=Ownership(shared.backends.owners, request.device),
            on_log=self._log,
        )

    @property
    def tokens(self) -> Iterator[int]:
        return self.context.calls.tokens

    def start(self) -> None:
        """Start the thread; raises RuntimeError when the system has no room for it."""
        with _stack_size_lock:
            stack_bytes = -(-self.content.profile.stack_bytes // _PAGE) * _PAGE + THREAD_MARGIN_BYTES
            before = threading.stack_size(stack_bytes)
            try:
                self._thread.start()
            except BaseException:
                self._shared.exchange.leave(self.context.reader)
                raise
            finally:
                threading.stack_size(before)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have the instance end after the call it is in; on_end tells when it is gone."""
        self._stopping.set()
        self._attend()

    def end_now(self) -> None:
        """End the call of an instance that was asked to stop, but not its `wasmbed_stop`."""
        if self._sandbox is not None and self.context.phase != "stop":
            self._shared.watchdog.stop(self._sandbox.owner)

    def _attend(self) -> None:
        self._attention.set()
        self.context.inbox.interrupt()

    def deliver(self, kind: int, source: int, items: Sequence[bytes]) -> None:
        """Take events of one source from the peer, on any thread."""
        take_deliveries(self.context, kind, source, items)

    def status(self) -> InstanceStatus:
        """Return the row of `list`."""
        course, sandbox = self._course, self._sandbox
        return InstanceStatus(
            instance=self.request.instance,
            digest=self.request.digest,
            state=course.state,
            reason=course.reason,
            message=self._shown_message(),
            restarts=course.restarts,
            key=self.key,
            grants=self.request.grants,
            previous=self.previous,
            memory_bytes=self._memory_bytes,
            cpu_ms=0 if sandbox is None else sandbox.cpu_ns // 1_000_000,
            dropped=sum(self.context.inbox.dropped.values()),
        )

    def counters(self) -> dict[str, list[int]]:
        """Return calls and refusals by function."""
        return {} if self._host is None else self._host.binder.counts

    # For the other version's thread

    def hand_over(self) -> HandOver:
        """Ask this version, about to be replaced, for its state and have it wait."""
        self._owned = self.context.ownership.held
        self._hand_over = HandOver()
        self._attend()
        return self._hand_over

    def resume(self, key: str, message: str) -> None:
        """Go on: the update to `key` failed."""
        self.previous, self.previous_message = key, message
        self._report(rolled_back=key)
        # The peer had the new one in this one's place, which ended what was under way.
        self.context.ownership.release()
        if self._owned:
            self.context.inbox.put(abi.EventType.OWNER, 0, bytes([abi.OwnerLoss.UPDATED]))
        for module in BACKENDS:
            self.context.calls.repeat(module)
        if self._hand_over is not None:
            self._hand_over.decide(commit=False)

    def retire(self) -> None:
        """End: another version runs in this one's place."""
        self._quiet = True
        self.stop()
        if self._hand_over is not None:
            self._hand_over.decide(commit=True)

    # This version's thread

    def _run(self) -> None:
        end_reason = "stopped"
        try:
            self._host = HostFunctions(self.context)
            self._report(rolled_back=self.previous)
            if self._predecessor is not None:
                self._take_over(self._predecessor)
            while not self._stopping.is_set():
                self._pause(self._live())
        except StoppedError:
            self._end_well()
        except RolledBackError as failure:
            end_reason = "failed"
            if self._on_rolled_back is not None:
                self._on_rolled_back(self, str(failure))
        except Exception as error:  # a fault of ours must show as this instance's state, not end unseen
            log.exception("instance ended instance=%s", self.request.instance)
            self._course.failed(f"internal error of the runtime: {error}")
            self._report()
        finally:
            self.context.end_ownership("updated" if self._quiet and end_reason == "stopped" else end_reason)
            if self._sandbox is not None:
                self._sandbox.close()
            self._shared.exchange.leave(self.context.reader)
            self._on_end(self)

    def _take_over(self, old: Supervisor) -> None:
        """Start with the old version's state and end it; raises RolledBackError when this one fails at it."""
        hand_over = old.hand_over()
        hand_over.wait()
        self.context.state_in = hand_over.state
        self.context.predecessor_owner = old.context.ownership
        try:
            self._begin()
        except (Fault, StoppedError) as failure:
            message = rolled_back_message(old.request.digest, str(failure) or "it was stopped")
            self._predecessor = None
            if isinstance(failure, StoppedError):
                hand_over.decide(commit=False)
                raise
            raise RolledBackError(message) from failure
        self.context.predecessor_owner = None
        self._predecessor = None
        self.fallback = Fallback(old.content, hand_over.state, time.monotonic())
        self._quiet = False
        if self._on_taken_over is not None:
            self._on_taken_over(self)
        old.retire()
        try:
            self._worked()
            self._serve()
        except Fault as fault:
            self._pause(self._fail(fault))
            return
        raise StoppedError

    def _live(self) -> float:
        """Run the module until it fails; return the seconds to wait. Raises StoppedError and RolledBackError."""
        self._course.began(time.monotonic())
        try:
            self._begin()
            self._worked()
            self._serve()
        except Fault as fault:
            return self._fail(fault)
        raise StoppedError

    def _fail(self, fault: Fault) -> float:
        if self.fallback is not None and self.fallback.holds(time.monotonic()):
            raise RolledBackError(rolled_back_message(self.fallback.content.request.digest, str(fault))) from fault
        delay_s = self._course.failed(str(fault))
        self.context.end_ownership("failed")
        self.context.begin_anew()
        self._report()
        if self._sandbox is not None:
            self._sandbox.close()
        log.info(
            "instance failed instance=%s restarts=%d delay_s=%g message=%s",
            *(self.request.instance, self._course.restarts, delay_s, fault),
        )
        return delay_s

    def _begin(self) -> None:
        """Instantiate the module and call what comes first; raises Fault and StoppedError."""
        if self._host is None:
            raise StoppedError
        if self._sandbox is None:
            self._sandbox = Sandbox(
                *(self.content.artifact, self.content.profile, self._host, self._shared.watchdog),
                exact=self.request.cpu_share is not None,
            )
            # A stop that came before there was a sandbox to stop.
            if self._stopping.is_set():
                raise StoppedError
        sandbox = self._sandbox
        sandbox.renew()
        self._finished = False
        try:
            for entry in (abi.WASI_INITIALIZE, abi.WASI_START, abi.INIT):
                if sandbox.has(entry) and (result := self._call(entry, "init")) != 0:
                    raise sandbox.failed(entry, result)
        except Finished:
            self._finished = True
        finally:
            # Only for the first start: one that fails with it starts anew without.
            self.context.state_in = None
        if sandbox.has(abi.WASI_START):
            self._finished = True
            self._host.finish()

    def _call(self, entry: str, phase: Phase, arguments: tuple[int, ...] = (), limit_ms: int | None = None) -> int:
        sandbox = self._sandbox
        if sandbox is None:
            raise StoppedError
        self.context.phase = phase
        try:
            return sandbox.call(entry, arguments, limit_ms)
        finally:
            self.context.phase = ""
            owner = sandbox.owner
            # Not with every one of a row of short calls, but with its last: what `list` tells then stays.
            if owner.cpu_ns != self._seen_cpu_ns or not self.context.inbox.ahead:
                self._seen_cpu_ns = owner.cpu_ns
                self._memory_bytes = sandbox.memory_bytes
            if owner.exact:
                self._share.spend(owner.cpu_ns - owner.cpu_start_ns, time.monotonic_ns())

    def _serve(self) -> None:
        """Give events to the module until the instance is to stop; raises Fault and StoppedError."""
        sandbox, context = self._sandbox, self.context
        if sandbox is None:
            raise StoppedError
        serving, inbox, is_stopping = sandbox.has(abi.EVENT), context.inbox, self._stopping.is_set
        steady = self._course.is_steady
        while not is_stopping():
            if self._hand_over is not None:
                self._park(self._hand_over)
                continue
            until_ns = None if steady else self._check_again_ns()
            event = inbox.next(not_before_ns=self._share.ready_ns, until_ns=until_ns)
            if event is not None:
                kind, data = event.type, event.data
                if kind == _ROS2 and event.lane is None:  # the end of a call
                    context.calls.taken(data)
                if serving:
                    context.event_data = data
                    try:
                        result = self._call(abi.EVENT, "event", (kind, event.source, len(data)))
                    except Finished:
                        result = 0
                    finally:
                        context.event_data = b""
                    if result < 0:
                        raise sandbox.failed(abi.EVENT, result)
                    if kind == _ROS2:
                        tell_taken(context, event.source)
            if not steady:
                self._worked()
                steady = self._course.is_steady

    def _check_again_ns(self) -> int | None:
        """When the passing of time alone may change the state."""
        wait_s = self._course.check_again_s(time.monotonic())
        return None if wait_s is None else time.monotonic_ns() + int(wait_s * 1e9)

    def _park(self, hand_over: HandOver) -> None:
        """Save the state and wait for what becomes of the other version."""
        sandbox = self._sandbox
        broken: Fault | None = None
        if sandbox is not None and sandbox.has(abi.SAVE):
            self.context.state_out = None
            try:
                if self._call(abi.SAVE, "save") >= 0:
                    hand_over.state = self.context.state_out
            except (Fault, Finished) as error:
                log.info("state not saved instance=%s error=%s", self.request.instance, error)
                broken = error if isinstance(error, Fault) else None
        hand_over.saved()
        hand_over.wait_for_decision()
        self._hand_over = None
        if broken is not None and sandbox is not None:
            # What trapped is not called again, for its good-bye or for events.
            sandbox.close()
            if not hand_over.committed:
                raise broken

    def _pause(self, delay_s: float) -> None:
        """Wait before a restart, but answer to a stop or an update."""
        until_s = time.monotonic() + delay_s
        while not self._stopping.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self._attention.wait(left_s)
            self._attention.clear()
            if self._hand_over is not None and not self._stopping.is_set():
                self._hand_over.saved()
                self._hand_over.wait_for_decision()
                self._hand_over = None

    def _end_well(self) -> None:
        """Let the module say good-bye; what goes wrong is only logged."""
        sandbox = self._sandbox
        if sandbox is None or not sandbox.has(abi.STOP) or sandbox.owner.stopping:
            return
        limit_ms = max(1, min(STOP_CPU_MS, self.content.profile.cpu_ms_per_call // 10))
        try:
            self._call(abi.STOP, "stop", limit_ms=limit_ms)
        except (Fault, Finished, StoppedError) as error:
            log.info("wasmbed_stop failed instance=%s error=%s", self.request.instance, error)

    def _worked(self) -> None:
        if self._course.worked(time.monotonic()):
            self._report()

    def _shown_message(self) -> str:
        return self._course.message or self.previous_message or ("finished" if self._finished else "")

    def _report(self, rolled_back: str = "") -> None:
        if not self._quiet:
            course = self._course
            message = self._shown_message()
            self._shared.events.put(
                StateEvent(self.request.instance, course.state, course.reason, message, course.restarts, rolled_back)
            )

    def _log(self, level: int, text: str, dropped: int) -> None:
        request = self.request
        self._shared.events.put(LogEvent(request.instance, request.application, request.device, level, text, dropped))
