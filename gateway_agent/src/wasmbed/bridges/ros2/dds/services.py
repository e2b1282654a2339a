"""Services as rmw_cyclonedds has them: request and reply carry {guid, seq}, which the server echoes.

A Fast DDS peer relates reply and request by inline QoS instead, which cannot be read or written here; such a peer is
recognized by what it leaves out of its endpoints' user data, and refused.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.backend import each
from wasmbed.bridges.ros2.dds import binding
from wasmbed.bridges.ros2.dds.endpoints import DdsPublisher, DdsSubscription
from wasmbed.bridges.ros2.errors import CallError, CdrError, IncompatiblePeerError, NoReplyError, Ros2Error
from wasmbed.bridges.ros2.names import dds_reply, dds_request, dds_type
from wasmbed.bridges.ros2.types.cdr import HEADER, HEADER_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wasmbed.bridges.ros2.backend import Received, ServiceHandler
    from wasmbed.bridges.ros2.dds.backend import DdsBackend
    from wasmbed.bridges.ros2.dds.graph import Seen
    from wasmbed.bridges.ros2.qos import QosProfile

log = logging.getLogger(__name__)

IDENTITY_SIZE: Final = 16
MAX_PENDING: Final = 1000
_IDENTITY: Final = {b"\0\1": struct.Struct("<Qq"), b"\0\0": struct.Struct(">Qq")}
_POLL_S: Final = 0.02
# rmw_cyclonedds waits as long for a client's reader before it answers.
_READER_WAIT_S: Final = 0.1
_CLIENT_ID: Final = re.compile(rb"(?:clientid|serviceid)=([ 0-9a-f.]+);")


def identity_text(kind: str) -> bytes:
    """Sixteen random bytes as rmw_cyclonedds writes them into user data; the first has two digits."""
    data = bytes([secrets.randbelow(240) + 16]) + secrets.token_bytes(15)
    return f"{kind}={'.'.join(f'{byte:x}' for byte in data)};".encode()


def split(data: bytes) -> tuple[int, int, bytes]:
    """guid, seq and the message itself of a request or reply; raises CdrError."""
    if len(data) < HEADER_SIZE + IDENTITY_SIZE:
        raise CdrError("a request or reply without the identity that rmw_cyclonedds puts before it")
    guid, seq = _IDENTITY[data[:2]].unpack_from(data, HEADER_SIZE)
    return guid, seq, data[:HEADER_SIZE] + data[HEADER_SIZE + IDENTITY_SIZE :]


def join(guid: int, seq: int, message: bytes) -> bytes:
    """A request or reply of an identity and a little-endian message; raises CdrError."""
    if message[:2] != HEADER[:2]:
        raise CdrError("a request or reply must be little-endian CDR")
    return HEADER + _IDENTITY[b"\0\1"].pack(guid, seq) + message[HEADER_SIZE:]


def lossless(qos: QosProfile) -> QosProfile:
    """A burst of requests must not overwrite itself in a queue of ten; history is not matched with a peer's."""
    return replace(qos, keep_all=True)


class _Endpoints:
    """The two endpoints of a client or a server, and what is wrong with them or their peers."""

    _backend: DdsBackend
    service: str
    _type: str
    endpoints: tuple[DdsSubscription, DdsPublisher]

    def look(self) -> None:
        """Look for peers of another type, of which DDS says nothing."""
        graph = self._backend.graph
        names = {dds_request(self.service): f"{self._type}_Request", dds_reply(self.service): f"{self._type}_Response"}
        for endpoint in self.endpoints:
            expected = dds_type(names[endpoint.topic])
            for seen in (*graph.writers_of(endpoint.topic), *graph.readers_of(endpoint.topic)):
                if seen.type != expected:
                    endpoint.statistics.problem(f"a peer has {self.service} with {seen.type}, not {expected}")

    def problems(self) -> list[str]:
        """What is wrong, in words."""
        requests = dds_request(self.service)
        return [
            f"{'requests' if endpoint.topic == requests else 'replies'}: {text}"
            for endpoint in self.endpoints
            for text in endpoint.statistics.problems
        ]


class CycloneClient(_Endpoints):
    """Calls a service of an rmw_cyclonedds peer; up to MAX_PENDING calls at a time."""

    def __init__(self, backend: DdsBackend, service: str, type_name: str, qos: QosProfile) -> None:
        self._loop = asyncio.get_running_loop()
        qos = lossless(qos)
        self._backend = backend
        self.service, self._type = service, type_name
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._sequence = 0
        context, types = backend.context, backend.types
        client_id = identity_text("clientid")
        self.statistics_unmatched = 0
        self._reply_topic, self._request_topic = dds_reply(service), dds_request(service)
        self._reader = DdsSubscription(
            context,
            self._reply_topic,
            types.get(f"{type_name}_Response", header=True),
            qos,
            each(self._on_reply),
            client_id + backend.hash_data(f"{type_name}_Response"),
        )
        self._writer = DdsPublisher(
            context,
            self._request_topic,
            types.get(f"{type_name}_Request", header=True),
            qos,
            client_id + backend.hash_data(f"{type_name}_Request"),
        )
        self._guid = int(self._writer.entity.get_instance_handle()) & 0xFFFF_FFFF_FFFF_FFFF
        self.endpoints = (self._reader, self._writer)

    async def ready(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                # The graph has no event for "both endpoints are matched".
                while True:
                    if self._matched():
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise CallError(f"{self.service}: no server within {timeout_s:g} s") from None

    def _matched(self) -> bool:
        servers = self._backend.graph.readers_of(self._request_topic)
        foreign = [seen for seen in servers if b"serviceid=" not in seen.user_data]
        if foreign and len(foreign) == len(servers):
            raise IncompatiblePeerError(
                f"{self.service}: its server is not of rmw_cyclonedds (no serviceid in its user data), so it relates "
                "replies by RTPS inline QoS as rmw_fastrtps does; use the backend rclpy"
            )
        return bool(servers) and self._writer.statistics.matched > 0 and self._reader.statistics.matched > 0

    async def call(self, request: bytes, timeout_s: float) -> bytes:
        loop = self._loop
        deadline = loop.time() + timeout_s
        await self.ready(timeout_s)
        if len(self._pending) >= MAX_PENDING:
            raise CallError(f"{self.service}: {MAX_PENDING} calls wait for their answers already")
        self._sequence += 1
        sequence, future = self._sequence, loop.create_future()
        self._pending[sequence] = future
        try:
            if not self._writer.publish(join(self._guid, sequence, request)):
                raise CallError(f"{self.service}: the request could not be written, the server does not keep up")
            async with asyncio.timeout_at(deadline):
                return await future  # type: ignore[no-any-return]
        except TimeoutError:
            raise CallError(f"{self.service}: no answer within {timeout_s:g} s") from None
        finally:
            del self._pending[sequence]

    def _on_reply(self, data: bytes, _: Received) -> None:
        try:
            guid, sequence, message = split(data)
        except CdrError:
            self._reader.statistics.malformed += 1
            return
        if guid == self._guid:
            self._loop.call_soon_threadsafe(self._answer, sequence, message)

    def _answer(self, sequence: int, message: bytes) -> None:
        future = self._pending.get(sequence)
        if future is not None and not future.done():
            future.set_result(message)
        else:
            self.statistics_unmatched += 1

    def close(self) -> None:
        self._backend.forget(*self.endpoints)
        self._reader.close()
        self._writer.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(CallError(f"{self.service}: the client was closed"))


class CycloneServer(_Endpoints):
    """Serves rmw_cyclonedds peers; a handler's failure leaves its request unanswered, as ROS has no error reply."""

    def __init__(
        self, backend: DdsBackend, service: str, type_name: str, qos: QosProfile, handler: ServiceHandler
    ) -> None:
        self._loop = asyncio.get_running_loop()
        qos = lossless(qos)
        self._backend = backend
        self.service, self._type = service, type_name
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        context, types = backend.context, backend.types
        service_id = identity_text("serviceid")
        self._writer = DdsPublisher(
            context,
            dds_reply(service),
            types.get(f"{type_name}_Response", header=True),
            qos,
            service_id + backend.hash_data(f"{type_name}_Response"),
        )
        self._reader = _Requests(
            context,
            dds_request(service),
            types.get(f"{type_name}_Request", header=True),
            qos,
            self._ignore,
            service_id + backend.hash_data(f"{type_name}_Request"),
        )
        self._reader.on_request = self._on_request
        backend.graph.on_writer.append(self._on_writer)
        for seen in backend.graph.writers_of(dds_request(service)):
            self._on_writer(seen)
        self.endpoints = (self._reader, self._writer)

    def _ignore(self, _: Sequence[tuple[bytes, int]]) -> None:
        """Never called: requests come with their writer by `_on_request`."""

    def _on_writer(self, seen: Seen) -> None:
        """Tell of clients that cannot be served: Cyclone drops most of their requests before anybody sees them."""
        if seen.topic == dds_request(self.service) and not _CLIENT_ID.search(seen.user_data):
            self._reader.statistics.problem(
                "a client is not of rmw_cyclonedds (no clientid in its user data): it expects replies related by RTPS "
                "inline QoS as rmw_fastrtps does; use the backend rclpy"
            )

    def _on_request(self, data: bytes, publication: int) -> None:
        client_id = self._client_id(publication)
        if client_id is None:
            return
        try:
            guid, sequence, message = split(data)
        except CdrError:
            self._reader.statistics.malformed += 1
            return
        self._loop.call_soon_threadsafe(self._start, guid, sequence, message, client_id)

    def _client_id(self, publication: int) -> bytes | None:
        """The id of the client that wrote a request, None when it is of another implementation or gone."""
        data = binding.writer_data(self._reader.entity, publication)
        found = _CLIENT_ID.search(binding.user_data_of(data.qos)) if data is not None else None
        return found.group(1) if found else None

    def _start(self, guid: int, sequence: int, message: bytes, client_id: bytes) -> None:
        if len(self._tasks) >= MAX_PENDING:
            self.dropped += 1
            return
        task = self._loop.create_task(self._serve(guid, sequence, message, client_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, guid: int, sequence: int, message: bytes, client_id: bytes) -> None:
        try:
            reply = await self._handler(message)
            await self._reader_of(client_id)
            self._writer.publish(join(guid, sequence, reply))
        except NoReplyError as error:
            log.debug("request not answered service=%s error=%s", self.service, error)
        except Ros2Error as error:
            log.warning("request not answered service=%s error=%s", self.service, error)
        except Exception:  # a handler is somebody else's code
            log.exception("request not answered service=%s", self.service)

    async def _reader_of(self, client_id: bytes) -> None:
        """Wait up to 100 ms until the client's reader of replies is matched."""
        deadline = self._loop.time() + _READER_WAIT_S
        while self._loop.time() < deadline:
            for data in binding.matched_readers(self._writer.entity):
                found = _CLIENT_ID.search(binding.user_data_of(data.qos))
                if found and found.group(1) == client_id:
                    return
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self._backend.graph.on_writer.remove(self._on_writer)
        self._backend.forget(*self.endpoints)
        self._reader.close()
        self._writer.close()
        for task in self._tasks:
            task.cancel()


class _Requests(DdsSubscription):
    """A subscription that hands on which writer a request is of."""

    on_request: Any

    def _deliver(self, samples: Sequence[tuple[bytes, Any]]) -> None:
        for data, info in samples:
            self.on_request(data, info.publication_handle)
