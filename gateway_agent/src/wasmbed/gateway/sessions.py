"""The port where Linux devices connect: who may open a session, and the one session each device has.

Everything but a certificate of the device authority, whose name is in a DeviceSlice of this gateway with this very key
and not revoked, is refused; the device is told why, the reason is counted, and logged at a bounded rate.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wasmbed.api import DeviceClass
from wasmbed.gateway.session import Session
from wasmbed.link import messages, tls
from wasmbed.link.channel import MAX_HELLO_BYTES, Channel, ChannelClosed
from wasmbed.link.messages import Hello, MessageError, Refused
from wasmbed.link.stream import TlsStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wasmbed.gateway.config import LinkConfig
    from wasmbed.gateway.session import Services
    from wasmbed.link.tls import Identity

_log = logging.getLogger(__name__)

# Connections whose device is not known yet, in all and of one address.
MAX_STRANGERS: Final = 256
MAX_STRANGERS_PER_ADDRESS: Final = 64
BACKLOG: Final = 512
# Refusals logged per second; the rest is counted only.
LOGGED_PER_S: Final = 5.0
# For the session before to end.
REPLACE_S: Final = 10.0
Key = tuple[str, str]


class Sessions:
    """The listener and the sessions of all devices."""

    def __init__(self, config: LinkConfig, services: Services) -> None:
        self._config = config
        self._services = services
        self._sessions: dict[Key, Session] = {}
        self._locks: dict[Key, asyncio.Lock] = {}
        self._newest: dict[Key, Session] = {}
        self._strangers: dict[str, int] = {}
        self._log_tokens = LOGGED_PER_S
        self._log_at = 0.0
        self._unlogged = 0

    @property
    def live(self) -> Iterable[Session]:
        """The sessions that are open."""
        return tuple(self._sessions.values())

    async def run(self, on_port: Callable[[int], None] = lambda _: None) -> None:
        """Serve until cancelled; raises TlsFilesError and OSError when that cannot begin."""
        files = tls.TlsFiles(self._config.certificate, self._config.key, self._config.client_ca)
        role = tls.server_role(files)
        async with asyncio.TaskGroup() as tasks:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(self._connection(TlsStream(reader, writer, role), writer))

            server = await asyncio.start_server(accept, self._config.address, self._config.port, backlog=BACKLOG)
            port = server.sockets[0].getsockname()[1]
            _log.info("serving devices address=%s port=%d", self._config.address, port)
            on_port(port)
            async with server:
                await asyncio.Event().wait()

    def check_devices(self) -> None:
        """The devices of the slices changed: end sessions that would not be opened now."""
        for session in self.live:
            try:
                self._authorize(session.identity)
            except Refused as refused:
                self._count(refused, str(session.identity))
                session.end(refused.reason, refused.message)

    async def _connection(self, stream: TlsStream, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("unknown",))[0])
        self._strangers[peer] = self._strangers.get(peer, 0) + 1
        counted = True

        def known() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._strangers[peer] -= 1
                if not self._strangers[peer]:
                    del self._strangers[peer]

        try:
            await self._serve(stream, peer, known)
        except Refused as refused:
            self._count(refused, peer)
        except ChannelClosed as error:
            self._count(Refused("Lost", str(error)), peer)
        except Exception:  # one connection's trouble must not end the others
            _log.exception("session failed peer=%s", peer)
        finally:
            known()
            stream.abort()

    async def _serve(self, stream: TlsStream, peer: str, known: Callable[[], None]) -> None:
        if self._strangers[peer] > MAX_STRANGERS_PER_ADDRESS or sum(self._strangers.values()) > MAX_STRANGERS:
            raise Refused("TooMany", "too many connections that have not said who they are")
        certificate = await _handshake(stream)
        channel = Channel(stream)
        try:
            try:
                identity = tls.identity_of(certificate)
            except tls.IdentityError as error:
                raise Refused("BadName", f"{error}; have the certificate made anew") from error
            self._authorize(identity)
            try:
                hello = Hello.from_wire(await channel.receive(messages.HELLO_S, limit_bytes=MAX_HELLO_BYTES))
            except MessageError as error:
                raise Refused("BadMessage", str(error)) from error
            if hello.version != messages.VERSION:
                raise Refused(
                    "Version", f"version {hello.version} of the session's protocol is not spoken, {messages.VERSION} is"
                )
        except Refused as refused:
            await channel.finish(refused.to_wire())
            raise
        known()
        session = Session(self._services, channel, identity, hello)
        if hello.check:
            await channel.finish(session.welcome(dict.fromkeys(messages.SPOOLS, 0)).to_wire())
            return
        await self._replace(session)

    async def _replace(self, session: Session) -> None:
        """Serve a session in place of the one the device may have had."""
        key = session.key
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._newest[key] = session
        before = self._sessions.get(key)
        if before is not None:
            self._services.metrics.link_replaced.inc()
            _log.info("session replaced device=%s", session.identity)
            before.end("Replaced", "the device opened another session")
        try:
            async with asyncio.timeout(REPLACE_S):
                await lock.acquire()
        except TimeoutError:
            refused = Refused("Busy", "the session before has not ended yet")
            await session.channel.finish(refused.to_wire())
            raise refused from None
        try:
            await self._serve_one(session)
        finally:
            lock.release()
            # Whoever waits for the lock is newer.
            if self._newest.get(key) is session:
                del self._newest[key], self._locks[key]

    async def _serve_one(self, session: Session) -> None:
        try:
            self._admit(session)
        except Refused as refused:
            await session.channel.finish(refused.to_wire())
            raise
        self._sessions[session.key] = session
        try:
            self._services.metrics.link_sessions.inc()
            _log.info("session opened device=%s version=%s", session.identity, session.hello.wasmbed)
            await session.serve()
        finally:
            del self._sessions[session.key]

    def _admit(self, session: Session) -> None:
        """Raise Refused for a session that is not to be opened after all."""
        # It may have been revoked while it waited.
        self._authorize(session.identity)
        if self._newest.get(session.key) is not session:
            raise Refused("Replaced", "the device opened another session")
        if len(self._sessions) >= self._config.max_sessions:
            raise Refused("TooMany", f"the gateway has {self._config.max_sessions} sessions already")

    def _authorize(self, identity: Identity) -> None:
        """Raise Refused unless the slices have this device with this key."""
        device = self._services.fleet.known((identity.namespace, identity.name))
        if device is None:
            raise Refused(
                "Unknown",
                f"no EdgeDevice {identity} belongs to this gateway; create it with spec.gatewayRef or "
                "spec.network.gatewayEndpoint of this one",
            )
        if device.revoked:
            raise Refused("Revoked", f"EdgeDevice {identity} is revoked")
        if device.device_class != DeviceClass.MPU:
            raise Refused(
                "WrongClass", f"EdgeDevice {identity} is of class {device.device_class}; set spec.deviceClass to mpu"
            )
        if not device.public_key:
            raise Refused(
                "NoKey", f"EdgeDevice {identity} has no key; set spec.publicKey to {identity.public_key} if it is yours"
            )
        if device.public_key != identity.public_key:
            raise Refused(
                "WrongKey", f"EdgeDevice {identity} has another key than this device; enrol it anew if it was replaced"
            )

    def _count(self, refused: Refused, who: str) -> None:
        self._services.metrics.link_refusals.labels(refused.reason).inc()
        now = asyncio.get_running_loop().time()
        self._log_tokens = min(LOGGED_PER_S, self._log_tokens + (now - self._log_at) * LOGGED_PER_S)
        self._log_at = now
        if self._log_tokens < 1.0:
            self._unlogged += 1
            return
        self._log_tokens -= 1.0
        more = f" unlogged={self._unlogged}" if self._unlogged else ""
        self._unlogged = 0
        _log.warning("session refused from=%s reason=%s error=%s%s", who, refused.reason, refused.message, more)


async def _handshake(stream: TlsStream) -> bytes:
    """Do the handshake; returns the device's certificate. Raises Refused."""
    try:
        return await stream.handshake(tls.HANDSHAKE_S)
    except ssl.SSLCertVerificationError as error:
        raise Refused("BadCertificate", tls.explain(error)) from error
    except (OSError, EOFError) as error:
        raise Refused("Handshake", tls.explain(error)) from error


class SessionMetrics(Collector):
    """Figures of the sessions that are open, by device."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first session."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One figure a device and kind."""
        figures = {
            "received_bytes": ("Bytes of messages from the device", lambda item: item.channel.received_bytes),
            "sent_bytes": ("Bytes of messages to the device", lambda item: item.channel.sent_bytes),
            "backlog_bytes": ("Bytes that wait to be sent", lambda item: item.channel.backlog_bytes),
            "uptime_seconds": ("Since the device's service began", lambda item: item.vitals.uptime_s),
            "memory_bytes": ("Memory of the device's service", lambda item: item.vitals.memory_bytes),
            "spooled_bytes": ("Bytes the device keeps for the gateway", lambda item: item.vitals.spooled_bytes),
            "dropped_logs": ("Log lines the device had no room for", lambda item: item.vitals.dropped_logs),
        }
        for name, (text, value) in figures.items():
            metric = GaugeMetricFamily(f"wasmbed_agent_session_{name}", text, labels=["device"])
            for session in self._sessions.live:
                metric.add_metric([str(session.identity)], float(value(session)))  # type: ignore[no-untyped-call]
            yield metric
