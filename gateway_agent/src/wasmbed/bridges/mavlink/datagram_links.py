"""UDP links: listening, to one peer, and broadcast."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable

from wasmbed.bridges.mavlink.endpoints import Address, Endpoint
from wasmbed.bridges.mavlink.frames import FrameParser
from wasmbed.bridges.mavlink.switch import Port, PortOptions, Switch

_log = logging.getLogger(__name__)

_READS_PER_WAKE = 64
# The kernel counts nearly 1 KiB for a frame: a second of what a hundred vehicles send. net.core.rmem_max bounds it.
_BUFFER_BYTES = 4 * 1024 * 1024


class UdpLink:
    """One UDP socket. A peer becomes a port with its first valid frame and leaves after `peer_timeout_s` of silence.

    `udpout` has one fixed peer, which always is a port; `udpbcast` sends to the broadcast address as long as it has
    no peer, so that ground stations find it, and to its peers from then on.
    """

    def __init__(self, switch: Switch, endpoint: Endpoint, options: PortOptions, address: Address) -> None:
        self.bound: tuple[str, int] | None = None
        self._switch = switch
        self._endpoint = endpoint
        self._options = options
        self._address = address
        self._peers: dict[tuple[str, int], Port] = {}
        self._fixed: Port | None = None
        self._socket: socket.socket | None = None

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until cancelled; OSError when the socket cannot be had."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_DGRAM)
        family, _, _, _, target = found[0]
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                channel.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            self._socket = channel
            self._start(channel, (str(target[0]), int(target[1])))
            loop.add_reader(channel, self._readable)
            try:
                on_ready()
                while True:
                    await asyncio.sleep(min(1.0, self._endpoint.peer_timeout_s / 2))
                    self._expire(loop.time())
            finally:
                loop.remove_reader(channel)
                self._socket = None
                for port in [*self._peers.values(), *([self._fixed] if self._fixed else [])]:
                    self._switch.close(port)
                self._peers.clear()
                self._fixed = None

    def _start(self, channel: socket.socket, target: tuple[str, int]) -> None:
        if self._address.kind == "udpin":
            channel.bind(target)
        elif self._address.kind == "udpout":
            # Connected: the kernel lets nothing in that is not from the peer.
            channel.connect(target)
            self._fixed = self._switch.open(
                self._options, f"{target[0]}:{target[1]}", lambda raw: self._send(raw, None)
            )
        else:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            channel.bind(("", 0))
            name = f"{target[0]}:{target[1]}"
            self._fixed = self._switch.open(self._options, name, lambda raw: self._broadcast(raw, target))
        bound = channel.getsockname()
        self.bound = (str(bound[0]), int(bound[1]))

    def _readable(self) -> None:
        channel = self._socket
        for _ in range(_READS_PER_WAKE):
            if channel is None:
                return
            try:
                data, address = channel.recvfrom(65536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # What the network says of an earlier datagram, such as that nobody listens there.
                continue
            if self._address.kind == "udpout" and self._fixed is not None:
                self._switch.receive(self._fixed, data)
            else:
                self._from_peer(data, (address[0], address[1]))

    def _from_peer(self, data: bytes, address: tuple[str, int]) -> None:
        port = self._peers.get(address)
        if port is None:
            if not FrameParser(datagrams=True, dialect=self._switch.dialect).feed(data):
                return
            if len(self._peers) >= self._endpoint.max_peers:
                _log.warning("mavlink peer refused endpoint=%s peer=%s reason=max_peers", self._endpoint.name, address)
                return
            port = self._peers[address] = self._switch.open(
                self._options, f"{address[0]}:{address[1]}", functools.partial(self._send, address=address)
            )
        self._switch.receive(port, data)

    def _broadcast(self, raw: bytes, target: tuple[str, int]) -> bool:
        # With peers the frames go to them; the broadcast port is silent then.
        return bool(self._peers) or self._send(raw, target)

    def _send(self, raw: bytes, address: tuple[str, int] | None) -> bool:
        if self._socket is None:
            return False
        with contextlib.suppress(OSError):
            if address is None:
                self._socket.send(raw)
            else:
                self._socket.sendto(raw, address)
            return True
        return False

    def _expire(self, now: float) -> None:
        for address, port in list(self._peers.items()):
            last = port.statistics.last_received_s
            if last is not None and now - last > self._endpoint.peer_timeout_s:
                del self._peers[address]
                self._switch.close(port)
