"""The backend on rclpy: starts the worker and speaks frames with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import struct
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wasmbed.bridges.ros2.backend import EndpointStatistics, GraphEndpoint, Received
from wasmbed.bridges.ros2.errors import CallError, ConfigurationError, NoReplyError, Ros2Error
from wasmbed.bridges.ros2.names import check_namespace, check_node
from wasmbed.bridges.ros2.types.cdr import check_header

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from wasmbed.bridges.ros2.backend import BatchCallback, MessageCallback, ServiceHandler
    from wasmbed.bridges.ros2.qos import QosProfile
    from wasmbed.bridges.ros2.types import Codec, CodecFactory

log = logging.getLogger(__name__)

WORKER: Final = Path(__file__).with_name("worker.py")
MAX_FRAME: Final = 80 << 20
# What may wait for the worker's stdin before messages are dropped.
MAX_BUFFERED: Final = 8 << 20
# Requests of one service that wait for their replies; further ones get none.
MAX_REQUESTS: Final = 256
START_S: Final = 30.0
ANSWER_S: Final = 30.0
_HEAD: Final = struct.Struct("<IH")
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class RclpyInstallation:
    """An interpreter that has rclpy, a script to source before it where it needs one, and variables such as the RMW."""

    python: Path
    setup: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        if self.setup is None:
            return [str(self.python), *arguments]
        return ["bash", "-c", '. "$0" && exec "$@"', str(self.setup), str(self.python), *arguments]


class RclpyBackend:
    """One node, in the worker; made by `start`."""

    name = "rclpy"

    def __init__(self, process: asyncio.subprocess.Process, codecs: CodecFactory) -> None:
        self._process = process
        self._codecs = codecs
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._number = 0
        self._subscriptions: dict[int, MessageCallback] = {}
        self._statistics: dict[int, EndpointStatistics] = {}
        self._servers: dict[int, RclpyServer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.rmw = ""
        self.on_end: Callable[[], None] = lambda: None
        """Called on the loop when the worker ends by itself."""
        self._gone = False

    @classmethod
    async def start(
        cls,
        installation: RclpyInstallation,
        codecs: CodecFactory,
        *,
        domain_id: int,
        node: str,
        namespace: str = "/",
    ) -> RclpyBackend:
        """Start the worker; raises ConfigurationError when rclpy does not come up."""
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain_id)} | dict(installation.environment)
        try:
            process = await asyncio.create_subprocess_exec(
                *installation.command(str(WORKER), check_node(node), check_namespace(namespace), str(MAX_REQUESTS)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise ConfigurationError(f"rclpy: {installation.python} cannot be run: {error}") from None
        backend = cls(process, codecs)
        try:
            async with asyncio.timeout(START_S):
                header, _ = await backend._read()
        except (TimeoutError, asyncio.IncompleteReadError, Ros2Error):
            await backend.aclose()
            raise ConfigurationError(
                f"rclpy: {installation.python} did not start a node; it must be able to import rclpy"
            ) from None
        backend.rmw = str(header.get("rmw", ""))
        backend.spawn(backend._receive())
        return backend

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile) -> RclpyPublisher:
        publisher = RclpyPublisher(self)
        self._create(publisher, "publisher", topic=topic, type_name=type_name, qos=asdict(qos))
        return publisher

    def create_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: MessageCallback
    ) -> RclpyEntity:
        subscription = RclpyEntity(self)
        self._create(subscription, "subscription", topic=topic, type_name=type_name, qos=asdict(qos))
        self._subscriptions[subscription.number] = callback
        return subscription

    def create_batch_subscription(
        self, topic: str, type_name: str, qos: QosProfile, callback: BatchCallback
    ) -> RclpyEntity:
        return self.create_subscription(
            topic, type_name, qos, lambda data, received: callback([(data, received.source_timestamp)])
        )

    def create_client(self, service: str, type_name: str, qos: QosProfile) -> RclpyClient:
        client = RclpyClient(self, service, self._codecs.codec(f"{type_name}_Response"))
        self._create(client, "client", service=service, type_name=type_name, qos=asdict(qos))
        return client

    def create_service(self, service: str, type_name: str, qos: QosProfile, handler: ServiceHandler) -> RclpyServer:
        request = self._codecs.codec(f"{type_name}_Request")
        server = RclpyServer(self, service, lambda data: handler(_exact(request, data)))
        self._create(server, "service", service=service, type_name=type_name, qos=asdict(qos))
        self._servers[server.number] = server
        return server

    async def nodes(self) -> Sequence[str]:
        header, _ = await self.ask("nodes")
        return sorted(header["nodes"])

    async def endpoints(self, topic: str, *, publishers: bool) -> Sequence[GraphEndpoint]:
        header, _ = await self.ask("endpoints", topic=topic, publishers=publishers)
        return [GraphEndpoint(**item) for item in header["endpoints"]]

    def type_problems(self, topic: str, type_name: str) -> Sequence[str]:
        """Nothing: the worker tells of them."""
        return ()

    def number(self) -> int:
        """A number of an entity or a command."""
        self._number += 1
        return self._number

    def _create(self, entity: RclpyEntity, kind: str, **arguments: Any) -> None:
        """Have the worker make an entity, which learns later when that could not be; raises CallError."""
        number = entity.number
        self.send({"op": kind, "entity": number, "number": number, **arguments})
        self._statistics[number] = entity.statistics
        self._answers[number] = made = self._loop.create_future()

        def told(_: object) -> None:
            del self._answers[number]
            if not made.cancelled() and (error := made.exception()) is not None:
                entity.refuse(str(error))

        made.add_done_callback(told)

    async def ask(
        self, operation: str, payload: bytes = b"", timeout_s: float | None = ANSWER_S, **arguments: Any
    ) -> Any:
        """Send a command and wait for its answer, None: as long as the caller does; raises CallError."""
        number = self.number()
        self._answers[number] = future = self._loop.create_future()
        try:
            self.send({"op": operation, "number": number, **arguments}, payload)
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise CallError(f"{operation}: no answer within {timeout_s:g} s") from None
        finally:
            self._answers.pop(number, None)
            if operation == "call" and future.cancelled():
                # Else rclpy would wait for the reply for ever.
                with contextlib.suppress(CallError):
                    self.send({"op": "abandon", "call": number})

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Write a frame; on the event loop alone. Raises CallError when the worker is gone."""
        stdin = self._process.stdin
        if self._gone or stdin is None or stdin.is_closing():
            raise CallError("rclpy: the worker has ended")
        text = json.dumps(header).encode()
        stdin.write(_HEAD.pack(2 + len(text) + len(payload), len(text)) + text + payload)

    @property
    def buffered(self) -> int:
        """Bytes that wait for the worker."""
        stdin = self._process.stdin
        return 0 if stdin is None else stdin.transport.get_write_buffer_size()

    def on_loop(self, function: Callable[[], None]) -> None:
        """Run on the event loop, now when this is its thread."""
        try:
            running = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            running = False
        if running:
            function()
        else:
            self._loop.call_soon_threadsafe(function)

    def forget(self, number: int) -> None:
        self._subscriptions.pop(number, None)
        self._statistics.pop(number, None)
        self._servers.pop(number, None)
        with contextlib.suppress(CallError):
            self.send({"op": "close", "entity": number})

    async def _read(self) -> tuple[dict[str, Any], bytes]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        size, head = _HEAD.unpack(await stdout.readexactly(_HEAD.size))
        if size > MAX_FRAME or head + 2 > size:
            raise Ros2Error("rclpy: the worker's frame is damaged")
        header = json.loads(await stdout.readexactly(head))
        return header, await stdout.readexactly(size - 2 - head)

    async def _receive(self) -> None:
        try:
            while True:
                header, payload = await self._read()
                self._handle(header, payload)
        except (asyncio.IncompleteReadError, ValueError, Ros2Error) as error:
            if not self._gone:
                log.error("the rclpy worker has ended error=%s", error)
        finally:
            by_itself, self._gone = not self._gone, True
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(CallError("rclpy: the worker has ended"))
            if by_itself:
                self.on_end()

    def _handle(self, header: dict[str, Any], payload: bytes) -> None:
        event = header.get("event")
        statistics = self._statistics.get(header.get("id", 0))
        if event == "message" and (callback := self._subscriptions.get(header["id"])) and statistics:
            statistics.messages += 1
            statistics.payload_bytes += len(payload)
            try:
                callback(payload, Received(header["stamp"] or time.time_ns()))
            except Exception:  # one subscription's failure must not stop the others
                log.exception("callback failed")
        elif event == "problem" and statistics:
            statistics.problem(str(header["text"])[:256])
        elif event == "lost" and statistics:
            statistics.lost = int(header["total"])
        elif event == "answer" and (future := self._answers.get(header["number"])):
            if not future.done() and "error" in header:
                future.set_exception(CallError(f"rclpy: {header['error']}"))
            elif not future.done():
                future.set_result((header, payload))
        elif event == "answer" and "error" in header:
            log.error("rclpy: %s", header["error"])
        elif event == "request" and (server := self._servers.get(header["id"])):
            server.take(header["call"], payload)
        elif event == "refused" and (server := self._servers.get(header["id"])):
            server.refused()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run on the event loop until the backend is closed."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End the worker: by closing its stdin, after two seconds by a signal."""
        self._gone = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _exact(codec: Codec, data: bytes) -> bytes:
    """The message without the bytes that rclpy's serializer leaves behind it; raises CdrError."""
    return codec.dumps(codec.loads(data, slack=True))


class RclpyEntity:
    """Something the worker has made."""

    def __init__(self, backend: RclpyBackend) -> None:
        self._backend = backend
        self.number = backend.number()
        self.statistics = EndpointStatistics()

    def refuse(self, why: str) -> None:
        """Take note that the worker could not make it."""
        log.error("%s", why)
        self.statistics.refused = why
        self.statistics.problem(why)

    def look(self) -> None:
        """Have the worker look for peers of another type or an incompatible QoS, of which rclpy says nothing."""
        with contextlib.suppress(CallError):
            self._backend.send({"op": "look", "entity": self.number})

    def problems(self) -> list[str]:
        """What is wrong with its endpoints or their peers, in words."""
        return self.statistics.problems

    def close(self) -> None:
        self._backend.on_loop(lambda: self._backend.forget(self.number))


class RclpyPublisher(RclpyEntity):
    def refuse(self, why: str) -> None:
        super().refuse(why)
        # What was taken before this was known.
        self.statistics.dropped += self.statistics.messages
        self.statistics.messages = self.statistics.payload_bytes = 0

    def publish(self, data: bytes) -> bool:
        check_header(data)
        statistics = self.statistics
        if statistics.refused or self._backend.buffered + len(data) > MAX_BUFFERED:
            statistics.dropped += 1
            return False
        statistics.messages += 1
        statistics.payload_bytes += len(data)
        self._backend.on_loop(lambda: self._backend.send({"op": "publish", "entity": self.number}, data))
        return True


class RclpyClient(RclpyEntity):
    def __init__(self, backend: RclpyBackend, service: str, response: Codec) -> None:
        super().__init__(backend)
        self.service = service
        self._response = response

    async def ready(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready()
        except TimeoutError:
            raise CallError(f"{self.service}: no server within {timeout_s:g} s") from None

    async def _ready(self) -> None:
        while not await self._there():  # noqa: ASYNC110 - the graph has no event for it
            await asyncio.sleep(_POLL_S)

    async def _there(self) -> bool:
        try:
            return bool((await self._backend.ask("ready", entity=self.number))[0]["ready"])
        except CallError:
            if self.statistics.refused:
                raise CallError(self.statistics.refused) from None
            raise

    async def call(self, request: bytes, timeout_s: float) -> bytes:
        check_header(request)
        missing = "server"
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready()
                missing = "answer"
                _, payload = await self._backend.ask("call", request, None, entity=self.number)
        except TimeoutError:
            raise CallError(f"{self.service}: no {missing} within {timeout_s:g} s") from None
        return _exact(self._response, payload)


class RclpyServer(RclpyEntity):
    """Serves peers; a handler's failure leaves its request unanswered, as ROS has no error reply."""

    def __init__(self, backend: RclpyBackend, service: str, handler: ServiceHandler) -> None:
        super().__init__(backend)
        self.service = service
        self._handler = handler
        self._calls: dict[int, asyncio.Task[None]] = {}

    def take(self, call: int, request: bytes) -> None:
        """Have a request handled."""
        task = self._calls[call] = self._backend.spawn(self._serve(call, request))
        task.add_done_callback(lambda _: self._calls.pop(call, None))

    def refused(self) -> None:
        """Count a request that the worker had no room for."""
        self.statistics.dropped += 1
        self.statistics.problem(f"more than {MAX_REQUESTS} requests waited for replies, the newest get none")

    async def _serve(self, call: int, request: bytes) -> None:
        operation, reply = "forget", b""
        try:
            reply = await self._handler(request)
            operation = "reply"
        except NoReplyError as error:
            log.debug("request not answered service=%s error=%s", self.service, error)
        except Ros2Error as error:
            log.warning("request not answered service=%s error=%s", self.service, error)
        except Exception:  # a handler is somebody else's code
            log.exception("request not answered service=%s", self.service)
        finally:
            with contextlib.suppress(CallError):
                self._backend.send({"op": operation, "entity": self.number, "call": call}, reply)

    def close(self) -> None:
        super().close()
        self._backend.on_loop(self._end)

    def _end(self) -> None:
        for task in self._calls.values():
            task.cancel()
