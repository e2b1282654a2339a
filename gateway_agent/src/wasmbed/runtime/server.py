"""The runtime's socket: answers the peer's requests and sends it events.

One connection at a time; a new one replaces the old one, whose peer is gone or will find out. No module runs in this
process, so none can bring it down or delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from typing import TYPE_CHECKING, Any, Final

import wasmbed
from wasmbed.runtime import protocol, validate, wire
from wasmbed.runtime.artifacts import Artifacts, NotLoadedError
from wasmbed.runtime.compile import CompileError, CompilerFailedError
from wasmbed.runtime.engine import WASMTIME_VERSION
from wasmbed.runtime.events import EventQueue
from wasmbed.runtime.fleet import Fleet
from wasmbed.runtime.instances import Refusal
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.protocol import Provision, Secret, StartRequest
from wasmbed.runtime.wire import FrameReader, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from wasmbed.runtime.artifacts import Artifact
    from wasmbed.runtime.reports import Reason

log = logging.getLogger(__name__)

MAX_REQUESTS_IN_FLIGHT: Final = 16
_READ_BYTES: Final = 256 * 1024


class Server:
    """The socket and its one connection; use `serving`."""

    def __init__(self, artifacts: Artifacts, owners: Path) -> None:
        """Owners is a private directory for the locks of devices."""
        self._artifacts = artifacts
        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

        self._events = EventQueue(wake)
        self._fleet = Fleet(self._events, owners)
        self._connection: asyncio.Task[None] | None = None
        # Kept here, not with the connection: what an agent that went away was not told, the next one is.
        self._sending = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Listen on a socket of mode 0660; on leaving, stop every instance and remove it."""
        async with self._fleet:
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
            self._fleet.set_peer(False)
        self._fleet.set_peer(True)
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
                self._fleet.set_peer(False)

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
                if "deliver" in message and "id" not in message:
                    self._fleet.deliver(protocol.delivery_groups(message))
                    continue
                number = wire.number(message, "id", 0, 1 << 62)
                await slots.acquire()
                group.create_task(answer(message, number))

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        async with self._sending:
            while True:
                self._wake.clear()
                while events := self._events.take():
                    # At once: the agent is woken for all of them, not for each.
                    writer.writelines([wire.encode(event.to_wire()) for event in events])
                    await writer.drain()
                    self._fleet.sent(events)
                await self._wake.wait()

    async def _admit(self, request: StartRequest) -> Artifact:
        """Return the code of a request; raises Refusal when class, grants or limits do not allow it."""
        profile = CLASSES.get(request.device_class)
        if profile is None:
            known = ", ".join(CLASSES)
            raise Refusal("BadRequest", f"class {request.device_class!r} is unknown; there are {known}")
        try:
            artifact = await self._artifacts.get(request.digest)
        except NotLoadedError:
            raise Refusal("NotFound", f"{request.digest} is not loaded") from None
        profile = profile.lowered(request.limits)
        if findings := validate.start_findings(artifact.facts, profile, request.grants):
            raise Refusal("InvalidModule", _summary(findings), findings)
        return artifact

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
                return _hello(message)
            case "has":
                return {"present": await self._artifacts.has(wire.digest(message))}
            case "load":
                module = message.get("wasm")
                if not isinstance(module, bytes):
                    raise ProtocolError("field 'wasm' is not bytes")
                await self._artifacts.load(wire.digest(message), module)
            case "check":
                await self._admit(StartRequest.from_wire(message))
            case "start":
                request = StartRequest.from_wire(message)
                await self._fleet.start(request, (await self._admit(request)).path)
            case "stop":
                await self._fleet.stop(wire.text(message, "instance"))
            case "list":
                return {"instances": await self._fleet.list()}
            case "provide":
                self._fleet.provide(Provision.from_wire(message))
            case "secret":
                self._fleet.secret(Secret.from_wire(message))
            case "metrics":
                return {"counters": await self._fleet.metrics()}
            case op:
                raise ProtocolError(f"unknown op {str(op)[:32]!r}")
        return {}


def _hello(message: Mapping[str, Any]) -> dict[str, Any]:
    version = wire.number(message, "version", 1, 1 << 31)
    if version != protocol.VERSION:
        raise ProtocolError(f"version {version} is not spoken here, {protocol.VERSION} is")
    return {"version": protocol.VERSION, "wasmbed": wasmbed.__version__, "wasmtime": WASMTIME_VERSION}


def _refused(reason: Reason, message: str, findings: list[str] | None = None) -> dict[str, Any]:
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
