"""The runtime of a Linux device, reached over its session: the same operations as those of the gateway's own."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from wasmbed.link.channel import ChannelClosed
from wasmbed.link.messages import PART_BYTES
from wasmbed.runtime import RequestRefused, RuntimeGone
from wasmbed.runtime.abi import may_be_lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wasmbed.link.channel import Channel
    from wasmbed.runtime import Delivery, Provision, Secret, StartRequest

_log = logging.getLogger(__name__)

CALL_S: Final = 40.0
# A device compiles more slowly than a gateway, and one module after the other.
LOAD_S: Final = 600.0
# Parts of a module under way at once: enough for a link with a long round trip, little for one that is slow.
WINDOW: Final = 8
# Answers that are still to come when this many calls wait mean that the device has stopped working.
MAX_WAITING: Final = 512
# Above the first, events that may be lost are; above the second the session ends.
MAX_BACKLOG_BYTES: Final = 1 << 20
MAX_UNSENT_BYTES: Final = 16 << 20
DELIVER_BYTES: Final = 1 << 20
DELIVER_ROWS: Final = 1024


class RemoteRuntime:
    """Operations on one session. All raise RuntimeGone when it ends, RequestRefused when the device refuses."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._next_id = 0
        self._gone = ""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait to be sent to the device."""
        return self._channel.backlog_bytes

    def take_answer(self, message: Mapping[str, Any]) -> None:
        """Give an answer to whoever asked; one that nobody waits for is forgotten."""
        number = message.get("id")
        future = self._waiting.pop(number, None) if type(number) is int else None
        if future is not None and not future.done():
            future.set_result(message)

    def end(self, why: str) -> None:
        """Fail everything that waits."""
        self._gone = self._gone or why
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RuntimeGone(why))
        self._waiting.clear()

    async def has(self, digest: str) -> bool:
        """Tell whether the device holds a module and its runtime can start it."""
        return (await self._call("has", {"digest": digest}, LOAD_S)).get("present") is True

    async def load(self, digest: str, wasm: bytes) -> None:
        """Bring a module to the device, from where an earlier try was cut off, and have it checked and compiled."""
        fields = {"digest": digest, "bytes": len(wasm), "sha256": hashlib.sha256(wasm).hexdigest()}
        have = (await self._call("offer", fields, CALL_S)).get("have")
        if type(have) is not int or not 0 <= have <= len(wasm):
            raise RequestRefused("DeviceError", "the device does not say how much of the module it has")
        under_way: deque[asyncio.Future[Mapping[str, Any]]] = deque()
        try:
            for offset in range(have, len(wasm), PART_BYTES):
                part = {"digest": digest, "offset": offset, "data": wasm[offset : offset + PART_BYTES]}
                under_way.append(self._begin("part", part))
                await self._drain()
                if len(under_way) >= WINDOW:
                    await self._finish("part", under_way.popleft(), CALL_S)
            while under_way:
                await self._finish("part", under_way.popleft(), CALL_S)
        finally:
            for future in under_way:
                future.cancel()
        await self._call("load", {"digest": digest}, LOAD_S)

    async def check(self, request: StartRequest) -> None:
        """Ask whether a start would be refused."""
        await self._call("check", _wire(request), CALL_S)

    async def start(self, request: StartRequest) -> None:
        """Have the device run an instance from now on, across its reboots."""
        await self._call("start", _wire(request), CALL_S)

    async def stop(self, instance: str) -> None:
        """Have the device stop an instance for good."""
        await self._call("stop", {"instance": instance}, CALL_S)

    async def provide(self, provision: Provision) -> None:
        """Tell the device what the gateway's bridges have for it."""
        await self._call("provide", provision.to_wire(), CALL_S)

    async def secret(self, secret: Secret) -> None:
        """Give the device an application's sealing key, which it keeps."""
        await self._call("secret", secret.to_wire(), CALL_S)

    def deliver(self, batch: Iterable[Delivery]) -> int:
        """Send events to instances; return how many were left out because the device does not keep up."""
        lost = size = 0
        rows: list[list[Any]] = []
        for item in batch:
            if may_be_lost(item.type, item.data) and self.backlog_bytes > MAX_BACKLOG_BYTES:
                lost += 1
                continue
            if rows and (size + len(item.data) > DELIVER_BYTES or len(rows) >= DELIVER_ROWS):
                self._channel.post({"deliver": rows, "event": "deliver"})
                rows, size = [], 0
            rows.append(item.to_wire())
            size += len(item.data)
        if rows:
            self._channel.post({"deliver": rows, "event": "deliver"})
        if self.backlog_bytes > MAX_UNSENT_BYTES:
            why = "the device does not read"
            self._channel.close(why)
            self.end(why)
        return lost

    async def _call(self, op: str, fields: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        future = self._begin(op, fields)
        await self._drain()
        return await self._finish(op, future, timeout_s)

    def _begin(self, op: str, fields: Mapping[str, Any]) -> asyncio.Future[Mapping[str, Any]]:
        if self._gone:
            raise RuntimeGone(self._gone)
        if len(self._waiting) >= MAX_WAITING:
            raise RequestRefused("DeviceError", f"the device owes {MAX_WAITING} answers")
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        future.add_done_callback(lambda _: self._waiting.pop(number, None))
        self._channel.post({"id": number, "op": op, **fields})
        return future

    async def _drain(self) -> None:
        try:
            await self._channel.drain()
        except ChannelClosed as error:
            raise RuntimeGone(str(error)) from error

    async def _finish(self, op: str, future: asyncio.Future[Mapping[str, Any]], timeout_s: float) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            why = f"the device did not answer {op} within {timeout_s:.0f} s"
            self._channel.close(why)
            self.end(why)
            raise RuntimeGone(why) from None
        if answer.get("ok") is True:
            return answer
        findings = answer.get("findings")
        raise RequestRefused(
            str(answer.get("reason"))[:64],
            str(answer.get("message"))[:1024],
            tuple(str(finding)[:1024] for finding in findings[:256]) if isinstance(findings, list) else (),
        )


def _wire(request: StartRequest) -> dict[str, Any]:
    # The device tells our key when it lists the instance, also if its version makes another of the same content.
    return {**request.to_wire(), "key": request.key()}
