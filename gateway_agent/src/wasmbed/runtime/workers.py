"""The processes that run instances, as the main process sees them: one shared, one for each dedicated application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from wasmbed.runtime import wire
from wasmbed.runtime.instances import Refusal
from wasmbed.runtime.reports import event_from_wire
from wasmbed.runtime.wire import FrameReader, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wasmbed.runtime.reports import Event

log = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 12.0
PING_S: Final = 5.0
# A worker that does not answer for this long hangs; it is killed and started again.
HUNG_S: Final = 30.0
END_TIMEOUT_S: Final = 12.0
# What may be lost is not sent to a worker that reads too slowly, and one that does not read at all is killed.
_SLOW_BYTES: Final = 16 * 1024 * 1024
_DEAF_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024


class WorkerGoneError(Exception):
    """The worker ended; the message says how."""


class WorkerProcess:
    """One worker; `start` makes it, `run` reads until it ends."""

    def __init__(self, process: asyncio.subprocess.Process, transport: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = transport
        self._reader: asyncio.StreamReader | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 0
        self._ending = False
        self.gone: str | None = None

    @classmethod
    async def start(cls, owners: Path) -> WorkerProcess:
        """Start a process; raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            environment = {
                name: value
                for name, value in os.environ.items()
                if name in ("WASMBED_LOG_LEVEL", "COVERAGE_PROCESS_START")
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", "wasmbed.runtime.worker"),
                *("--socket", str(theirs.fileno()), "--owners", str(owners)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"RUST_BACKTRACE": "0", "LC_ALL": "C.UTF-8", **environment},
            )
            ours.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2 * wire.MAX_FRAME_BYTES)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = cls(process, writer)
        worker._reader = reader
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, on_event: Callable[[Event], None]) -> str:
        """Read until the process ended; return how it did."""
        frames = FrameReader()
        pinging = asyncio.get_running_loop().create_task(self._ping())
        try:
            while self._reader is not None and (data := await self._reader.read(_READ_BYTES)):
                for message in frames.feed(data):
                    self._take(message, on_event)
        except (ConnectionError, ProtocolError) as error:
            log.warning("worker read failed pid=%d error=%s", self.pid, error)
        finally:
            pinging.cancel()
            with contextlib.suppress(ProcessLookupError):
                if not self._ending:
                    self._process.kill()
            self._writer.close()
            status = await self._process.wait()
            self.gone = _death(status)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(WorkerGoneError(self.gone))
            self._waiting.clear()
        return self.gone

    def _take(self, message: Mapping[str, Any], on_event: Callable[[Event], None]) -> None:
        if "id" in message:
            future = self._waiting.pop(wire.number(message, "id", 0, 1 << 62), None)
            if future is not None and not future.done():
                future.set_result(dict(message))
        else:
            on_event(event_from_wire(message))

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            try:
                await self.call("ping", {}, HUNG_S)
            except WorkerGoneError:
                return
            except Refusal:
                log.error("worker hangs and is killed pid=%d", self.pid)
                self.kill()
                return

    def tell(self, message: Mapping[str, Any], *, may_be_lost: bool = False) -> None:
        """Send without an answer."""
        if self.gone is not None:
            return
        waiting = self._writer.transport.get_write_buffer_size()
        if may_be_lost and waiting > _SLOW_BYTES:
            return
        if waiting > _DEAF_BYTES:
            log.error("worker does not read and is killed pid=%d", self.pid)
            self.kill()
            return
        self._writer.write(wire.encode(message))

    async def call(self, op: str, fields: Mapping[str, Any], timeout_s: float = CALL_TIMEOUT_S) -> dict[str, Any]:
        """Ask and return the answer; raises Refusal and WorkerGoneError."""
        if self.gone is not None:
            raise WorkerGoneError(self.gone)
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(wire.encode({**fields, "id": number, "op": op}))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise Refusal("DeviceError", f"the worker did not answer {op} in {timeout_s:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
        if answer.get("ok") is not True:
            raise Refusal(answer["reason"], answer["message"], list(answer["findings"]))
        return answer

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Have the process end its instances and itself; `run` returns then."""
        self._ending = True
        with contextlib.suppress(WorkerGoneError, Refusal):
            await self.call("end", {}, END_TIMEOUT_S)
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            self.kill()


def _death(status: int) -> str:
    if status < 0:
        name = signal.strsignal(-status) or "unknown"
        return f"the process that ran it was ended by signal {-status} ({name})"
    return f"the process that ran it ended with status {status}"
