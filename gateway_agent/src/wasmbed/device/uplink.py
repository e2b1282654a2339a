"""The device's end of the session with its gateway: made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import cbor2

from wasmbed import __version__
from wasmbed.link import messages, tls
from wasmbed.link.channel import MAX_HELLO_BYTES, Channel, ChannelClosed
from wasmbed.link.messages import Hello, MessageError, Refused, Welcome
from wasmbed.link.stream import TlsStream
from wasmbed.runtime import (
    Delivery,
    HostRequest,
    LogEvent,
    ProtocolError,
    Provision,
    RequestRefused,
    Secret,
    StartRequest,
)
from wasmbed.runtime.protocol import deliveries
from wasmbed.runtime.reports import event_from_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wasmbed.device.config import DeviceConfig
    from wasmbed.device.keeper import Keeper
    from wasmbed.device.metrics import Metrics
    from wasmbed.device.spool import Spool
    from wasmbed.runtime import StateEvent

_log = logging.getLogger(__name__)

CONNECT_S: Final = 10.0
# A session that held for so long was a good one: the back-off begins anew.
GOOD_S: Final = 20.0
MAX_OPERATIONS: Final = 64
# A gateway that reads so slowly gets no more requests, and in the end no more of anything.
MAX_REQUESTS_BACKLOG: Final = 1 << 20
MAX_BACKLOG: Final = 8 << 20
# Well below what a frame may hold.
MAX_REQUEST_BYTES: Final = 2 << 20
MAX_OUTSTANDING: Final = 4096
_RESULT: Final = 6
_UNAVAILABLE: Final = (-19).to_bytes(4, "little", signed=True)
_TOO_BIG: Final = (-90).to_bytes(4, "little", signed=True)


async def connect(config: DeviceConfig) -> Channel:
    """Connect and do the handshake; raises OSError, EOFError, tls.TlsFilesError."""
    files = tls.TlsFiles(config.certificate, config.key, config.gateway_ca)
    role = tls.client_role(files, config.server_name)
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(*config.address)
    stream = TlsStream(reader, writer, role)
    try:
        await stream.handshake(tls.HANDSHAKE_S)
    except BaseException:
        stream.abort()
        raise
    return Channel(stream)


async def greet(channel: Channel, stream: str, *, check: bool = False) -> Welcome:
    """Say hello; raises Refused, MessageError and ChannelClosed."""
    await channel.send(Hello(messages.VERSION, __version__, stream, check).to_wire())
    welcome = Welcome.from_wire(await channel.receive(messages.HELLO_S, limit_bytes=MAX_HELLO_BYTES))
    if welcome.version != messages.VERSION:
        raise MessageError(f"the gateway speaks version {welcome.version} of the session, not {messages.VERSION}")
    return welcome


class Uplink:
    """Connects, answers the gateway's requests, and sends what waits for it. `problem` says why there is no session."""

    def __init__(
        self, config: DeviceConfig, stream: str, keeper: Keeper, spools: Mapping[str, Spool], metrics: Metrics
    ) -> None:
        self._config = config
        self._stream = stream
        self._keeper = keeper
        self._spools = spools
        self._metrics = metrics
        self._channel: Channel | None = None
        self._outstanding: dict[tuple[str, int], None] = {}
        self.problem = "not connected yet"

    async def run(self) -> None:
        """Stay connected until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            had_session = False
            try:
                channel = await connect(self._config)
                try:
                    welcome = await greet(channel, self._stream)
                    had_session, began = True, loop.time()
                    await self._session(channel, welcome)
                finally:
                    channel.close("ended")
            except (OSError, EOFError, tls.TlsFilesError, ChannelClosed, Refused, MessageError) as error:
                why = tls.explain(error)
                self._metrics.failures.labels(type(error).__name__).inc()
            else:
                why = self.problem
            if had_session or why != self.problem:
                _log.warning("no session gateway=%s error=%s", self._config.gateway, why)
            self.problem = why
            if had_session and loop.time() - began > GOOD_S:
                failures = 0
            retry = self._config.retry
            delay_s = min(retry.last_s, retry.first_s * 2.0 ** min(failures, 20))
            failures += 1
            # Spread, so that a whole fleet does not come back at once.
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret

    # What the keeper tells

    @property
    def up(self) -> bool:
        """Whether there is a session."""
        return self._channel is not None

    def on_instances(self) -> None:
        """Tell all instances."""
        rows = [row.to_wire() for row in self._keeper.instances()]
        self._post({"event": "instances", "instances": rows, "problem": self._keeper.problem[:1024]})

    def on_state(self, event: StateEvent) -> None:
        """Tell one state."""
        self._post(event.to_wire())

    def on_request(self, request: HostRequest) -> None:
        """Hand a request of an application to the gateway, or answer it at once when that cannot be."""
        channel = self._channel
        if len(request.data or b"") > MAX_REQUEST_BYTES:
            self._answer([(request.instance, request.token)], _TOO_BIG)
            return
        if channel is None or channel.backlog_bytes > MAX_REQUESTS_BACKLOG or len(self._outstanding) >= MAX_OUTSTANDING:
            self._metrics.requests.labels("unavailable").inc()
            self._answer([(request.instance, request.token)])
            return
        if request.token:
            self._outstanding[request.instance, request.token] = None
        self._metrics.requests.labels("sent").inc()
        self._post(request.to_wire())

    def _answer(self, requests: list[tuple[str, int]], status: bytes = _UNAVAILABLE) -> None:
        self._keeper.deliver([Delivery(instance, _RESULT, token, status) for instance, token in requests if token])

    def _post(self, message: Mapping[str, Any]) -> None:
        channel = self._channel
        if channel is None:
            return
        if channel.backlog_bytes > MAX_BACKLOG:
            # After the next connection everything is told anew.
            channel.close("the gateway does not read")
            return
        channel.post(message)

    # One session

    async def _session(self, channel: Channel, welcome: Welcome) -> None:
        for name, spool in self._spools.items():
            spool.rewind(welcome.taken[name])
        self._channel = channel
        self.problem = ""
        self._metrics.sessions.inc()
        _log.info("session opened gateway=%s version=%s", welcome.gateway, welcome.wasmbed)
        try:
            self.on_instances()
            await self._keeper.set_link(True)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._heartbeat(channel, welcome.heartbeat_s))
                for spool in self._spools.values():
                    tasks.create_task(self._send_entries(channel, spool))
                await self._receive(channel, welcome.heartbeat_s * messages.MISSED_HEARTBEATS, tasks)
        except* (ChannelClosed, Refused, MessageError, ProtocolError) as group:
            # The first one is the cause; the others found the channel closed by then.
            self._metrics.failures.labels(type(group.exceptions[0]).__name__).inc()
            self.problem = tls.explain(_first(group))
        finally:
            self._channel = None
            lost, self._outstanding = list(self._outstanding), {}
            self._answer(lost)
            await self._keeper.set_link(False)

    async def _receive(self, channel: Channel, idle_s: float, tasks: asyncio.TaskGroup) -> None:
        running = 0

        def ended(_: asyncio.Task[None]) -> None:
            nonlocal running
            running -= 1

        while True:
            message = await channel.receive(idle_s)
            if message.get("event") == "refused":
                raise Refused.from_wire(message)
            if "id" not in message:
                self._on_event(message)
            elif message.get("op") == "part":
                # In their order, which is that of the bytes.
                await self._operation(channel, message)
            elif running >= MAX_OPERATIONS:
                raise MessageError(f"more than {MAX_OPERATIONS} operations at once")
            else:
                running += 1
                tasks.create_task(self._operation(channel, message)).add_done_callback(ended)

    def _on_event(self, message: Mapping[str, Any]) -> None:
        match message.get("event"):
            case "heartbeat":
                pass
            case "taken":
                name = messages.text(message, "spool", 16)
                if name not in self._spools:
                    raise MessageError(f"unknown spool {name!r}")
                self._spools[name].taken(messages.number(message, "number", 0, 1 << 62))
            case "deliver":
                batch = deliveries(message)
                for row in batch:
                    if row.type == _RESULT:
                        self._outstanding.pop((row.instance, row.source), None)
                self._keeper.deliver(batch)
            case other:
                raise MessageError(f"unknown event {str(other)[:32]!r}")

    async def _heartbeat(self, channel: Channel, interval_s: float) -> None:
        began = time.monotonic()
        while True:
            hello = self._keeper.hello
            await channel.send(
                {
                    "event": "heartbeat",
                    "uptime_s": int(time.monotonic() - began),
                    "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "spooled_bytes": sum(spool.bytes for spool in self._spools.values()),
                    "dropped_logs": self._spools["logs"].dropped,
                    "wasmbed": __version__,
                    "wasmtime": hello.wasmtime if hello is not None else "",
                }
            )
            await asyncio.sleep(interval_s)

    async def _send_entries(self, channel: Channel, spool: Spool) -> None:
        while True:
            rows = [[number, _with_dropped(data, dropped)] for number, data, dropped in await spool.next()]
            await channel.send({"event": "entries", "spool": spool.name, "entries": rows})
            # One message under way: its answer says what need not be sent again.
            await spool.all_taken()

    async def _operation(self, channel: Channel, message: Mapping[str, Any]) -> None:
        number = messages.number(message, "id", 0, 1 << 62)
        try:
            answer: dict[str, Any] = {"ok": True, **await self._do(message)}
        except RequestRefused as error:
            findings = [str(finding) for finding in error.findings]
            answer = {"ok": False, "reason": error.reason, "message": error.message, "findings": findings}
        except (ProtocolError, MessageError) as error:
            answer = {"ok": False, "reason": "BadRequest", "message": str(error), "findings": []}
        except OSError as error:
            answer = {"ok": False, "reason": "DeviceError", "message": f"the device's disk: {error}", "findings": []}
        except Exception as error:  # a fault of ours must not end the session, on which all applications depend
            _log.exception("operation failed op=%s", message.get("op"))
            answer = {"ok": False, "reason": "DeviceError", "message": f"the device failed: {error!r}", "findings": []}
        await channel.send({"id": number, **answer})

    async def _do(self, message: Mapping[str, Any]) -> dict[str, Any]:
        keeper = self._keeper
        match message.get("op"):
            case "has":
                return {"present": await keeper.has(messages.text(message, "digest", 128))}
            case "offer":
                size = messages.number(message, "bytes", 1, 1 << 40)
                digest, sha256 = messages.text(message, "digest", 128), messages.text(message, "sha256", 64)
                return {"have": await keeper.offer(digest, size, sha256)}
            case "part":
                data = message.get("data")
                if not isinstance(data, bytes):
                    raise MessageError("field 'data' is not bytes")
                offset = messages.number(message, "offset", 0, 1 << 40)
                await keeper.part(messages.text(message, "digest", 128), offset, data)
            case "load":
                await keeper.load(messages.text(message, "digest", 128))
            case "check":
                await keeper.check(StartRequest.from_wire(message))
            case "start":
                await keeper.start(StartRequest.from_wire(message), messages.text(message, "key", 128))
            case "stop":
                await keeper.stop(messages.text(message, "instance", 512))
            case "provide":
                await keeper.provide(Provision.from_wire(message))
            case "secret":
                await keeper.secret(Secret.from_wire(message))
            case other:
                raise MessageError(f"unknown op {str(other)[:32]!r}")
        return {}


def _with_dropped(data: bytes, dropped: int) -> bytes:
    if not dropped:
        return data
    event = event_from_wire(cbor2.loads(data))
    if isinstance(event, LogEvent):
        data = cbor2.dumps(replace(event, dropped=event.dropped + dropped).to_wire())
    return data


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
