"""A process that runs instances: the runtime's main process starts it, and it ends with its socket.

It speaks the frames of the runtime's own socket over one that it inherits. A module that brings its process down takes
only the instances of this worker with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wasmbed import service
from wasmbed.runtime import protocol, wire
from wasmbed.runtime.backends import Backends
from wasmbed.runtime.content import Content
from wasmbed.runtime.course import Course
from wasmbed.runtime.events import EventQueue
from wasmbed.runtime.instances import Instances, Refusal
from wasmbed.runtime.profiles import CLASSES
from wasmbed.runtime.protocol import Provision, Secret, StartRequest
from wasmbed.runtime.wire import FrameReader, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

# Threads wait at most this long for the interpreter's lock, so that host-call storms do not add up to late answers.
_SWITCH_INTERVAL_S: Final = 0.0005
_READ_BYTES: Final = 256 * 1024
# Behind the main process, which must answer while every instance computes.
NICE: Final = 5


class Worker:
    """One end of the socket to the main process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owners: Path) -> None:
        self._reader = reader
        self._writer = writer
        self._wake = asyncio.Event()
        self._ended = False
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

        self._events = EventQueue(wake)
        self._instances = Instances(self._events, Backends(owners))

    async def run(self) -> None:
        """Serve until the main process closes its end."""
        frames = FrameReader()
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump())
            try:
                while data := await self._reader.read(_READ_BYTES):
                    for message in frames.feed(data):
                        if "id" in message:
                            group.create_task(self._answer(message))
                        else:
                            self._take(message)
            except ConnectionError:
                pass
            if not self._ended:
                # The main process is gone, and with it everything that an orderly end could be for.
                os._exit(1)
            pump.cancel()

    async def _pump(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                self._wake.clear()
                while events := self._events.take():
                    self._writer.writelines([wire.encode(event.to_wire()) for event in events])
                    await self._writer.drain()
                await self._wake.wait()

    def _take(self, message: Mapping[str, Any]) -> None:
        try:
            if "deliver" in message:
                self._instances.deliver(protocol.delivery_groups(message))
            elif "peer" in message:
                self._instances.set_peer(message["peer"] is True)
            elif "sent" in message:
                self._instances.outbound.sent(message["sent"])
            elif "provide" in message:
                self._instances.provide(Provision.from_wire(message["provide"]))
            elif "secret" in message:
                self._instances.secret(Secret.from_wire(message["secret"]))
        except Exception:  # a fault of ours must not end all instances
            log.exception("message not taken fields=%s", sorted(message))

    async def _answer(self, message: Mapping[str, Any]) -> None:
        try:
            answer = {"ok": True, **await self._do(message)}
        except Refusal as refusal:
            answer = {"ok": False, "reason": refusal.reason, "message": str(refusal), "findings": refusal.findings}
        except Exception as error:  # as above
            log.exception("request failed op=%s", message.get("op"))
            text = f"internal error of the runtime: {error!r}"
            answer = {"ok": False, "reason": "DeviceError", "message": wire.shorten(text), "findings": []}
        with contextlib.suppress(ConnectionError):
            self._writer.write(wire.encode({"id": message["id"], **answer}))
            await self._writer.drain()
            if self._ended:
                self._writer.close()

    async def _do(self, message: Mapping[str, Any]) -> dict[str, Any]:
        match message.get("op"):
            case "start":
                request = StartRequest.from_wire(message)
                profile = CLASSES[request.device_class].lowered(request.limits)
                content = Content(request, profile, Path(wire.text(message, "artifact", limit_bytes=4096)))
                await self._instances.start(content, _course(message))
            case "stop":
                await self._instances.stop(wire.text(message, "instance"))
            case "list":
                return {"instances": self._instances.list()}
            case "metrics":
                return {"counters": self._instances.counters()}
            case "ping":
                return {}
            case "end":
                await self._instances.close()
                self._ended = True
            case op:
                raise ProtocolError(f"unknown op {str(op)[:32]!r}")
        return {}


def _course(message: Mapping[str, Any]) -> Course | None:
    """The course of an instance whose worker died: it failed, and is tried again."""
    failed = message.get("failed")
    if failed is None:
        return None
    course = Course(restarts=wire.number(message, "restarts", 0, 1 << 62))
    course.failed(str(failed))
    return course


async def serve(descriptor: int, owners: Path) -> None:
    """Run on an inherited socket until its other end is closed."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=2 * wire.MAX_FRAME_BYTES)
    await Worker(reader, writer, owners).run()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--owners", type=Path, required=True)
    arguments = parser.parse_args()
    service.setup_logging("wasmbed-runtime")
    # A service manager sends them to all processes; this one ends when the main process says so, or is gone.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # A seccomp filter may forbid it.
    with contextlib.suppress(OSError):
        os.nice(NICE)
    asyncio.run(serve(arguments.socket, arguments.owners))
    # Threads that still compute must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
