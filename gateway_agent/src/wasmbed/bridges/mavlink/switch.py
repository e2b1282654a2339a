"""The switch: ports with their parsers, signing and statistics around the router; still without sockets.

Remote ports take bytes and give bytes to a `write` function. Local ports belong to parts of the gateway that speak
MAVLink themselves: they take and give messages, and their frames are made for each port they leave by, because
sequence numbers and signatures belong to a link.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wasmbed.bridges.mavlink.codec import Message
from wasmbed.bridges.mavlink.definitions import Dialect, default_dialect
from wasmbed.bridges.mavlink.frames import Frame, FrameParser, decode_frame, make_frame
from wasmbed.bridges.mavlink.routing import PortPolicy, Router
from wasmbed.bridges.mavlink.signing import Signer, Verdict
from wasmbed.bridges.mavlink.statistics import LinkStatistics

if TYPE_CHECKING:
    from wasmbed.bridges.mavlink.tlog import TelemetryLog

_log = logging.getLogger(__name__)

SETUP_SIGNING = 256
_ACCEPTED = (Verdict.ACCEPTED, Verdict.UNSIGNED_ACCEPTED)

Write = Callable[[bytes], bool]
"""Takes a frame; False when the link could not take it."""


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a remote port is spoken with. `version` is for the gateway's own frames; forwarded ones keep theirs."""

    policy: PortPolicy
    datagrams: bool = False
    version: int = 2
    signer: Signer | None = None
    link_id: int = 0
    accept_unsigned: bool = False


@dataclass(slots=True, eq=False)
class Port:
    """One remote peer."""

    number: int
    options: PortOptions
    peer: str
    write: Write
    parser: FrameParser
    statistics: LinkStatistics = field(default_factory=LinkStatistics)
    sequences: dict[int, int] = field(default_factory=dict)

    def next_sequence(self, source: int) -> int:
        """The sequence number of the next frame of a local sender on this link."""
        value = self.sequences.get(source, 0)
        self.sequences[source] = (value + 1) & 0xFF
        return value


class LocalPort:
    """A component of the gateway: its ids and what it does with a frame for it."""

    def __init__(self, switch: "Switch", number: int, system: int, component: int, on_frame: Callable[[Frame], None]):
        self.number = number
        self.system = system
        self.component = component
        self.on_frame = on_frame
        self._switch = switch
        self._sequence = 0

    def send(self, item: Message, now: float | None = None) -> int:
        """Send a message from this component; the number of ports it went to.

        A message that names a target goes where that target was heard, and nowhere (0) when it never was.
        """
        self._sequence = (self._sequence + 1) & 0xFF
        return self._switch.send_from(self, item, self._sequence, now)

    def close(self) -> None:
        """Leave the switch."""
        self._switch.close_local(self)


class Switch:
    """All ports of a gateway. Everything runs on one thread, that of the event loop."""

    def __init__(
        self,
        *,
        dialect: Dialect | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.router = Router()
        self.dialect = dialect or default_dialect()
        self.log: TelemetryLog | None = None
        self._clock = clock
        self._wall_clock = wall_clock
        self._remote: dict[int, Port] = {}
        self._local: dict[int, LocalPort] = {}

    @property
    def ports(self) -> tuple[Port, ...]:
        """The remote ports of now."""
        return tuple(self._remote.values())

    def open(self, options: PortOptions, peer: str, write: Write) -> Port:
        """A new remote port."""
        number = self.router.add(options.policy)
        parser = FrameParser(datagrams=options.datagrams, dialect=self.dialect)
        port = self._remote[number] = Port(number, options, peer, write, parser)
        _log.info("mavlink port open endpoint=%s peer=%s", options.policy.name, peer)
        return port

    def close(self, port: Port) -> None:
        """Remove a remote port and the routes over it."""
        if self._remote.pop(port.number, None) is port:
            self.router.remove(port.number)
            _log.info("mavlink port closed endpoint=%s peer=%s", port.options.policy.name, port.peer)

    def open_local(
        self,
        system: int,
        component: int,
        on_message: Callable[[Message], None] | None = None,
        *,
        on_frame: Callable[[Frame], None] | None = None,
        policy: PortPolicy | None = None,
    ) -> LocalPort:
        """A component of the gateway that gets messages (or, cheaper, frames) that are for it or for everybody."""

        def decoded(frame: Frame) -> None:
            item = decode_frame(frame)
            if item is not None and on_message is not None:
                on_message(item)

        number = self.router.add(policy or PortPolicy(f"local-{system}-{component}"))
        port = self._local[number] = LocalPort(self, number, system, component, on_frame or decoded)
        self.router.learn(number, system, component)
        return port

    def close_local(self, port: LocalPort) -> None:
        """Remove a local port."""
        if self._local.pop(port.number, None) is port:
            self.router.remove(port.number)

    def receive(self, port: Port, data: bytes) -> int:
        """Bytes from a remote port: parse, check, log and forward them. The number of frames that were in them."""
        now = self._clock()
        statistics, signer = port.statistics, port.options.signer
        frames = port.parser.feed(data)
        for frame in frames:
            statistics.received(frame, now)
            if signer is not None and not self._admit(port, signer, frame):
                statistics.signature_rejected += 1
                continue
            if frame.id == SETUP_SIGNING:
                # It carries a key: never forwarded or logged, and nobody sets ours this way.
                continue
            if self.log is not None:
                self.log.write(frame, self._wall_clock())
            for number in self.router.route(port.number, frame, now):
                self._deliver(number, frame)
        return len(frames)

    def send_from(self, source: LocalPort, item: Message, sequence: int, now: float | None) -> int:
        """Send a message of a local component; see `LocalPort.send`."""
        now = self._clock() if now is None else now
        definition = self.dialect[item.name]
        raw = make_frame(
            definition, item.values, system=source.system, component=source.component, sequence=sequence, version=2
        )
        frame = FrameParser(datagrams=True, dialect=self.dialect).feed(raw)[0]
        # The key of SETUP_SIGNING must not reach the log.
        if self.log is not None and frame.id != SETUP_SIGNING:
            self.log.write(frame, self._wall_clock())
        numbers = self.router.route(source.number, frame, now)
        for number in numbers:
            port = self._remote.get(number)
            if port is None:
                self._deliver(number, frame)
                continue
            options = port.options
            signed = options.signer is not None and options.version == 2
            try:
                made = make_frame(
                    definition,
                    item.values,
                    system=source.system,
                    component=source.component,
                    sequence=port.next_sequence(source.system << 8 | source.component),
                    version=options.version,
                    signed=signed,
                )
            except ValueError:
                # A message above 255 has no form on a MAVLink 1 link.
                port.statistics.send_dropped += 1
                continue
            if signed and options.signer is not None:
                made = options.signer.sign(made, options.link_id)
            self.router.remember(made, source.number, now)
            self._write(port, made)
        return len(numbers)

    def _deliver(self, number: int, frame: Frame) -> None:
        port = self._remote.get(number)
        if port is not None:
            self._write(port, frame.raw)
            return
        local = self._local.get(number)
        if local is not None:
            try:
                local.on_frame(frame)
            except Exception:
                # One component's mistake must not stop the others' frames.
                _log.exception("a local component failed on a frame component=%s message=%s", local.component, frame.id)

    def _write(self, port: Port, raw: bytes) -> None:
        if port.write(raw):
            port.statistics.sent(raw)
        else:
            port.statistics.send_dropped += 1

    def _admit(self, port: Port, signer: Signer, frame: Frame) -> bool:
        verdict = signer.check(frame, accept_unsigned=port.options.accept_unsigned)
        if verdict in _ACCEPTED:
            return True
        if port.statistics.signature_rejected % 1000 == 0:
            _log.warning(
                "mavlink frame refused endpoint=%s peer=%s system=%s reason=%r",
                port.options.policy.name,
                port.peer,
                frame.system,
                str(verdict),
            )
        return False
