"""The runtime's socket: answers the agent's requests and sends it events.

One connection at a time; a new one replaces the old one, whose agent is gone or will find out. Nothing here waits for
an instance, and an instance never waits for anything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

import wasmbed
from wasmbed.runtime import protocol, reports, validate, wire
from wasmbed.runtime.artifacts import Artifacts, NotLoadedError
from wasmbed.runtime.compile import CompileError, CompilerFailedError
from wasmbed.runtime.engine import WASMTIME_VERSION
from wasmbed.runtime.events import EventQueue
from wasmbed.runtime.messages import Exchange
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.protocol import StartRequest
from wasmbed.runtime.supervisor import Supervisor
from wasmbed.runtime.watchdog import Watchdog
from wasmbed.runtime.wire import FrameReader, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from wasmbed.runtime.artifacts import Artifact
    from wasmbed.runtime.profiles import Profile

log = logging.getLogger(__name__)

MAX_INSTANCES: Final = 1024
MAX_REQUESTS_IN_FLIGHT: Final = 16
STOP_TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 256 * 1024
# Threads wait at most this long for the interpreter's lock, so that host-call storms do not add up to late answers.
_SWITCH_INTERVAL_S: Final = 0.0005


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is not carried out."""

    def __init__(self, reason: reports.Reason, message: str, findings: list[str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.findings = findings or []


class Instances:
    """The instances of a runtime, and the operations on them."""

    def __init__(self, artifacts: Artifacts, events: EventQueue) -> None:
        self._artifacts = artifacts
        self._events = events
        self._exchange = Exchange()
        self._watchdog = Watchdog()
        self._watchdog.start()
        self._running: dict[str, Supervisor] = {}
        self._ended: dict[str, asyncio.Event] = {}

    def list(self) -> list[dict[str, Any]]:
        # One that is to stop is as good as gone: an agent that took it for running would never start it again.
        return [supervisor.status().to_wire() for supervisor in self._running.values() if not supervisor.stopping]

    async def check(self, request: StartRequest) -> None:
        """Tell whether `start` would find fault with a request, by raising the same Refusal; nothing changes."""
        await self._admit(request)

    async def start(self, request: StartRequest) -> None:
        """Start an instance; raises Refusal."""
        before = self._running.get(request.instance)
        if before is not None and before.stopping:
            await self.stop(request.instance)
        if self._is_running(request):
            return
        profile, artifact = await self._admit(request)
        # Again, for the start that was first while this one waited for the disk.
        if self._is_running(request):
            return
        if len(self._running) >= MAX_INSTANCES:
            raise Refusal("DeviceError", f"this runtime already runs {MAX_INSTANCES} instances")
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def has_ended() -> None:
            ended.set()
            # Not only in `stop`, whose caller may have gone away.
            if supervisor.stopping:
                self._forget(supervisor)

        def on_end() -> None:
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(has_ended)

        supervisor = Supervisor(
            request,
            profile,
            artifact.path,
            events=self._events,
            exchange=self._exchange,
            watchdog=self._watchdog,
            on_end=on_end,
        )
        try:
            supervisor.start()
        except (RuntimeError, ValueError) as error:
            raise Refusal("DeviceError", f"no room for one more instance: {error}") from error
        self._running[request.instance] = supervisor
        self._ended[request.instance] = ended

    async def _admit(self, request: StartRequest) -> tuple[Profile, Artifact]:
        """Return the limits and the code of a request; raises Refusal when class, grants or limits do not allow it."""
        profile = CLASSES.get(request.device_class)
        if profile is None:
            known = ", ".join(CLASSES)
            raise Refusal("BadRequest", f"class {request.device_class!r} is unknown; there are {known}")
        profile = profile.lowered(request.limits)
        try:
            artifact = await self._artifacts.get(request.digest)
        except NotLoadedError:
            raise Refusal("NotFound", f"{request.digest} is not loaded") from None
        if findings := validate.start_findings(artifact.facts, profile, request.grants):
            raise Refusal("InvalidModule", _summary(findings), findings)
        return profile, artifact

    def _is_running(self, request: StartRequest) -> bool:
        running = self._running.get(request.instance)
        if running is not None and running.key != request.key():
            raise Refusal("BadRequest", f"instance {request.instance!r} runs with other content; stop it first")
        return running is not None

    async def stop(self, instance: str) -> None:
        """Stop an instance and wait until its thread ended; raises Refusal when it does not."""
        supervisor = self._running.get(instance)
        if supervisor is None:
            return
        supervisor.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._ended[instance].wait()
        except TimeoutError:
            raise Refusal("DeviceError", f"instance {instance!r} did not stop in {STOP_TIMEOUT_S:.0f} s") from None
        self._forget(supervisor)

    def _forget(self, supervisor: Supervisor) -> None:
        instance = supervisor.request.instance
        if self._running.get(instance) is supervisor:
            del self._running[instance], self._ended[instance]
            self._events.forget(instance)

    async def close(self) -> None:
        """Stop everything."""
        for supervisor in self._running.values():
            supervisor.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                for ended in list(self._ended.values()):
                    await ended.wait()
        self._watchdog.close()


class Server:
    """The socket and its one connection; use `serving`."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

        self._events = EventQueue(wake)
        self._instances = Instances(artifacts, self._events)
        self._connection: asyncio.Task[None] | None = None
        # Kept here, not with the connection: what an agent that went away was not told, the next one is.
        self._sending = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Listen on a socket of mode 0660; on leaving, stop every instance and remove it."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        _remove_socket(path)
        before = os.umask(0o117)
        try:
            server = await asyncio.start_unix_server(self._accept, str(path))
        finally:
            os.umask(before)
        try:
            yield
        finally:
            server.close()
            if self._connection is not None:
                self._connection.cancel()
            await self._instances.close()
            _remove_socket(path)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # This is the whole of the task, so a cancellation ends here; the streams' callback would log it as an error.
        with contextlib.suppress(asyncio.CancelledError):
            await self._connected(reader, writer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        old, self._connection = self._connection, asyncio.current_task()
        if old is not None and not old.done():
            log.info("a new agent replaces the old one")
            old.cancel()
        try:
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(self._pump(writer))
                await self._read(reader, writer, group)
                pump.cancel()
        except* ProtocolError as errors:
            log.warning("closing a connection that breaks the protocol: %s", errors.exceptions[0])
        except* (ConnectionError, TimeoutError):
            pass
        finally:
            writer.transport.abort()
            if self._connection is asyncio.current_task():
                self._connection = None

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: asyncio.TaskGroup) -> None:
        frames = FrameReader()
        slots = asyncio.Semaphore(MAX_REQUESTS_IN_FLIGHT)

        async def answer(message: dict[str, Any], number: int) -> None:
            try:
                writer.write(wire.encode({"id": number, **await self._answer(message)}))
                await writer.drain()
            finally:
                slots.release()

        while data := await reader.read(_READ_BYTES):
            for message in frames.feed(data):
                number = wire.number(message, "id", 0, 1 << 62)
                await slots.acquire()
                group.create_task(answer(message, number))

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        async with self._sending:
            while True:
                self._wake.clear()
                while events := self._events.take():
                    for event in events:
                        writer.write(wire.encode(event.to_wire()))
                    await writer.drain()
                await self._wake.wait()

    async def _answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": True, **await self._do(message)}
        except Refusal as refusal:
            _log_findings(message, refusal.findings)
            return _refused(refusal.reason, str(refusal), refusal.findings)
        except ProtocolError as error:
            return _refused("BadRequest", str(error))
        except CompileError as error:
            _log_findings(message, error.findings)
            return _refused("InvalidModule", _summary(error.findings), error.findings)
        except (OSError, CompilerFailedError) as error:
            log.error("request failed op=%s error=%s", message.get("op"), error)
            return _refused("DeviceError", f"the runtime's machine has a problem: {error}")
        except Exception as error:  # a fault of ours must not end the connection, on which all applications depend
            log.exception("request failed op=%s", message.get("op"))
            return _refused("DeviceError", f"internal error of the runtime: {error!r}")

    async def _do(self, message: Mapping[str, Any]) -> dict[str, Any]:
        match message.get("op"):
            case "hello":
                version = wire.number(message, "version", 1, 1 << 31)
                if version != protocol.VERSION:
                    raise ProtocolError(f"version {version} is not spoken here, {protocol.VERSION} is")
                return {"version": protocol.VERSION, "wasmbed": wasmbed.__version__, "wasmtime": WASMTIME_VERSION}
            case "has":
                return {"present": await self._artifacts.has(wire.digest(message))}
            case "load":
                module = message.get("wasm")
                if not isinstance(module, bytes):
                    raise ProtocolError("field 'wasm' is not bytes")
                await self._artifacts.load(wire.digest(message), module)
            case "check":
                await self._instances.check(StartRequest.from_wire(message))
            case "start":
                await self._instances.start(StartRequest.from_wire(message))
            case "stop":
                await self._instances.stop(wire.text(message, "instance"))
            case "list":
                return {"instances": self._instances.list()}
            case op:
                raise ProtocolError(f"unknown op {str(op)[:32]!r}")
        return {}


def _refused(reason: reports.Reason, message: str, findings: list[str] | None = None) -> dict[str, Any]:
    return {"ok": False, "reason": reason, "message": wire.shorten(message), "findings": findings or []}


def _log_findings(message: Mapping[str, Any], findings: list[str]) -> None:
    for finding in findings:
        log.info("module refused op=%s digest=%s finding=%s", message.get("op"), message.get("digest"), finding)


def _summary(findings: list[str]) -> str:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return wire.shorten(findings[0], wire.MAX_MESSAGE_BYTES - len(more)) + more


def _remove_socket(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
