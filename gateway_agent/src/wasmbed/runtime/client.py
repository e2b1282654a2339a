"""The agent's side of the runtime protocol."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from wasmbed.runtime import abi, protocol, wire
from wasmbed.runtime.reports import Event, Hello, HostRequest, InstanceStatus, LogEvent, event_from_wire
from wasmbed.runtime.wire import ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from wasmbed.runtime.protocol import Delivery, Provision, Secret, StartRequest

CALL_TIMEOUT_S: Final = 15.0
# Two are asked for at once, and a module waits for the other one's compilation (120 s at most) before its own begins.
LOAD_TIMEOUT_S: Final = 300.0
# What `deliver` may have on its way; a quarter of it for what may be lost.
MAX_UNSENT_BYTES: Final = 32 * 1024 * 1024
MAX_DELIVERED_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING_LOGS: Final = 4096
MAX_WAITING_REQUESTS: Final = 2 * MAX_WAITING_LOGS
MAX_WAITING_EVENTS: Final = 3 * MAX_WAITING_LOGS


class RuntimeGone(Exception):  # noqa: N818 - a state of the other side, named in the design
    """The runtime cannot be reached, closed the connection, or does not answer; connect again."""


class RequestRefused(Exception):  # noqa: N818 - the runtime's answer, named in the design
    """The runtime's answer to a request it does not carry out.

    reason is InvalidModule, DeviceError, BadRequest or NotFound; findings are all faults of a module, one a text.
    """

    def __init__(self, reason: str, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.findings = findings


class _Link(asyncio.Protocol):
    """Matches answers to requests and queues events; never blocks the runtime because nobody reads the events."""

    def __init__(self) -> None:
        self._reader = wire.FrameReader()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._gone: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's transport; uvloop's is not a subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except ProtocolError as error:
            self.end(f"the runtime sent what the protocol does not allow: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(f"the runtime closed the connection{f': {exc}' if exc else ''}")

    def end(self, why: str) -> None:
        """Fail everything that waits, once."""
        if self._gone is None:
            self._gone = why
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(RuntimeGone(why))
            self._waiting.clear()
            self._wake.set()
        if self._transport is not None:
            self._transport.abort()

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            future = self._waiting.pop(wire.number(message, "id", 0, 1 << 62), None)
            if future is not None and not future.done():
                future.set_result(message)
            return
        event = event_from_wire(message)
        if isinstance(event, LogEvent):
            if len(self._events) >= MAX_WAITING_LOGS:
                self._dropped += 1 + event.dropped
                return
            if self._dropped:
                event = LogEvent(**{**event.__dict__, "dropped": event.dropped + self._dropped})
                self._dropped = 0
        elif isinstance(event, HostRequest) and len(self._events) >= MAX_WAITING_REQUESTS:
            self._refuse(event)
            return
        elif len(self._events) >= MAX_WAITING_EVENTS:
            self.end("events were not read; connect again and list the instances")
            return
        self._events.append(event)
        self._wake.set()

    def _refuse(self, request: HostRequest) -> None:
        """Answer for a reader that is too slow."""
        if request.token:
            status = int(abi.Code.UNAVAILABLE).to_bytes(4, "little", signed=True)
            row = [request.instance, int(abi.EventType.RESULT), request.token, [status]]
            self.tell({"deliver": [row]}, needed=True)

    async def call(self, op: str, fields: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if self._gone is not None or self._transport is None:
            raise RuntimeGone(self._gone or "not connected")
        self._next_id += 1
        number = self._next_id
        frame = wire.encode({"id": number, "op": op, **fields})
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._transport.write(frame)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            why = f"the runtime did not answer {op} within {timeout_s:.0f} s"
            self.end(why)
            raise RuntimeGone(why) from None
        finally:
            self._waiting.pop(number, None)
        if answer.get("ok") is True:
            return answer
        findings = answer.get("findings")
        raise RequestRefused(
            str(answer.get("reason")),
            str(answer.get("message")),
            tuple(str(finding) for finding in findings) if isinstance(findings, list) else (),
        )

    @property
    def backlog_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def tell(self, message: dict[str, Any], *, needed: bool) -> bool:
        if self._gone is not None or self._transport is None:
            raise RuntimeGone(self._gone or "not connected")
        waiting = self._transport.get_write_buffer_size()
        if waiting > MAX_UNSENT_BYTES:
            why = f"the runtime does not read; {waiting} bytes are unsent"
            self.end(why)
            raise RuntimeGone(why)
        if not needed and waiting > MAX_UNSENT_BYTES // 4:
            return False
        self._transport.write(wire.encode(message))
        return True

    async def next_event(self) -> Event:
        while not self._events:
            if self._gone is not None:
                raise RuntimeGone(self._gone)
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()


class RuntimeClient:
    """A connection to the runtime. Every method raises RuntimeGone when the runtime is lost or does not answer.

    Calls may overlap. Cancelling one leaves the connection usable; its answer is ignored.
    """

    def __init__(self, link: _Link) -> None:
        self._link = link

    @classmethod
    async def connect(cls, path: Path, *, timeout_s: float = 5.0) -> RuntimeClient:
        """Connect to the socket and exchange versions; raises RuntimeGone when that fails."""
        try:
            async with asyncio.timeout(timeout_s):
                _, link = await asyncio.get_running_loop().create_unix_connection(_Link, str(path))
        except (OSError, TimeoutError) as error:
            raise RuntimeGone(f"cannot connect to the runtime at {path}: {error or 'no answer'}") from error
        client = cls(link)
        try:
            await client.hello()
        except RequestRefused as error:
            client.close()
            raise RuntimeGone(f"the runtime at {path} speaks another version: {error.message}") from error
        except BaseException:
            client.close()
            raise
        return client

    async def __aenter__(self) -> RuntimeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; whatever waits gets RuntimeGone. Instances run on."""
        self._link.end("the connection was closed")

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent to the runtime."""
        return self._link.backlog_bytes

    async def hello(self) -> Hello:
        """Return the runtime's versions."""
        answer = await self._link.call("hello", {"version": protocol.VERSION}, CALL_TIMEOUT_S)
        try:
            return Hello(
                wire.number(answer, "version", 1, 1 << 31),
                wire.text(answer, "wasmbed"),
                wire.text(answer, "wasmtime"),
            )
        except ProtocolError as error:
            raise RuntimeGone(f"the runtime's hello is not readable: {error}") from error

    async def has(self, digest: str) -> bool:
        """Tell whether the runtime holds the compiled module of a digest."""
        return (await self._link.call("has", {"digest": digest}, CALL_TIMEOUT_S)).get("present") is True

    async def load(self, digest: str, wasm: bytes, *, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Have a module checked and compiled; nothing happens when the runtime has the digest already.

        Raises RequestRefused with reason InvalidModule and its findings.
        """
        if len(wasm) > protocol.MAX_MODULE_BYTES:
            message = f"the module has {len(wasm)} bytes; the limit is {protocol.MAX_MODULE_BYTES}"
            raise RequestRefused("InvalidModule", message, (message,))
        await self._link.call("load", {"digest": digest, "wasm": wasm}, timeout_s)

    async def start(self, request: StartRequest) -> None:
        """Start an instance; its states follow as events. Other content under a known id is a hot update.

        The new one is started with the old one's state before the old one ends. When it fails within its first minute
        the old one is back, which its state tells with `rolled_back`. Raises RequestRefused: NotFound (digest not
        loaded), InvalidModule (with findings: imports that are not granted, features, limits), BadRequest (what runs
        there is being stopped, or isolation or class are others: stop it first), DeviceError (no more room).
        """
        await self._link.call("start", request.to_wire(), CALL_TIMEOUT_S)

    async def check(self, request: StartRequest) -> None:
        """Ask whether a start would be refused for its class, grants or limits, whatever runs under its id now.

        Raises RequestRefused as `start` does, but for the other content and the room.
        """
        await self._link.call("check", request.to_wire(), CALL_TIMEOUT_S)

    async def stop(self, instance: str) -> None:
        """Stop an instance and wait until it is gone; nothing happens when there is none."""
        await self._link.call("stop", {"instance": instance}, CALL_TIMEOUT_S)

    async def provide(self, provision: Provision) -> None:
        """Tell what a device's host modules have behind them from now on; a change of link makes LINK events."""
        await self._link.call("provide", provision.to_wire(), CALL_TIMEOUT_S)

    async def secret(self, secret: Secret) -> None:
        """Hand over an application's sealing key and a block of sequence numbers; the runtime never shows it."""
        await self._link.call("secret", secret.to_wire(), CALL_TIMEOUT_S)

    def deliver(self, batch: Iterable[Delivery]) -> int:
        """Send events to instances, in order and without an answer; return how many were not sent.

        When the runtime reads too slowly, telemetry, samples and messages are left out. What is no longer running, and
        tokens that nobody waits for, are ignored over there. Raises ProtocolError for one that is too large.
        """
        lost = size = 0
        rows: list[Delivery] = []

        def send() -> int:
            message = {"deliver": protocol.in_groups(rows)}
            return 0 if self._link.tell(message, needed=False) else self._needed(rows)

        for row in batch:
            if rows and (size + len(row.data) > MAX_DELIVERED_BYTES or len(rows) >= protocol.MAX_DELIVERIES):
                lost += send()
                rows, size = [], 0
            rows.append(row)
            size += len(row.data)
        return lost + (send() if rows else 0)

    def _needed(self, rows: list[Delivery]) -> int:
        needed = [row for row in rows if not abi.may_be_lost(row.type, row.data)]
        if needed:
            self._link.tell({"deliver": protocol.in_groups(needed)}, needed=True)
        return len(rows) - len(needed)

    async def metrics(self) -> dict[str, float]:
        """Return the runtime's counters: `calls NAME` and `refused NAME` by host function, `dropped TYPE` by event."""
        counters = (await self._link.call("metrics", {}, CALL_TIMEOUT_S)).get("counters")
        if not isinstance(counters, dict):
            raise RuntimeGone("the runtime's metrics are not readable")
        return {str(name): float(value) for name, value in counters.items() if isinstance(value, (int, float))}

    async def list(self) -> list[InstanceStatus]:
        """Return every instance with its state and the key of its start request."""
        answer = await self._link.call("list", {}, CALL_TIMEOUT_S)
        rows = answer.get("instances")
        try:
            if not isinstance(rows, list):
                raise ProtocolError("no list of instances")
            return [InstanceStatus.from_wire(row) for row in rows]
        except ProtocolError as error:
            raise RuntimeGone(f"the runtime's list is not readable: {error}") from error

    async def events(self) -> AsyncIterator[Event]:
        """Yield logs, states and applications' requests to one reader; raises RuntimeGone at the connection's end.

        Logs that nobody reads are dropped and counted in the next one's `dropped`; requests are then answered
        UNAVAILABLE.
        """
        while True:
            yield await self._link.next_event()
